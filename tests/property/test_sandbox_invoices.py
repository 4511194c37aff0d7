"""Every counted meter event of the sandbox's Stripe is on just one invoice, still open, lost or unbilled."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request

START_SECONDS = 1_795_003_200
HOURS = st.integers(0, 60)
# When it is sent, and how many hours before that it happened.
USAGE = st.lists(st.tuples(HOURS, st.integers(0, 40)), max_size=40)


def send(stripe, number, timestamp_seconds):
    body = (
        f"event_name=credits&identifier=i{number}&timestamp={timestamp_seconds}"
        f"&payload[stripe_customer_id]=cus_1&payload[value]={2**number}"
    )
    headers = {"authorization": "Bearer sk_test_sandbox"}
    assert stripe.handle(Request("POST", "/v1/billing/meter_events", (), headers, body.encode())).status == 200


@given(
    usage=USAGE,
    hours=st.integers(2, 30),
    grace_hours=st.integers(0, 20),
    anchor_hours=st.integers(-30, 30),
    ends_hours=st.none() | st.integers(1, 70),
)
def test_each_meter_event_has_one_fate(usage, hours, grace_hours, anchor_hours, ends_hours):
    """Each value is another power of two, so that sums name what is in them."""
    clock = VirtualClock(START_SECONDS * SECOND_US)
    stripe = SandboxStripe(clock=clock)
    stripe.add_meter("credits")
    start_us = clock.now_us()
    stripe.add_subscription(
        "cus_1",
        "credits",
        started_at_us=start_us,
        period=hours * 3600,
        anchor_us=start_us + anchor_hours * HOUR_US,
        grace_hours=grace_hours,
        ends_at_us=None if ends_hours is None else start_us + ends_hours * HOUR_US,
    )
    for number, (sent_hours, back_hours) in enumerate(sorted(usage)):
        clock.advance((start_us + sent_hours * HOUR_US - clock.now_us()) / SECOND_US)
        send(stripe, number, clock.now_us() // SECOND_US - back_hours * 3600)
    clock.advance(200 * 3600)
    fates = [int(one.credits) for one in stripe.invoiced("cus_1")]
    fates += [int(one.value) for one in (*stripe.lost(), *stripe.unbilled())]
    assert sum(fates) == Decimal(stripe.tally().get(("cus_1", "credits"), 0)) == 2 ** len(usage) - 1
    for one in stripe.lost():
        assert one.timestamp_seconds >= START_SECONDS
