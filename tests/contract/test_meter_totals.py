"""Running totals for pre-aggregated meters: Stripe counts the last meter event of a window, and that is all of it.

The judge is the sandbox, which lets the last one received in each window count, and dates the window by it.
"""

import contextlib

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from databases import DATABASES, SQLITE, run_script
from tallymark.api import explain
from tallymark.core.choices import Choice
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_time
from tallymark.core.states import Answer, Claim, WindowTotal
from tallymark.errors import ConfigError, MeterError
from tallymark.flows.held import held
from tallymark.flows.held_decisions import release
from tallymark.flows.meter_events import one_meter_event
from tallymark.flows.reconcile import reconcile
from tallymark.ledger import open_ledger
from tallymark.meter.stripe_events import StripeMeter
from tallymark.meter.stripe_stream import StripeStream
from tallymark.meter.stripe_totals import StripeTotals
from tallymark.meter.stripe_v2 import StripeV2Meter
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

SENDS = "/v1/billing/meter_events"
WINDOW_US = {"hour": HOUR_US, "day": DAY_US}
on_both_windows = pytest.mark.parametrize("stripe", WINDOW_US, indirect=True)
by_hours = pytest.mark.parametrize("stripe", ["hour"], indirect=True)
by_days = pytest.mark.parametrize("stripe", ["day"], indirect=True)
on_sqlite = pytest.mark.databases(SQLITE)


@pytest.fixture
def stripe(clock, request):
    """A sandbox Stripe whose meter "credits" counts the last meter event of each hour, or day, only."""
    sandbox = SandboxStripe(clock=clock)
    sandbox.add_meter("credits", window=getattr(request, "param", "hour"))
    return sandbox


@pytest.fixture
def settings(settings):
    """Settings by which running totals are sent."""
    return lambda **changes: settings(**{"BILLING_METER_API": "totals", **changes})


def sends_lost(fault, limit=None):
    """Faults that only sends of meter events meet."""
    return Faults(0, {fault: 1}, limit=limit, only=lambda request: request.path == SENDS, hang_seconds=0.01)


@pytest.fixture
def counted(stripe):
    """A function: what Stripe counts, by customer."""
    return lambda: {customer: int(credits) for (customer, _), credits in stripe.tally().items()}


@pytest.fixture
def accepted(look):
    """A function: what the ledger holds for accepted, by customer; and how many meter events are in other states."""

    def read():
        rows = look("select customer_id, sum(credits) from meter_event where state = 'accepted' group by 1")
        others = look("select state, count(*) from meter_event where state not in ('accepted', 'carried') group by 1")
        return {customer: int(credits) for customer, credits in rows}, dict(others)

    return read


@pytest.fixture
def explained(settings, clock):
    """A function: whether a reconciliation explains every difference, and the causes that it found."""

    def read(**options):
        found, _ = reconcile(settings(), clock=clock, **options)
        return found.explained, {line.cause for line in found.causes}

    return read


def traces(count):
    return count * CREDITS_OF_A_TRACE


# ---- the story


@on_both_windows
def test_each_sync_sets_the_window_to_all_of_it(put, run, clock, stripe, counted, accepted, explained):
    """Three syncs of one window, two customers, late usage of windows before: the tally is exact after each."""
    for number in range(3):
        put(f"a{number}", at_us=clock.now_us() - 20 * MINUTE_US)
        put(f"b{number}", at_us=clock.now_us() - 20 * MINUTE_US, customer="cus_2")
        put(f"c{number}", at_us=NOW_US - 2 * DAY_US + number * MINUTE_US)
        summary = run(full=True)
        assert counted() == {"cus_1": traces(2 * number + 2), "cus_2": traces(number + 1)}
        assert (summary.failed, summary.exit_status) == (0, 0)
        clock.advance(5 * 60)

    assert accepted() == (counted(), {})
    values = [int(one.value) for one in stripe.meter_events() if one.customer == "cus_2"]
    assert values == [traces(1), traces(2), traces(3)]
    assert explained() == (True, set())


@on_both_windows
@pytest.mark.parametrize("bucket", ["minute", "hour", "day"])
@on_sqlite
def test_a_window_holds_all_buckets_that_are_dated_in_it(bucket, put, run, settings, stripe, look, counted, accepted):
    """Whichever is wider, bucket or window; a total is dated by the latest usage in it, and never earlier again."""
    for number, minutes_ago in enumerate([15, 17, 50, 130, 700, 1500]):
        put(f"t{number}", minutes_ago=minutes_ago)
    run(settings(BILLING_METER_BUCKET=bucket), full=True)
    put("late", minutes_ago=51)
    run(settings(BILLING_METER_BUCKET=bucket), full=True)

    assert counted() == {"cus_1": traces(7)}
    assert accepted() == (counted(), {})
    ((window_s,),) = look("select window_s from meter_window")
    dates = {}
    for one in stripe.meter_events():
        window = one.timestamp_seconds // window_s
        assert one.timestamp_seconds >= dates.setdefault(window, 0)
        dates[window] = one.timestamp_seconds


@on_sqlite
def test_usage_that_comes_to_less_is_carried_into_the_next(put, run, clock, counted, look, accepted):
    """What is given back lowers what the window's next total adds."""
    put("t1", minutes_ago=20)
    run()
    put("t1", minutes_ago=20, cost="0.001")
    run(full=True)
    assert counted() == {"cus_1": traces(1)}
    put("t2", minutes_ago=18)
    run()

    carry = int(look("select amount_micros from carry")[0][0])
    assert (counted()["cus_1"], carry) == (traces(2) - 225, 0)
    assert accepted() == (counted(), {})


# ---- what goes wrong on the way


@by_days
@on_sqlite
@pytest.mark.parametrize(
    "fault", ["reset_after", "reset_before", "error_after", "error_before", "rate_limited", "html"]
)
def test_what_goes_wrong_on_the_way_is_set_again(fault, put, run, settings, clock, counted, accepted, explained):
    """Lost requests, lost answers, 5xx and 429 alike, at the first total of a window and at a later one."""
    for number in range(2):
        put(f"t{number}", at_us=clock.now_us() - 20 * MINUTE_US)
        put(f"u{number}", minutes_ago=40)
        summary = run(settings(stripe_faults=sends_lost(Fault[fault.upper()], limit=2)))
        assert summary.exit_status == 0
        clock.advance(60)

    assert counted() == {"cus_1": traces(4)}
    assert accepted() == (counted(), {})
    assert explained()[0]


@by_hours
def test_while_one_has_no_answer_no_other_is_sent(put, run, settings, clock, stripe, counted, accepted, look):
    """New usage of the same window waits, also in an older bucket; then both are in the total."""
    in_minutes = {"BILLING_METER_BUCKET": "minute"}
    put("first", minutes_ago=30)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER), **in_minutes))
    put("older", minutes_ago=40)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER), **in_minutes), full=True)

    assert {one.identifier for one in stripe.meter_events()} == {look("select meter_event_id from attempt")[0][0]}
    assert look("select state, attempt > 0 from meter_event order by bucket_start_us") == [
        ("pending", 0),
        ("pending", 1),
    ]

    run(settings(**in_minutes), full=True)

    assert [int(one.value) for one in stripe.meter_events()] == [traces(1), traces(2)]
    assert counted() == {"cus_1": traces(2)}
    assert accepted() == (counted(), {})


@on_both_windows
@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
def test_what_has_no_answer_is_sent_again_at_any_age(fault, put, run, settings, clock, counted, accepted, explained):
    """Three days later, whether it arrived or not, with usage in the same window since: nothing is ever in doubt."""
    put("t1")
    run(settings(stripe_faults=sends_lost(fault)))
    clock.advance(3 * 86_400)
    put("t2", minutes_ago=61)

    summary = run(full=True)

    assert (summary.meter_events.in_doubt, summary.exit_status) == (0, 0)
    assert counted() == {"cus_1": traces(2)}
    assert accepted() == (counted(), {})
    clock.advance(2 * 3600)
    assert explained()[0]


@by_hours
@on_sqlite
def test_a_meter_that_was_off_meanwhile_drops_nothing(put, run, settings, clock, stripe, counted, accepted):
    """One has no answer, is then refused, and waits; newer usage waits with it instead of hiding it."""
    put("t1", minutes_ago=30)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER)))
    refuse, before_us = Refusing(stripe), clock.now_us()
    put("t2", minutes_ago=29)
    run(settings(bill_to=refuse), full=True)
    assert (refuse.refused, len(stripe.meter_events())) == (1, 1)
    assert clock.now_us() - before_us < MINUTE_US, "nobody waits for what this run cannot send"
    put("t3", minutes_ago=28)
    for _ in range(2):
        run(full=True)

    assert counted() == {"cus_1": traces(3)}
    assert accepted() == (counted(), {})


class Refusing:
    """A Stripe that refuses the first meter event that it gets."""

    def __init__(self, service):
        self.service, self.refused = service, 0

    def handle(self, request):
        if request.path == SENDS and not self.refused:
            self.refused += 1
            body = b'{"error": {"type": "invalid_request_error", "message": "not today"}}'
            return Response(400, body, {"content-type": "application/json"})
        return self.service.handle(request)


@on_sqlite
@by_hours
def test_a_retry_that_says_another_total_has_another_identifier(put, run, settings, clock, stripe, counted, look):
    """Else Stripe would drop it as a duplicate of the one before, and its window would stay as it was."""
    put("t1", minutes_ago=30)
    run()
    put("t2", minutes_ago=29)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER)), full=True)
    run_script(settings().ledger_url, "update meter_event set credits = credits + 7 where state = 'accepted'")

    run()

    assert [one.identifier.count(".") for one in stripe.meter_events()] == [0, 0, 1]
    assert counted() == {"cus_1": traces(2) + 7}
    assert look("select window_total from attempt order by sent_at_us")[-1] == (traces(2) + 7,)
    run_script(settings().ledger_url, f"update meter_event set credits = credits - 7 where credits > {traces(1)}")


@by_days
def test_a_doubt_is_settled_by_the_sum_of_the_whole_day(put, run, settings, clock, counted, accepted):
    """Where a person, or a final invoice, has put one in doubt; an hour of such a day is worth nothing by itself."""
    put("t1", minutes_ago=240)
    run()
    put("t2", minutes_ago=60)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER)))
    run_script(settings().ledger_url, "update meter_event set state = 'in_doubt' where state = 'pending'")
    clock.advance(2 * 3600)

    summary = run()

    assert (summary.meter_events.settled, summary.meter_events.in_doubt) == (1, 0)
    assert counted() == {"cus_1": traces(2)}
    assert accepted() == (counted(), {})


@by_hours
@on_sqlite
def test_one_in_doubt_that_a_later_total_replaced_is_sent_again(put, run, settings, clock, counted, accepted, stripe):
    """It arrived, and the later total, which does not hold it, took its place: it gets another identifier."""
    put("t1", minutes_ago=50)
    run(settings(stripe_faults=sends_lost(Fault.RESET_AFTER)))
    run_script(settings().ledger_url, "update meter_event set state = 'in_doubt' where state = 'pending'")
    put("t2", minutes_ago=49)
    run(full=True)
    assert counted() == {"cus_1": traces(1)}
    clock.advance(2 * 3600)

    summary = run()

    assert summary.meter_events.settled == 1
    assert counted() == {"cus_1": traces(2)}
    assert accepted() == (counted(), {})
    assert len({one.identifier for one in stripe.meter_events()}) == 3


# ---- what Stripe reports later


@by_hours
@pytest.mark.parametrize("lost", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
@on_sqlite
def test_what_stripe_did_not_count_after_all_is_set_again(lost, put, run, clock, stripe, counted, accepted, explained):
    """Any of three totals of a window, told soon: whatever a later total holds is counted, the rest is sent again."""
    for number in range(3):
        if number in lost:
            stripe.reject_next(1, "meter_event_customer_not_found")
        put(f"t{number}", minutes_ago=50 - number)
        run(full=True)
        clock.advance(30)
    for hours in (0, 0, 2, 2, 2):
        clock.advance(hours * 3600 + 60)
        summary = run()

    assert counted() == {"cus_1": traces(3)}
    assert accepted() == (counted(), {})
    assert (summary.meter_events.open_reports, summary.exit_status) == (0, 0)
    assert explained()[0]


@by_hours
def test_a_report_on_a_total_that_a_later_one_holds_takes_nothing_back(put, run, clock, counted, accepted, stripe):
    """Its usage is counted with the later one; an hour later the window's sum says so, and nobody need decide."""
    stripe.reject_next(1, "meter_event_no_customer_defined")
    put("t1", minutes_ago=50)
    run()
    put("t2", minutes_ago=49)
    run(full=True)
    clock.advance(900)

    summary = run()

    assert counted() == {"cus_1": traces(2)}
    assert accepted() == (counted(), {})
    assert (summary.meter_events.reported, summary.meter_events.open_reports) == (0, 1)
    clock.advance(3600)
    summary = run()
    assert (summary.meter_events.open_reports, summary.exit_status) == (0, 0)
    assert accepted() == (counted(), {})


@by_hours
@on_sqlite
def test_a_report_on_the_last_total_is_answered_at_once(put, run, clock, stripe, counted, accepted):
    """What it brought is counted by nothing else; the one before stays counted."""
    put("t1", minutes_ago=50)
    run()
    stripe.reject_next(1, "meter_event_no_customer_defined")
    put("t2", minutes_ago=49)
    run(full=True)
    assert counted() == {"cus_1": traces(1)}
    clock.advance(900)

    summary = run()

    assert (summary.meter_events.reported, summary.exit_status) == (1, 1)
    assert accepted() == ({"cus_1": traces(1)}, {"held": 1})
    put("t3", minutes_ago=48)
    run(full=True)
    assert counted() == {"cus_1": traces(2)}
    assert accepted() == ({"cus_1": traces(2)}, {"held": 1})


# ---- billing periods that end inside a window

# A period begins here every day, and the next time in less than three hours.
BOUNDARY_US = parse_time("2026-11-23T14:40:00Z")


@pytest.fixture
def subscribe(stripe):
    """A function that gives cus_1 a subscription with a period from the boundary of each day to that of the next."""

    def add(started_at_us=BOUNDARY_US - 20 * DAY_US, **changes):
        stripe.add_subscription("cus_1", "credits", started_at_us=started_at_us, **{"period": "day", **changes})

    return add


@pytest.fixture
def invoiced(stripe):
    """A function: what the final invoices bill, by the begin of their periods, empty ones left out."""
    return lambda: {one.period_start_us: int(one.credits) for one in stripe.invoiced("cus_1") if one.credits}


@on_both_windows
def test_each_period_is_invoiced_what_was_used_in_it(put, run, subscribe, clock, invoiced, accepted, explained):
    """Usage on both sides of a boundary inside a window, in several syncs: no credit changes sides."""
    subscribe()
    for minutes in (-110, -30, -15, -1, 0, 15, 19, 50):
        at_us = BOUNDARY_US + minutes * MINUTE_US
        put(f"t{minutes}", at_us=at_us)
        clock.advance(max(0, (at_us + 16 * MINUTE_US - clock.now_us()) / SECOND_US))
        assert run(full=True).exit_status == 0
    clock.advance(20 * 60)
    whole, causes = explained()
    clock.advance(2 * 86_400)

    assert invoiced() == {BOUNDARY_US - DAY_US: traces(4), BOUNDARY_US: traces(4)}
    assert accepted() == ({"cus_1": traces(8)}, {})
    assert (whole, causes <= {"redated", "in_flight"}) == (True, True)
    assert explained()[0]


@by_days
@on_sqlite
def test_what_is_dated_before_its_window_is_found_where_it_is(put, run, subscribe, settings, clock, look, explained):
    """Dated at the last second of the day before; its doubts, its day and its reconciliation look for it there."""
    subscribe()
    put("t1", at_us=NOW_US - 20 * MINUTE_US)

    run()

    (midnight,) = look("select timestamp_s from meter_event")
    assert midnight == (parse_time("2026-11-22T23:59:59Z") // SECOND_US,)
    assert explained(by="hour") == (True, {"redated"})


@on_both_windows
@on_sqlite
def test_a_boundary_that_is_known_too_late_holds_what_comes_after_it(
    put, run, subscribe, settings, clock, look, counted, invoiced, accepted, explained
):
    """Its window holds usage of the period before, which Stripe would move to the new one; billed otherwise."""
    put("before", at_us=BOUNDARY_US - 5 * MINUTE_US)
    clock.advance(3 * 3600)
    run()
    subscribe()
    clock.advance(600)
    put("after", at_us=BOUNDARY_US + 5 * MINUTE_US)
    run_script(settings().ledger_url, "delete from period_check")

    summary = run(full=True)

    assert (summary.held["window_cut"], summary.failed, summary.exit_status) == (1, 0, 1)
    assert look("select state, reason from meter_event order by timestamp_s") == [
        ("accepted", ""),
        ("held", "window_cut"),
    ]
    assert counted() == {"cus_1": traces(1)}
    with contextlib.closing(open_ledger(settings().ledger_url)) as ledger:
        (waiting,) = held(ledger, settings(), None, 10)["reasons"]
    assert (waiting["reason"], "a period began inside its window" in waiting["remedy"]) == ("window_cut", True)
    assert explained()[0]

    clock.advance(86_400)
    release(settings(), [], Choice.BILL_NOW, reason="window_cut", why="test", by="ann", clock=clock)
    clock.advance(900)
    run()
    clock.advance(2 * 86_400)

    assert accepted() == ({"cus_1": traces(2)}, {"cancelled": 1})
    assert sum(invoiced().values()) == traces(2)


@by_hours
@on_sqlite
def test_what_lies_between_two_boundaries_of_a_window_is_held(put, run, subscribe, clock, look):
    """Neither its own window nor the one before belongs to its period."""
    subscribe()
    subscribe(BOUNDARY_US + 10 * MINUTE_US - 20 * DAY_US)
    put("between", at_us=BOUNDARY_US + 5 * MINUTE_US)
    clock.advance(3 * 3600 + 600)

    assert run().held["window_cut"] == 1
    assert look("select state from meter_event") == [("held",)]


# ---- refusals


@on_sqlite
@pytest.mark.parametrize("api", ["v1", "v2", "stream"])
def test_such_a_meter_is_refused_by_the_other_apis(api, put, run, settings):
    """Before anything is sent; the message names what to set."""
    put("t1")
    with pytest.raises(MeterError, match=r"last meter event of each hour .*BILLING_METER_API=totals"):
        run(settings(BILLING_METER_API=api))


@on_sqlite
def test_totals_are_refused_by_any_other_meter(put, run, settings, clock, look):
    """Of all the meters that the settings name; the check of another API is not taken for its own."""
    plain = SandboxStripe(clock=clock)
    plain.add_meter("credits")
    put("t1")
    run(settings(bill_to=plain, BILLING_METER_API="v1"))
    put("t2")
    with pytest.raises(MeterError, match=r"adds up every meter event.*event_time_window is hour or day"):
        run(settings(bill_to=plain), full=True)

    assert len(plain.meter_events()) == 1
    assert look("select * from meter_window") == []


@on_sqlite
def test_buckets_of_single_traces_are_refused(settings):
    """Whether what they say besides is part of a window's key is not documented."""
    with pytest.raises(ConfigError, match=r"BILLING_METER_API is totals.*BILLING_METER_BUCKET"):
        settings(BILLING_METER_BUCKET="trace")


def claim(total=None):
    """A claim as the ledger makes it."""
    at_s = NOW_US // SECOND_US
    window = WindowTotal(total, at_s - at_s % 3600, at_s - at_s % 3600 + 3600, at_s) if total else None
    return Claim("a", "a", "cus_1", "credits", at_s, 5, "{}", 1, "a:1", None, NOW_US, window)


@on_sqlite
def test_no_adapter_sends_what_is_not_for_its_meters(serving, stripe, clock):
    """A total goes by totals only, and nothing else does; a batch of the stream goes without the totals in it."""
    url = serving(stripe)
    account = StripeMeter("sk_test_sandbox", clock, api_base=url, requests_per_second=10**6)
    stream = StripeStream(account, clock, base=url)

    refused = [
        StripeTotals(account).send(claim()),
        account.send(claim(9)),
        StripeV2Meter(account).send(claim(9)),
        *stream.send_batch([claim(9)]),
    ]

    assert [outcome.answer for outcome in refused] == [Answer.REJECTED] * 4
    assert all("BILLING_METER_API=" in outcome.detail for outcome in refused)
    assert stripe.meter_events() == []
    sent, left = stream.send_batch([claim(), claim(9)])
    assert (sent.answer, left.answer) == (Answer.STREAMED, Answer.REJECTED)


@on_sqlite
def test_an_answer_says_what_total_of_which_window(serving, stripe, clock):
    """What is accepted, and what is refused."""
    meter = StripeTotals(StripeMeter("sk_test_sandbox", clock, api_base=serving(stripe), requests_per_second=10**6))

    taken = meter.send(claim(9))

    assert taken.answer is Answer.ACCEPTED
    assert taken.detail == "taken (a total of 9 from 2026-11-23T12:00:00.000Z to 2026-11-23T13:00:00.000Z)"
    assert [one.value for one in stripe.meter_events()] == [9]


# ---- what is shown


@on_sqlite
@by_hours
def test_explain_and_the_meter_event_tell_each_total(put, run, settings, clock):
    """By attempt; the payload is what was sent last, and its own credits stand beside."""
    put("t1", minutes_ago=40)
    run()
    put("t2", minutes_ago=39)
    run(full=True)

    (entry,) = explain(settings(), "t2")["projects"][0]["entries"]
    assert [attempt["window_total"] for attempt in entry["meter_event"]["attempts"]] == [traces(2)]
    with contextlib.closing(open_ledger(settings().ledger_url)) as ledger:
        shown = one_meter_event(ledger, entry["meter_event"]["identifier"])
    assert (shown["credits"], shown["payload"]["value"]) == (traces(1), str(traces(2)))
