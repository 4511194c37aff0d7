"""A Stripe account through the official SDK: its meters, and meter events by v1, one request, one answer in our words.

The other APIs for meter events (stripe_v2.py, stripe_stream.py) go through the same account. Facts: facts/stripe.md
sections 1, 6 and 9.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from .. import machine
from ..core.clock import SECOND_US, Clock, Pace, wait_seconds
from ..core.secrets import told
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome, payload_of
from ..core.windows import METER_WINDOW_S
from ..errors import KeyRefused, MeterError, NotPermitted, Refused, RemoteError, Unavailable, Unreachable
from ..failpoints import Side, Step, reach

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

# It would write a file into the home folder, for all to read, and send what is in it with every request.
stripe.enable_telemetry = False
STRIPE_URL = "https://api.stripe.com"
# An answer that takes longer is treated as unknown; well below the time a claim is held (ledger CLAIM_SECONDS).
TIMEOUT_SECONDS = 15
# Below Stripe's limits: 25 a second in test mode, 1,000 meter events a second live (facts/stripe.md section 6).
REQUESTS_PER_SECOND_TEST = 20
REQUESTS_PER_SECOND_LIVE = 500
READ_ATTEMPTS_MAX = 4
GRANT_METER_EVENTS = "grant Meter events: write (Stripe: Developers, API keys)"
_GRANT_METERS = "grant Meters: read (Stripe: Developers, API keys)"
_GRANT_CUSTOMERS = "grant Customers: read (Stripe: Developers, API keys), so that doctor can look whether they exist"
# The last three: an answer of another shape lacks what every object of Stripe's has.
SDK_ERRORS = (stripe.StripeError, OSError, ValueError, AttributeError, TypeError, LookupError)
T = TypeVar("T")
ONLY_TOTALS = MeterOutcome(
    Answer.REJECTED,
    "not sent: its meter counts only the last meter event of each window; set BILLING_METER_API=totals, and sync",
)


class FoundMeter(msgspec.Struct):
    """A meter at Stripe: its id, and the window of which it counts the last meter event only: "hour", "day" or ""."""

    meter_id: str
    window: str


@dataclass(slots=True)
class _Pace:
    """Spaces requests of all threads evenly, at most `per_second` of them."""

    per_second: int
    clock: Clock
    next_us: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self.lock:
            turn_us = max(self.next_us, self.clock.now_us())
            self.next_us = turn_us + SECOND_US // self.per_second
        if (ahead_us := turn_us - self.clock.now_us()) > 0:
            self.clock.sleep(ahead_us / SECOND_US)


def _kind_of(secret_key: str) -> str:
    return "live" if "_live_" in secret_key else "test"


def requests_per_second_of(secret_key: str) -> int:
    """How many requests in a second fit a key of its mode, unless set otherwise."""
    return REQUESTS_PER_SECOND_LIVE if _kind_of(secret_key) == "live" else REQUESTS_PER_SECOND_TEST


class StripeMeter:
    """One Stripe account, and meter events sent to it by v1. Safe to use from several threads."""

    def __init__(
        self,
        secret_key: str,
        clock: Clock,
        *,
        api_base: str | None = None,
        requests_per_second: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._key_kind = _kind_of(secret_key)
        self._restricted = secret_key.startswith("rk_")
        self._pace = pace or _Pace(requests_per_second or requests_per_second_of(secret_key), clock)
        self._lock = threading.Lock()
        self._clock = clock
        self.requests = 0
        # No retries inside: a repeated send is the ledger's decision, and a stored attempt of its own.
        self.client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base} if api_base else {},
            http_client=machine.current().stripe_connections(TIMEOUT_SECONDS, api_base or STRIPE_URL),
            max_network_retries=0,
        )

    def send(self, claim: Claim) -> MeterOutcome:
        """Send one claimed meter event once. Raises KeyRefused: then it was certainly not counted."""
        if claim.window_total is not None:
            return ONLY_TOTALS
        return self.send_value(claim, claim.credits, claim.timestamp_s)

    def send_value(self, claim: Claim, value: int, timestamp_s: int) -> MeterOutcome:
        """Send a value, dated a moment (unix seconds), for a claimed meter event once. Raises KeyRefused as `send`."""
        return self.write(
            Step.STRIPE_SEND,
            claim.identifier,
            lambda: self.client.v1.billing.meter_events.create(
                {
                    "event_name": claim.meter,
                    "identifier": claim.identifier,
                    "timestamp": timestamp_s,
                    "payload": payload_of(claim.customer_id, value, msgspec.json.decode(claim.payload)),
                },
                {"idempotency_key": claim.idempotency_key},
            ),
        )

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Ask Stripe once to take a meter event back (facts/stripe.md section 3). Raises KeyRefused: it was not."""
        return self.write(
            Step.STRIPE_CANCEL,
            claim.identifier,
            lambda: self.client.v1.billing.meter_event_adjustments.create(
                {"event_name": claim.meter, "type": "cancel", "cancel": {"identifier": claim.identifier}},
                {"idempotency_key": claim.idempotency_key},
            ),
        )

    def write(
        self,
        step: Step,
        identifier: str,
        ask: Callable[[], object],
        understood: Callable[[Exception, str], MeterOutcome] | None = None,
    ) -> MeterOutcome:
        """Ask once for what concerns one meter event; `understood` reads the API's errors, else they are those of v1.

        Raises KeyRefused: then nothing was done.
        """
        try:
            answer = self.once(step, ask)
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise key_refused(error, GRANT_METER_EVENTS) from error
        except SDK_ERRORS as error:
            return (understood or outcome_of)(error, identifier)
        if not _is_about(answer, identifier):
            # What a proxy or a portal answers in Stripe's place; asked again, Stripe counts an identifier once.
            return MeterOutcome(Answer.UNKNOWN, "the answer is not about this meter event")
        return MeterOutcome(Answer.ACCEPTED, "taken")

    def make(self, step: Step, ask: Callable[[], T], needs: str) -> T:
        """Ask once for something to be made, under an idempotency key of its own.

        Raises KeyRefused, Unreachable or Unavailable, and Refused if Stripe will not make it.
        """
        try:
            return self.once(step, ask)
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise key_refused(error, needs) from error
        except stripe.InvalidRequestError as error:
            raise Refused(f"Stripe refused it ({_said(error)}).") from error
        except SDK_ERRORS as error:
            raise _unavailable(error) from error

    def check(
        self, event_names: Sequence[str], meter_id: str | None = None, *, totals: bool = False
    ) -> dict[str, FoundMeter]:
        """Check that each event name has exactly one meter, that it is active, and that it is the one of `meter_id`.

        With `totals` it must be a pre-aggregated one, else it must not. The meters by event name. Raises MeterError,
        KeyRefused, Unreachable or Unavailable.
        """
        meters = self.meters()
        named = {name: [meter for meter in meters if meter["event_name"] == name] for name in event_names}
        return {name: _check_meter(name, found, meter_id, totals) for name, found in named.items()}

    def meters(self) -> list[dict[str, Any]]:
        """All meters of the account: id, event_name, status, payload keys."""
        return self.patiently(self._list_meters, _GRANT_METERS)

    def _list_meters(self) -> list[dict[str, Any]]:
        page = self.client.v1.billing.meters.list({"limit": 100})
        return [_meter_of(meter) for meter in page.auto_paging_iter()]

    def patiently(self, ask: Callable[[], T], needs: str = "") -> T:
        """Ask a reading question a few times before giving up; `needs` is what a key that may not is told to grant.

        Raises KeyRefused, Unreachable or Unavailable.
        """
        for attempt in range(1, READ_ATTEMPTS_MAX + 1):
            try:
                return self.once(Step.STRIPE_READ, ask)
            except (stripe.AuthenticationError, stripe.PermissionError) as error:
                raise key_refused(error, needs) from error
            except SDK_ERRORS as error:
                if attempt == READ_ATTEMPTS_MAX or isinstance(error, stripe.InvalidRequestError):
                    raise _unavailable(error) from error
                self._clock.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def customer_problem(self, customer_id: str) -> str:
        """Why this customer cannot be billed with this key, in Stripe's words; empty if it can."""
        return self.patiently(lambda: self._find_customer(customer_id), _GRANT_CUSTOMERS)

    def _find_customer(self, customer_id: str) -> str:
        try:
            customer = self.client.v1.customers.retrieve(customer_id)
        except stripe.InvalidRequestError as error:
            return _said(error)
        return "it is deleted" if getattr(customer, "deleted", False) else ""

    @property
    def restricted(self) -> bool:
        """Whether the key is a restricted one; else it may do everything in the account."""
        return self._restricted

    @property
    def key_kind(self) -> str:
        """Whether the key is of the "live" or "test" mode."""
        return self._key_kind

    def once(self, step: Step, ask: Callable[[], T]) -> T:
        """Make a request in its turn, and count it. Raises what the SDK raises."""
        self._pace.wait()
        with self._lock:
            self.requests += 1
        reach(step, Side.BEFORE)
        try:
            return ask()
        finally:
            # Also after an error: Stripe may have counted what it answered with 500, or did not answer at all.
            reach(step, Side.AFTER)


def outcome_of(error: Exception, identifier: str, *secrets: str) -> MeterOutcome:
    """What an error of the SDK says about the meter event that was sent: by class and status, and by message only
    for the duplicate, which has no code on v1 (facts/stripe.md section 1)."""
    status = getattr(error, "http_status", None)
    detail, message = _said(error, *secrets), str(getattr(error, "_message", ""))
    if status == 429:
        return MeterOutcome(Answer.THROTTLED, detail, _retry_after_seconds(error))
    if isinstance(error, stripe.InvalidRequestError) and status is not None and 400 <= status < 500 and status != 409:
        duplicate = "already exists with identifier" in message and identifier in message
        return MeterOutcome(Answer.DUPLICATE if duplicate else Answer.REJECTED, detail)
    return MeterOutcome(Answer.UNKNOWN, detail)


def _is_about(answer: Any, identifier: str) -> bool:
    """Whether an answer speaks of the meter event that was asked about: as itself, or as the one that was taken back.

    Of one that was taken back Stripe need not name the identifier (its OpenAPI: `cancel` may be null).
    """
    if getattr(answer, "object", None) == "billing.meter_event_adjustment":
        return getattr(getattr(answer, "cancel", None), "identifier", identifier) == identifier
    return bool(getattr(answer, "identifier", None) == identifier)


def _said(error: Exception, *secrets: str) -> str:
    """What an error says, short, without request ids; where no answer came, what is known is the kind of error only."""
    status = error.http_status if isinstance(error, stripe.StripeError) else None
    if status is None:
        return f"no answer: {type(error.__cause__ or error).__name__}"
    return told(f"{status}: {getattr(error, '_message', None) or type(error).__name__}", *secrets)


def _retry_after_seconds(error: Exception) -> float | None:
    headers = getattr(error, "headers", None) or {}
    return wait_seconds(headers.get("retry-after"), least=0.0, most=60.0)


def key_refused(error: stripe.StripeError, needs: str = "") -> KeyRefused:
    """What to do about a key that Stripe refused; `needs` is what one that may not is told to grant."""
    if needs and isinstance(error, stripe.PermissionError):
        return NotPermitted(f"the Stripe key (BILLING_STRIPE_SECRET_KEY) lacks a permission: {needs}.")
    return KeyRefused(
        f"Stripe refused the key ({error.http_status}). Check BILLING_STRIPE_SECRET_KEY (or STRIPE_SECRET_KEY); "
        "docs/howto/security.md says what a restricted key needs."
    )


def _unavailable(error: Exception) -> RemoteError:
    if isinstance(error, stripe.APIConnectionError):
        return Unreachable("Stripe cannot be reached; check the network (and STRIPE_API_BASE). Run again.")
    return Unavailable(f"Stripe did not answer as it should ({_said(error)}). Nothing is lost: run again.")


def _meter_of(meter: Any) -> dict[str, Any]:
    """Raises TypeError, or AttributeError, for what is no meter."""
    found = {
        "id": meter.id,
        "event_name": meter.event_name,
        "status": meter.status,
        "formula": meter.default_aggregation.formula,
        "customer_key": meter.customer_mapping.event_payload_key,
        "value_key": meter.value_settings.event_payload_key,
    }
    if not all(isinstance(value, str) for value in found.values()):
        raise TypeError("a meter's names are no text")
    return {**found, "window": getattr(meter, "event_time_window", None)}


def _check_meter(event_name: str, meters: list[dict[str, Any]], meter_id: str | None, totals: bool) -> FoundMeter:
    """The one active meter of an event name. Raises MeterError."""
    active = [meter for meter in meters if meter["status"] == "active"]
    if not meters:
        raise MeterError(
            f"Stripe has no meter of the event name {event_name!r}; create it, or set BILLING_METER_EVENT_NAME."
        )
    if not active:
        raise MeterError(f"the meter {meters[0]['id']} of {event_name!r} is inactive; reactivate it in Stripe.")
    if len(active) > 1:
        ids = ", ".join(meter["id"] for meter in active)
        raise MeterError(
            f"Stripe has {len(active)} active meters of the event name {event_name!r} ({ids}); deactivate all but one."
        )
    if meter_id and active[0]["id"] != meter_id:
        raise MeterError(
            f"the meter of {event_name!r} is {active[0]['id']}, "
            f"but BILLING_STRIPE_CREDITS_METER_ID names {meter_id}; mend one of them."
        )
    _check_settings(active[0], totals)
    return FoundMeter(active[0]["id"], active[0]["window"] or "")


def _check_settings(meter: dict[str, Any], totals: bool) -> None:
    if meter["formula"] != "sum":
        raise MeterError(f"the meter {meter['id']} aggregates by {meter['formula']}; tallymark needs one that sums.")
    if meter["window"] and not totals:
        raise MeterError(
            f"the meter {meter['id']} counts only the last meter event of each {meter['window']} (event_time_window), "
            "and tallymark sends what is new since the last. Make a meter without such a window, or set "
            "BILLING_METER_API=totals (docs/howto/stripe-at-volume.md)."
        )
    if totals and meter["window"] not in METER_WINDOW_S:
        raise MeterError(
            f"the meter {meter['id']} adds up every meter event, and BILLING_METER_API=totals sends running totals. "
            "Make a meter whose event_time_window is hour or day, or set BILLING_METER_API=v1."
        )
    if meter["customer_key"] != "stripe_customer_id" or meter["value_key"] != "value":
        raise MeterError(
            f"the meter {meter['id']} reads {meter['customer_key']!r} and {meter['value_key']!r} from a payload; "
            "tallymark sends 'stripe_customer_id' and 'value'."
        )
