"""Usage and the invoice of its period, judged by the sandbox's invoices: nothing is sent that no invoice takes."""

import json

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, no_summaries
from databases import DATABASES
from kills import killed_at
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_time
from tallymark.errors import KeyRefused, NotificationRefused
from tallymark.failpoints import Side, Step
from tallymark.flows.reports import receive_webhook
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

# A period begins here every day; the invoice of the one before is final an hour later, half an hour before now.
BOUNDARY_US = parse_time("2026-11-23T10:30:00Z")
SUBSCRIPTIONS = "GET /v1/subscriptions"
METER_EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def subscribe(stripe):
    """A function that gives a customer a subscription whose period begins every day at the boundary."""

    def add(customer="cus_1", sandbox=stripe, **changes):
        fits = {"started_at_us": BOUNDARY_US - 20 * DAY_US, "period": "day"}
        sandbox.add_subscription(customer, "credits", **{**fits, **changes})

    return add


@pytest.fixture
def states(look):
    """A function that gives state, reason and credits of each meter event, in the order of their buckets."""
    return lambda: look("select state, reason, credits from meter_event order by bucket_start_us, revision")


def counted(summary):
    """What a run's traces came to, without what did not occur."""
    found = {"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held}
    return {result: traces for result, traces in found.items() if traces}


# ---- held


def test_usage_whose_invoice_is_final_is_held_with_its_amount(put, run, subscribe, states, stripe):
    """It is fixed and not sent, counted as held and not as failed; what is in time is billed."""
    subscribe()
    put("late", at_us=BOUNDARY_US - HOUR_US)
    put("in-time", at_us=BOUNDARY_US + HOUR_US)

    summary = run()

    assert counted(summary) == {"processed": 1, "late_period": 1}
    assert summary.exit_status == 1
    assert states() == [("held", "late_period", CREDITS_OF_A_TRACE), ("accepted", "", CREDITS_OF_A_TRACE)]
    assert (stripe.lost(), stripe.unbilled()) == ([], [])


def test_a_bucket_is_split_at_the_boundary_inside_it(put, run, subscribe, states, look, stripe):
    """Two traces of one hour, one on each side: two meter events, each inside its part."""
    subscribe()
    put("late", at_us=BOUNDARY_US - 10 * MINUTE_US)
    put("in-time", at_us=BOUNDARY_US)

    assert counted(run()) == {"processed": 1, "late_period": 1}

    parts = look(
        "select bucket_start_us, timestamp_s * 1000000, bucket_end_us from meter_event order by bucket_start_us"
    )
    assert parts == [
        (BOUNDARY_US - 30 * MINUTE_US, BOUNDARY_US - 10 * MINUTE_US, BOUNDARY_US),
        (BOUNDARY_US, BOUNDARY_US, BOUNDARY_US + 30 * MINUTE_US),
    ]
    assert stripe.lost() == []


def test_inside_the_grace_the_part_before_the_boundary_is_sent_too(put, run, subscribe, clock, stripe):
    """A draft invoice still takes it; both parts are on their invoices."""
    subscribe(started_at_us=BOUNDARY_US + HOUR_US - 20 * DAY_US)
    put("before", at_us=BOUNDARY_US + 50 * MINUTE_US)
    put("after", at_us=BOUNDARY_US + 65 * MINUTE_US)

    assert counted(run()) == {"processed": 2}

    clock.advance(2 * 86_400)
    assert [invoice.credits for invoice in stripe.invoiced("cus_1")][-2:] == [CREDITS_OF_A_TRACE, CREDITS_OF_A_TRACE]
    assert stripe.lost() == []


@pytest.mark.parametrize(("grace_hours", "result"), [("1", "late_period"), ("72", "processed")])
def test_the_grace_is_the_one_that_is_set_in_stripe(put, run, settings, subscribe, stripe, grace_hours, result):
    """BILLING_INVOICE_GRACE_HOURS says how long a draft stays one."""
    subscribe(grace_hours=float(grace_hours))
    put("t1", at_us=BOUNDARY_US - HOUR_US)

    assert counted(run(settings(BILLING_INVOICE_GRACE_HOURS=grace_hours))) == {result: 1}
    assert stripe.lost() == []


def test_send_asks_for_no_periods_and_sends_whatever_is_late(put, run, settings, subscribe, stripe):
    """BILLING_LATE_PERIOD=send is for accounts that bill usage otherwise."""
    subscribe()
    put("t1", at_us=BOUNDARY_US - HOUR_US)

    assert counted(run(settings(BILLING_LATE_PERIOD="send"))) == {"processed": 1}
    assert SUBSCRIPTIONS not in stripe.counts()
    assert len(stripe.lost()) == 1


def test_a_part_below_one_credit_is_carried_however_late(put, run, subscribe, states):
    """There is nothing to send or to decide."""
    subscribe()
    put("t1", at_us=BOUNDARY_US - HOUR_US, cost="0.00001", seconds=0)

    assert counted(run()) == {"processed": 1}
    assert states() == [("carried", "", 0)]


def test_a_customer_without_a_subscription_is_never_late(put, run, stripe):
    """Nothing bills its usage, so nothing can be missed; Stripe counts it for a subscription to come."""
    put("t1", minutes_ago=6 * 24 * 60)

    assert counted(run()) == {"processed": 1}
    assert len(stripe.unbilled()) == 1


def test_a_cancelled_subscription_ends_its_last_period(put, run, subscribe, stripe):
    """Usage before the end is too late an hour after it; usage after the end is nobody's period."""
    subscribe(started_at_us=BOUNDARY_US - 20 * DAY_US, ends_at_us=BOUNDARY_US)
    put("before", at_us=BOUNDARY_US - HOUR_US)
    put("after", at_us=BOUNDARY_US + HOUR_US)

    assert counted(run()) == {"processed": 1, "late_period": 1}
    assert stripe.lost() == []


def test_the_earliest_final_invoice_of_several_items_decides(put, run, subscribe):
    """A customer may pay for one meter in two subscriptions; what one of them has missed is held."""
    subscribe(period="month", started_at_us=BOUNDARY_US - 3 * DAY_US)
    subscribe()
    put("t1", at_us=BOUNDARY_US - HOUR_US)

    assert counted(run()) == {"late_period": 1}


def test_growth_of_a_billed_trace_that_is_too_old_is_held_in_its_own_bucket(put, run, clock, states, stripe):
    """The difference waits as too_old; the charge stays."""
    put("t1", minutes_ago=34 * 24 * 60)
    run(from_us=NOW_US - 36 * DAY_US)
    put("t1", minutes_ago=34 * 24 * 60, cost="0.03")
    clock.advance(2 * 86_400)

    assert counted(run(from_us=NOW_US - 36 * DAY_US)) == {"too_old": 1}
    assert counted(run(from_us=NOW_US - 36 * DAY_US)) == {"too_old": 1}

    assert states() == [("accepted", "", CREDITS_OF_A_TRACE), ("held", "too_old", CREDITS_OF_A_TRACE)]
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


# ---- what becomes late on the way


def test_a_refused_meter_event_that_becomes_late_is_held(put, run, subscribe, clock, states, settings):
    """It was never counted; once its invoice is final a person decides."""
    strict = SandboxStripe(clock=clock, any_customer=False, unknown_customer="sync")
    strict.add_meter("credits")
    subscribe(sandbox=strict)
    put("t1", at_us=BOUNDARY_US + HOUR_US)
    assert counted(run(settings(bill_to=strict))) == {"failed": 1}
    clock.advance(DAY_US // SECOND_US)

    run(settings(bill_to=strict), full=True)

    assert states() == [("held", "late_period", CREDITS_OF_A_TRACE)]


@pytest.mark.parametrize(
    ("fault", "result", "state"),
    [
        (Fault.RESET_BEFORE, "late_period", ("held", "late_period", CREDITS_OF_A_TRACE)),
        (Fault.RESET_AFTER, "processed", ("accepted", "counted", CREDITS_OF_A_TRACE)),
    ],
)
def test_an_unanswered_meter_event_whose_invoice_became_final_is_in_doubt(
    put, run, subscribe, clock, stripe, states, settings, fault, result, state
):
    """Sending it again could not tell whether it arrived in time: Stripe's sums do; without them nobody tries."""
    subscribe()
    put("t1", at_us=BOUNDARY_US + HOUR_US)
    faults = Faults.script([(lambda request: METER_EVENTS in request.path, fault)] * 1000)
    assert counted(run(settings(stripe_faults=faults))) == {"failed": 1}
    sent = len(stripe.meter_events())
    clock.advance((BOUNDARY_US + DAY_US + HOUR_US - clock.now_us()) // SECOND_US)

    assert counted(run(settings(stripe_faults=no_summaries()), full=True)) == {"in_doubt": 1}
    assert states() == [("in_doubt", "", CREDITS_OF_A_TRACE)]
    assert counted(run(full=True)) == {result: 1}

    assert states() == [state]
    assert len(stripe.meter_events()) == sent


# ---- how often Stripe is asked


def test_periods_are_read_once_a_period_for_each_customer(put, run, subscribe, clock, stripe):
    """Not by every run; again when the known period has ended (Stripe's read allowance)."""
    subscribe()
    for number in range(3):
        put(f"t{number}", at_us=NOW_US - 30 * MINUTE_US + number * SECOND_US)
        run()
    assert stripe.counts()[SUBSCRIPTIONS] == 1

    clock.advance(DAY_US // SECOND_US)
    put("next", at_us=clock.now_us() - 30 * MINUTE_US)
    run()

    assert stripe.counts()[SUBSCRIPTIONS] == 2
    assert stripe.lost() == []


@pytest.mark.parametrize("side", Side)
def test_a_run_that_was_cut_off_while_reading_periods_sends_nothing_late(put, run, subscribe, states, stripe, side):
    """What was read is stored before anything is gathered."""
    subscribe()
    put("late", at_us=BOUNDARY_US - HOUR_US)

    assert killed_at(Step.PUT_PERIODS, side, run)
    run()

    assert states() == [("held", "late_period", CREDITS_OF_A_TRACE)]
    assert stripe.meter_events() == []


def test_a_customer_without_a_subscription_is_looked_up_once_a_day(put, run, clock, stripe):
    """It may have one tomorrow."""
    for hours in (0, 1, 22, 2):
        clock.advance(hours * 3600)
        put(f"t{hours}", at_us=clock.now_us() - 30 * MINUTE_US)
        run()

    assert stripe.counts()[SUBSCRIPTIONS] == 2


def test_an_idle_run_asks_for_no_periods(put, run, subscribe, clock, stripe):
    """Only customers with money to send are looked up."""
    subscribe()
    put("t1")
    run()
    clock.advance(3 * 86_400)
    stripe.clear_requests()

    run()

    assert SUBSCRIPTIONS not in stripe.counts()


def test_a_dry_run_asks_stripe_nothing_and_uses_what_is_known(put, run, subscribe, stripe):
    """What an earlier run read decides what would be held."""
    subscribe()
    put("t1")
    run()
    stripe.clear_requests()
    put("late", at_us=BOUNDARY_US - HOUR_US)

    assert counted(run(dry_run=True, full=True)) == {"already_processed": 1, "late_period": 1}
    assert stripe.counts() == {}


def test_a_key_that_may_not_read_subscriptions_says_what_to_grant(put, run, settings, clock):
    """Nothing is sent until it is granted, or the question is switched off."""
    key = "rk_test_without"
    limited = SandboxStripe(clock=clock, keys={key: ["meter_events:write", "meters:read"]})
    limited.add_meter("credits")
    put("t1")
    to = settings(bill_to=limited, STRIPE_SECRET_KEY=key)

    with pytest.raises(KeyRefused, match=r"Subscriptions: read.*BILLING_LATE_PERIOD=send"):
        run(to)

    assert limited.tally() == {}
    assert counted(run(settings(bill_to=limited, STRIPE_SECRET_KEY=key, BILLING_LATE_PERIOD="send"))) == {
        "processed": 1
    }


# ---- a whole month


def test_a_month_of_usage_is_on_its_invoices_or_held(put, run, subscribe, clock, stripe, look):
    """Runs every six hours over days with a boundary each: what was counted is invoiced, and the rest waits."""
    subscribe()
    number = 0
    for _ in range(24):
        for minutes in (20, 90, 500):
            number += 1
            put(f"t{number}", at_us=clock.now_us() - minutes * MINUTE_US)
        run(full=True)
        clock.advance(6 * 3600)
    clock.advance(2 * 86_400)

    assert (stripe.lost(), stripe.unbilled()) == ([], [])
    held = look("select coalesce(sum(credits), 0) from meter_event where state = 'held'")[0][0]
    assert held > 0
    assert sum(invoice.credits for invoice in stripe.invoiced()) + held == number * CREDITS_OF_A_TRACE
    assert stripe.tally() == {("cus_1", "credits"): number * CREDITS_OF_A_TRACE - held}


# ---- what Stripe tells of a customer between two reads


CHANGES = ("invoice.finalized", "customer.subscription.created", "customer.subscription.updated")
SIGNING = "whsec_planted"


@pytest.fixture
def tell(settings, stripe, clock):
    """A function: deliver a snapshot webhook on a customer, as Stripe signs it."""

    def deliver(kind="customer.subscription.updated", customer="cus_1", created_us=None, secret=SIGNING, **changes):
        created_s = (clock.now_us() if created_us is None else created_us) // SECOND_US
        # The object says what it likes about periods.
        thing = {"id": "sub_or_in", "customer": customer, "current_period_end": 1, "items": []}
        body = json.dumps({"id": "evt_1", "type": kind, "created": created_s, "data": {"object": thing}}).encode()
        to = settings(**{"BILLING_STRIPE_WEBHOOK_SECRET": f"whsec_thin,{SIGNING}", **changes})
        return receive_webhook(to, body, stripe.sign(body, secret), clock)

    return deliver


@pytest.mark.parametrize("kind", [*CHANGES, "customer.subscription.deleted"])
def test_after_a_change_periods_are_read_anew_and_decide(put, run, subscribe, tell, states, stripe, clock, kind):
    """Without it they would be read a day later, and this usage sent to an invoice that is final."""
    put("before", at_us=BOUNDARY_US - 3 * HOUR_US)
    run()
    subscribe()
    clock.advance(60)
    assert tell(kind, {"id": "cus_1"} if kind == CHANGES[0] else "cus_1") is True

    put("late", at_us=BOUNDARY_US - HOUR_US)
    run(full=True)
    assert states()[1] == ("held", "late_period", CREDITS_OF_A_TRACE)
    assert stripe.counts()[SUBSCRIPTIONS] == 2


def test_a_change_that_comes_again_changes_nothing(put, run, subscribe, tell, stripe, clock, look):
    """Stripe repeats for days what it believes lost; what was read since the change is as new as it gets."""
    subscribe()
    put("t1", minutes_ago=30)
    run(full=True)
    clock.advance(60)
    changed_us = clock.now_us()
    tell()
    assert look("select count(*) from period_check") == [(0,)]
    clock.advance(600)
    put("t2", minutes_ago=20)
    run(full=True)
    before = look("select * from period_check")

    clock.advance(3600)
    assert tell(created_us=changed_us) is True
    assert look("select * from period_check") == before
    assert stripe.counts()[SUBSCRIPTIONS] == 2


def test_a_change_of_nobody_or_of_a_stranger_is_answered(tell, look):
    """An invoice may have no customer, and an account customers that tallymark never met."""
    assert tell(customer=None) is False
    assert tell(customer="cus_stranger") is True
    assert tell("invoice.created") is False


@pytest.mark.parametrize("customer", [7, ["cus_1"], {"name": "no id"}, "cus_1\n", "cus_\x00"])
def test_a_change_whose_customer_cannot_be_one_is_refused(tell, customer):
    """Signed, and damaged all the same."""
    with pytest.raises(NotificationRefused, match="not what Stripe sends"):
        tell(customer=customer)


def test_a_change_that_is_not_signed_is_refused(put, run, tell, look):
    """By none of the secrets; nothing is read anew."""
    put("t1", minutes_ago=30)
    run()
    with pytest.raises(NotificationRefused, match="missing or wrong"):
        tell(secret="whsec_other")
    with pytest.raises(NotificationRefused, match="not what Stripe sends"):
        tell(created_us=10**30)
    assert look("select count(*) from period_check") == [(1,)]
