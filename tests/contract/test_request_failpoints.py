"""Every request reaches its failpoints, the second one also where an error came, or no answer at all.

Otherwise no kill could be tried between what Stripe counts and what the ledger knows of it.
"""

import contextlib
import inspect
import json
from dataclasses import replace

import pytest

from builders import NOW_US
from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.core.reports import ERROR_REPORT, Notification
from tallymark.core.states import CancelClaim, Claim, WindowTotal
from tallymark.errors import RemoteError
from tallymark.failpoints import Side, Step, arm
from tallymark.meter.invoice_items import NewItem, create_item
from tallymark.meter.reports import fetch_report, new_notifications
from tallymark.meter.stripe_events import StripeMeter
from tallymark.meter.stripe_stream import StripeStream
from tallymark.meter.stripe_totals import StripeTotals
from tallymark.meter.stripe_v2 import StripeV2Meter
from tallymark.meter.subscriptions import items_of
from tallymark.meter.summaries import summaries
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import DEFAULT_PROJECT

METER_ID = "mtr_sandbox_0001"
NOTIFICATION = Notification("evt_unknown", ERROR_REPORT, NOW_US, METER_ID)
CLAIM = Claim("one", "one", "cus_1", "credits", NOW_US // SECOND_US, 5, "{}", 1, "key-1", None, NOW_US)
TOTAL = WindowTotal(9, CLAIM.timestamp_s, CLAIM.timestamp_s + 3600, CLAIM.timestamp_s)
CANCEL = CancelClaim("one", "one", "credits", 2, "key-2", False)
ITEM = NewItem("one", 1, "cus_1", "usd", 200, "500 credits", NOW_US - HOUR_US, NOW_US)


def make(meter):
    """Make an invoice item, once; what goes wrong is the caller's to repeat."""
    with contextlib.suppress(RemoteError):
        create_item(meter, ITEM)


def open_session(meter):
    """Open a session of the stream; without one, nothing is sent through it."""
    with contextlib.suppress(RemoteError):
        StripeStream(meter, meter._clock)._open()


# Each method that makes requests: its step, and a call of it that makes one.
STRIPE_CALLS = {
    "send": (Step.STRIPE_SEND, lambda meter: meter.send(CLAIM)),
    "send_value": (Step.STRIPE_SEND, lambda meter: StripeTotals(meter).send(replace(CLAIM, window_total=TOTAL))),
    "check": (Step.STRIPE_READ, lambda meter: meter.check(["credits"])),
    "meters": (Step.STRIPE_READ, lambda meter: meter.meters()),
    "customer_problem": (Step.STRIPE_READ, lambda meter: meter.customer_problem("cus_1")),
    "patiently": (Step.STRIPE_READ, lambda meter: items_of(meter, "cus_1")),
    "take_back": (Step.STRIPE_CANCEL, lambda meter: meter.take_back(CANCEL)),
    "make": (Step.STRIPE_INVOICE_ITEM, make),
    "write": (Step.STRIPE_SEND, lambda meter: StripeV2Meter(meter).send(CLAIM)),
    "once": (Step.STRIPE_SESSION, open_session),
}
# Functions of other modules that ask through `patiently`.
STRIPE_READS = {
    "summaries": (Step.STRIPE_READ, lambda meter: summaries(meter, METER_ID, "cus_1", 0, 3600, "hour")),
    "new_notifications": (Step.STRIPE_READ, lambda meter: list(new_notifications(meter, 0))),
    "fetch_report": (Step.STRIPE_READ, lambda meter: fetch_report(meter, NOTIFICATION, {})),
}
LANGFUSE_CALLS = {
    "get": (Step.LANGFUSE_READ, lambda client: client.get("/api/public/health", (), json.loads)),
    "post": (Step.LANGFUSE_WRITE, lambda client: client.post("/api/public/ingestion", b'{"batch":[]}', json.loads)),
}
# A time-out takes too long to be waited for here; it ends as a reset does.
FAULTS = [None, *(fault for fault in Fault if fault not in (Fault.HANG_BEFORE, Fault.HANG_AFTER))]
PROCESSED = (None, Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.TRUNCATED)
SEEN = "seen by the service"


@pytest.fixture
def happened():
    """What happens, in order: failpoints, and requests that a service has seen."""
    found = []
    arm(lambda step, side: found.append((step, side)))
    yield found
    arm(None)


class Seeing:
    """A service that notes each request that it answers."""

    def __init__(self, service, happened):
        self.service, self.happened = service, happened

    def handle(self, request):
        self.happened.append(SEEN)
        return self.service.handle(request)


@pytest.fixture
def address(serving, happened):
    """A function that serves a service whose first request meets a fault, if one is given."""

    def serve_it(service, fault):
        faults = Faults(0, {fault: 1}, limit=1) if fault else None
        return serving(Seeing(service, happened), faults)

    return serve_it


def around(step, *, seen=True):
    """What happens around one request."""
    return [(step, Side.BEFORE), *([SEEN] if seen else []), (step, Side.AFTER)]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [*STRIPE_CALLS, *STRIPE_READS])
def test_every_request_to_stripe_reaches_both_sides(name, fault, address, stripe, clock, happened):
    """What changes something is asked once, whatever comes of it; a question is repeated."""
    step, call = {**STRIPE_CALLS, **STRIPE_READS}[name]

    call(StripeMeter("sk_test_sandbox", clock, api_base=address(stripe, fault)))

    repeated = around(step) if fault and step is Step.STRIPE_READ else []
    assert happened == around(step, seen=fault in PROCESSED) + repeated


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", LANGFUSE_CALLS)
def test_every_request_to_langfuse_reaches_both_sides(name, fault, address, langfuse, clock, happened):
    """Repeated if it failed, each time between its failpoints."""
    step, call = LANGFUSE_CALLS[name]
    url = address(langfuse, fault)

    call(LangfuseClient(url, DEFAULT_PROJECT.public_key, DEFAULT_PROJECT.secret_key, clock))

    assert happened == around(step, seen=fault in PROCESSED) + (around(step) if fault else [])


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_to_the_stream_reaches_both_sides(fault, serving, stripe, clock, happened):
    """Whatever comes of it, it is one request; its session was opened before."""
    faults = Faults(0, {fault: 1}, only=lambda request: request.path.endswith("_stream")) if fault else None
    url = serving(Seeing(stripe, happened), faults)
    stream = StripeStream(StripeMeter("sk_test_sandbox", clock, api_base=url), clock, base=url)

    stream.send_batch([CLAIM])

    assert happened == around(Step.STRIPE_SESSION) + around(Step.STRIPE_STREAM, seen=fault in PROCESSED)


def test_a_refused_key_reaches_both_sides(address, stripe, clock, happened):
    """The error that ends a run is an answer too."""
    with pytest.raises(Exception, match="refused the key"):
        StripeMeter("sk_test_wrong", clock, api_base=address(stripe, None)).send(CLAIM)

    assert happened == around(Step.STRIPE_SEND)


@pytest.mark.parametrize(("client", "listed"), [(StripeMeter, STRIPE_CALLS), (LangfuseClient, LANGFUSE_CALLS)])
def test_no_method_that_makes_requests_is_forgotten(client, listed):
    """A new method of a client gets a row in the tables above; `close` and `told` make no request."""
    public = {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}

    assert public - {"close", "told"} == set(listed)
