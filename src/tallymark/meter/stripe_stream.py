"""Stripe's v2 meter event stream: a hundred meter events a call, received unseen.

An answer says that they were received, not that they are good: what is wrong with one, Stripe reports later, and only
its sums show what it counted. The token of a session of fifteen minutes opens the stream. It is a secret: it is kept in
memory, and nowhere else. Facts: facts/stripe.md section 5.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import machine
from ..core.clock import MINUTE_US, Clock, parse_time
from ..core.ids import batch_key
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome
from ..errors import RemoteError
from ..failpoints import Step
from .stripe_events import (
    GRANT_METER_EVENTS,
    ONLY_TOTALS,
    SDK_ERRORS,
    TIMEOUT_SECONDS,
    StripeMeter,
    key_refused,
    outcome_of,
)
from .stripe_v2 import event_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

STREAM_URL = "https://meter-events.stripe.com"
EVENTS_MAX = 100
# A session is renewed so long before its end, and after half of its time if it is a short one.
RENEW_BEFORE_US = 2 * MINUTE_US


@dataclass(frozen=True, slots=True)
class _Session:
    """A session that opens the stream, and when to renew it, by this machine's clock."""

    client: Any = field(repr=False)
    token: str = field(repr=False)
    renew_at_us: int


class StripeStream:
    """Sends meter events to the stream of an account. Safe to use from several threads."""

    batch_max = EVENTS_MAX

    def __init__(self, account: StripeMeter, clock: Clock, *, base: str | None = None) -> None:
        self._account, self._clock, self._base = account, clock, base
        self._connections = machine.current().stripe_connections(TIMEOUT_SECONDS, base or STREAM_URL)
        self._session: _Session | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Open a session, if none is open. Raises KeyRefused, Unreachable, Unavailable or Refused."""
        self._current()

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Ask Stripe once to take a meter event back, by v1. Raises KeyRefused: it was not."""
        return self._account.take_back(claim)

    def send_batch(self, claims: Sequence[Claim]) -> list[MeterOutcome]:
        """Send claimed meter events in one call; one of a hundred that cannot be read does not stop the others.

        Raises KeyRefused: then none of them was counted.
        """
        added = [claim for claim in claims if claim.window_total is None]
        if len(added) < len(claims):
            outcomes = iter(self.send_batch(added) if added else ())
            return [next(outcomes) if claim.window_total is None else ONLY_TOTALS for claim in claims]
        outcome = self._send(claims)
        if outcome.answer is Answer.REJECTED and len(claims) > 1:
            # A refusal is of the whole call, and names none of them.
            half = len(claims) // 2
            return self.send_batch(claims[:half]) + self.send_batch(claims[half:])
        return [outcome] * len(claims)

    def _send(self, claims: Sequence[Claim]) -> MeterOutcome:
        try:
            session = self._current()
            try:
                return self._post(session, claims)
            except (stripe.TemporarySessionExpiredError, stripe.AuthenticationError):
                return self._post(self._renewed(session), claims)
        except (stripe.TemporarySessionExpiredError, stripe.AuthenticationError, stripe.PermissionError) as error:
            raise key_refused(error, GRANT_METER_EVENTS) from error
        except RemoteError as error:
            return MeterOutcome(Answer.THROTTLED, f"not sent, for want of a session: {error}")

    def _post(self, session: _Session, claims: Sequence[Claim]) -> MeterOutcome:
        """Post a batch once. Raises what the SDK raises where the session is refused."""
        events = [event_of(claim) for claim in claims]
        key = batch_key(claims[0].idempotency_key, len(claims))
        try:
            self._account.once(
                Step.STRIPE_STREAM,
                lambda: session.client.v2.billing.meter_event_stream.create(
                    {"events": events}, {"idempotency_key": key}
                ),
            )
        except (stripe.TemporarySessionExpiredError, stripe.AuthenticationError, stripe.PermissionError):
            raise
        except SDK_ERRORS as error:
            return outcome_of(error, "", session.token)
        return MeterOutcome(Answer.STREAMED, "received by the stream")

    # --- sessions

    def _current(self) -> _Session:
        """The session that is open, renewed in time. Raises KeyRefused or RemoteError."""
        with self._lock:
            if self._session is None or self._clock.now_us() >= self._session.renew_at_us:
                self._session = self._open()
            return self._session

    def _renewed(self, refused: _Session) -> _Session:
        """Another session than the one that was refused; several threads may have met that at once."""
        with self._lock:
            if self._session is refused:
                self._session = None
        return self._current()

    def _open(self) -> _Session:
        now_us = self._clock.now_us()
        made = self._account.make(Step.STRIPE_SESSION, self._ask, GRANT_METER_EVENTS)
        # Their clock says how long it lasts, and ours since when.
        lasts_us = parse_time(made.expires_at) - parse_time(made.created)
        client = stripe.StripeClient(
            made.authentication_token,
            base_addresses={"meter_events": self._base} if self._base else {},
            http_client=self._connections,
            max_network_retries=0,
        )
        return _Session(client, made.authentication_token, now_us + max(lasts_us - RENEW_BEFORE_US, lasts_us // 2))

    def _ask(self) -> Any:
        """Ask for a session. Raises ValueError, or AttributeError, for an answer that is none."""
        made = self._account.client.v2.billing.meter_event_session.create()
        if not (made.authentication_token and parse_time(made.expires_at) > parse_time(made.created)):
            raise ValueError("a session without a token, or without any time")
        return made
