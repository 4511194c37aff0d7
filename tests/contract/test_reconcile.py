"""Reconcile over loopback HTTP: each kind of difference between the three has its cause and its amount."""

import sqlite3
from decimal import Decimal

import pytest
import stripe as stripe_sdk

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import DAY_US, HOUR_US, SECOND_US, format_time
from tallymark.core.doubt import NO_CUSTOMER, Value
from tallymark.flows.reconcile import micros_of, reconcile
from tallymark.reconciliation_report import page_of, table_of
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.stripe import SandboxStripe

WORTH = f"{CREDITS_OF_A_TRACE}.000000"
STORY_FROM_US = NOW_US - 40 * DAY_US
TO_STRIPE = "/v1/billing/meter_events"


@pytest.fixture
def compare(settings, clock):
    """A function that reconciles and checks that every line adds up; gives the result."""

    def once(to=None, **request):
        found, audit = reconcile(to or settings(), clock=clock, **request)
        for line in (found.total, *found.customers, *found.windows):
            assert_adds_up(line)
        assert sum(Decimal(line.langfuse) for line in found.customers) == Decimal(found.total.langfuse)
        once.audit = audit
        return found

    return once


def assert_adds_up(line):
    """Langfuse and the differences are what Stripe counted, or what was accepted where Stripe was not asked."""
    counted = line.accepted if line.stripe is None else line.stripe
    assert Decimal(line.langfuse) + sum(map(Decimal, line.differences.values())) == Decimal(counted)


def causes(found):
    """The credits behind each cause, but for the carry."""
    return {line.cause: line.credits for line in found.causes if line.cause != "carry"}


def later_observation(langfuse, trace_id, cost, *, at_us=NOW_US - HOUR_US):
    """One more observation of a trace that is there; 250 credits for 0.01."""
    moment = format_time(at_us)
    observation = {"id": f"{trace_id}-late", "startTime": moment, "endTime": moment, "costDetails": {"total": cost}}
    langfuse.put_trace(PROJECT, {"id": trace_id}, [observation])


# ---- agreement


def test_what_was_billed_agrees(put, run, compare, stripe):
    """After a sync only the carry differs, and the window says what each of the three has."""
    put("t1", cost="0.01001")
    run()

    found = compare()

    assert found.explained and found.exit_status == 0
    assert causes(found) == {}
    (line,) = found.customers
    assert (line.customer, line.langfuse, line.entries, line.stripe) == (
        "cus_1",
        "500.250000",
        "500.250000",
        "500.000000",
    )
    assert line.differences == {"carry": "-0.250000"}
    assert (found.marks.expected, found.marks.lost) == (1, 0)


def test_nothing_at_all_agrees(compare):
    """No trace, no ledger, no meter event."""
    found = compare()

    assert found.explained
    assert found.customers == []


@pytest.mark.parametrize("generation", ["legacy", "dual", "events_only"])
def test_a_story_agrees_through_every_generation(generation, clock, settings, run, compare, serving):
    """All kinds of traces: what is held and what others marked is told by its amount; the rest is Stripe's tally."""
    langfuse = SandboxLangfuse(clock=clock, generation=generation)
    for told in tell(300, NOW_US):
        langfuse.put_trace(PROJECT, {**told.trace, "bookmarked": told.bookmarked}, told.observations)
    to = settings(read_from=langfuse)
    summary = run(to, from_us=STORY_FROM_US)

    found = compare(to, from_us=STORY_FROM_US)

    assert found.explained
    assert set(causes(found)) == {"held", "marked_elsewhere"}
    assert found.held == {reason: count for reason, count in summary.held.items() if count}
    billed = {line.customer: Decimal(line.entries) * CREDIT_MICROS for line in found.customers if Decimal(line.entries)}
    assert billed == dict(expect(tell(300, NOW_US)).micros)


# ---- Langfuse and the ledger


def test_what_was_never_read_is_unbilled_and_repaired(put, run, compare, balance):
    """A trace that came after the last sync; --repair bills it, and then everything agrees."""
    put("t1")
    run()
    put("t2", minutes_ago=90)

    found = compare()

    assert causes(found) == {"unbilled": f"-{WORTH}"}
    assert [line.examples for line in found.causes if line.cause == "unbilled"] == [["t2"]]
    assert found.explained
    assert compare(repair=True).repaired.processed == 1
    assert causes(compare()) == {}
    assert balance() == {"cus_1": 2 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_a_reconciliation_writes_nothing_but_its_run(put, run, compare, look, langfuse, stripe):
    """Unbilled usage stays unbilled, a lost mark lost, without --repair."""
    put("t1")
    run()
    put("t2", minutes_ago=90)
    langfuse.clear_requests()
    before = [look(f"select * from {table} order by 1, 2") for table in ("trace", "entry", "meter_event", "coverage")]

    compare()

    assert [
        look(f"select * from {table} order by 1, 2") for table in ("trace", "entry", "meter_event", "coverage")
    ] == before
    assert not [route for route in langfuse.counts() if route.startswith("POST")]
    assert look("select verb from run order by started_at_us") == [("sync",), ("reconcile",)]


def test_changed_usage_is_named_and_repaired(put, run, compare, langfuse, balance):
    """A cost that grew after billing: its difference, and after --repair an adjustment."""
    put("t1")
    run()
    later_observation(langfuse, "t1", 0.01)

    assert causes(compare()) == {"changed": "-250.000000"}
    assert compare(repair=True).repaired.adjusted == 1
    assert causes(compare()) == {}
    assert balance() == {"cus_1": (CREDITS_OF_A_TRACE + 250) * CREDIT_MICROS}


def test_young_usage_is_settling(put, run, compare):
    """Younger than the settle delay: nothing is wrong."""
    put("t1", minutes_ago=5)
    run()

    assert causes(compare()) == {"settling": f"-{WORTH}"}


def test_held_usage_is_told_by_reason(put, run, compare):
    """No customer: the amount stands under nobody."""
    put("t1", customer=None)
    run()

    found = compare()

    assert causes(found) == {"held": f"-{WORTH}"}
    assert found.held == {"no_customer": 1}
    assert [line.customer for line in found.customers] == [""]


def test_usage_marked_by_others_is_told(put, run, compare):
    """Tagged as processed before this ledger began."""
    put(
        "t1",
        tags=["billing:pending", "billing:processed"],
        metadata={"customerId": "cus_1", "billing_status": "processed"},
    )
    run()

    assert causes(compare()) == {"marked_elsewhere": f"-{WORTH}"}


def test_a_deleted_trace_is_named(put, run, compare, langfuse):
    """Billed, and no longer in Langfuse."""
    put("t1")
    put("t2")
    run()
    langfuse.delete_trace(PROJECT, "t1")

    found = compare()

    assert causes(found) == {"not_in_langfuse": WORTH}
    assert [line.examples for line in found.causes if line.cause == "not_in_langfuse"] == [["t1"]]


def test_a_lost_mark_is_counted(put, run, compare, langfuse, clock):
    """Somebody overwrote the metadata of a marked trace."""
    put("t1")
    run()
    clock.advance(3600)
    langfuse.put_trace(PROJECT, {"id": "t1", "metadata": {"billing_status": "x"}}, [])

    found = compare()

    assert (found.marks.expected, found.marks.lost) == (1, 1)
    assert compare(repair=True).repaired.healed == 1
    assert compare().marks.lost == 0


# ---- the ledger and Stripe


def test_what_stripe_does_not_take_is_in_flight_or_rejected(put, run, compare, settings, stripe):
    """Refused, because the meter went inactive in the middle: rejected until it is back."""
    put("t1")
    to = settings(stripe_faults=Faults(1, {Fault.RATE_LIMITED: 1.0}, lambda request: request.path == TO_STRIPE))
    run(to)

    assert causes(compare()) == {"in_flight": f"-{WORTH}"}


def test_what_stripe_counted_unseen_is_in_flight(put, run, compare, settings, clock):
    """Stripe took it and the answer was lost: what is on its way in the ledger, Stripe has already."""
    put("t1")
    to = settings(stripe_faults=Faults(1, {Fault.RESET_AFTER: 1.0}, lambda request: request.path == TO_STRIPE))
    run(to)

    found = compare()

    assert found.explained
    assert causes(found) == {}
    assert (found.total.accepted, found.total.stripe) == ("0.000000", WORTH)
    assert compare(repair=True).explained
    assert causes(compare()) == {}


def test_another_writer_is_unexplained(put, run, compare, stripe, settings, serving):
    """Ten credits on the meter that no meter event of this ledger stands for: exit 1, and the window is named."""
    put("t1")
    run()
    send_foreign(serving(stripe), "cus_1", 10)

    found = compare()

    assert not found.explained and found.exit_status == 1
    assert causes(found) == {"unexplained_stripe": "10.000000"}
    (line,) = found.windows
    assert (line.customer, line.differences["unexplained_stripe"]) == ("cus_1", "10.000000")


def send_foreign(url, customer, credits):
    """A meter event that somebody else sends."""
    client = stripe_sdk.StripeClient("sk_test_sandbox", base_addresses={"api": url})
    payload = {"stripe_customer_id": customer, "value": str(credits)}
    moment = (NOW_US - HOUR_US) // SECOND_US
    client.v1.billing.meter_events.create({"event_name": "credits", "timestamp": moment, "payload": payload})


def test_parts_of_credits_of_another_writer_are_told(put, run, compare, stripe, serving):
    """Tallymark sends whole credits; half of one came from somebody else."""
    put("t1")
    run()
    send_foreign(serving(stripe), "cus_1", "0.5")

    assert causes(compare()) == {"unexplained_stripe": "0.500000"}


def test_what_stripe_says_becomes_micro_credits():
    """Whole credits, parts of them, the sum of several meters; a customer whom Stripe does not know has none."""
    said = [Value(7, "7"), Value(None, "0.25"), Value(None, "1 + 0.000001"), NO_CUSTOMER]

    assert [micros_of(value) for value in said] == [7_000_000, 250_000, 1_000_001, 0]


def test_a_tampered_ledger_is_unexplained(put, run, compare, ledger_path):
    """An amount edited behind tallymark's back does not agree with Langfuse any more."""
    put("t1")
    run()
    with sqlite3.connect(ledger_path) as database:
        database.execute("drop trigger entry_is_append_only")
        database.execute("update meter_event set credits = credits + 7")
    database.close()

    assert causes(compare()) == {"unexplained_ledger": "7.000000", "unexplained_stripe": "-7.000000"}


def test_summaries_that_lag_are_in_flight(put, run, compare, clock, settings):
    """Stripe's summaries are eventually consistent: what was accepted a minute ago may not show."""
    stripe = SandboxStripe(clock=clock, summary_lag_seconds=1800)
    stripe.add_meter("credits")
    put("t1")
    to = settings(bill_to=stripe)
    run(to)

    assert causes(compare(to)) == {"in_flight": f"-{WORTH}"}
    clock.advance(7200)
    assert causes(compare(to)) == {}


# ---- how it asks, and what it writes


def test_customers_without_meter_events_cost_no_request(put, run, compare, stripe):
    """Held usage and usage of others is not asked for at Stripe."""
    put("t1")
    put("t2", customer=None)
    run()
    stripe.clear_requests()

    compare()

    assert stripe.counts()["GET /v1/billing/meters/{id}/event_summaries"] == 1


def test_days_are_compared_where_buckets_are_days(put, run, compare, settings):
    """Buckets of a day cannot be told apart by hour."""
    put("t1", minutes_ago=60)
    put("t2", minutes_ago=300)
    to = settings(BILLING_METER_BUCKET="day")
    run(to)

    found = compare(to)

    assert found.by == "day"
    assert causes(found) == {}


@pytest.mark.parametrize("bucket", ["minute", "trace"])
def test_narrow_buckets_are_compared_by_hour(put, run, compare, settings, bucket):
    """Several meter events in one hour are one sum."""
    put("t1", minutes_ago=61)
    put("t2", minutes_ago=70)
    to = settings(BILLING_METER_BUCKET=bucket)
    run(to)

    found = compare(to)

    assert found.by == "hour"
    assert causes(found) == {}
    assert found.total.stripe == f"{2 * CREDITS_OF_A_TRACE}.000000"


def test_the_page_and_the_table_hold_every_number(put, run, compare, langfuse):
    """The page shows customers, causes and remedies, escaped; the table has a row for each window."""
    put("t1", customer="cus_<b>")
    put("t2", minutes_ago=300, customer="cus_2")
    run()
    langfuse.delete_trace(PROJECT, "t2")
    found = compare()

    page, table = page_of(found), table_of(compare.audit)

    assert "cus_&lt;b&gt;" in page and "<b>" not in page
    assert WORTH in page and "not in langfuse" in page and found.chain in page
    assert table.splitlines()[0].startswith("customer,meter,window,langfuse,entries,accepted,stripe,settling")
    assert len(table.splitlines()) == 3
