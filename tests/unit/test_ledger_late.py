"""Late usage in the ledger alone: how buckets are split and held, what a claim stops, and clocks that were wrong."""

import pytest

from databases import DATABASES
from ledger_lines import ACCEPTED, NOW_US, REJECTED, RUN, THROTTLED, UNKNOWN, adjust, bill, claim_one, gather_all, later
from tallymark.core.choices import Choice
from tallymark.core.clock import DAY_US, MINUTE_US
from tallymark.core.periods import Lateness, Period
from tallymark.ledger.held import Word, decide_meter_events
from tallymark.ledger.periods import Checked, lanes_to_check, periods_txn, put_periods

pytestmark = pytest.mark.databases(*DATABASES)

SEND = Lateness(None)


@pytest.fixture
def know(ledger):
    """A function that lets the ledger know periods of a customer."""

    def put(*periods, customer="cus_1", at_us=NOW_US):
        put_periods(ledger, [Checked(customer, "credits", [Period("si_1", *each) for each in periods])], at_us)

    return put


@pytest.fixture
def events(look):
    """A function that gives state, reason, entries and bucket (minutes before now) of each meter event."""

    def read():
        rows = look(
            "select state, reason, entries_micros, bucket_start_us, bucket_end_us from meter_event order by 4, 5"
        )
        return [(*row[:3], (NOW_US - row[3]) // MINUTE_US, (NOW_US - row[4]) // MINUTE_US) for row in rows]

    return read


def period_ending(minutes_ago):
    """A period of 30 days, and the next one."""
    end_us = NOW_US - minutes_ago * MINUTE_US
    return (end_us - 30 * DAY_US, end_us), (end_us, end_us + 30 * DAY_US)


# ---- gathering


def test_a_part_whose_period_is_final_is_held(ledger, know, events):
    """The other part of the same hour is to be sent."""
    know(*period_ending(90))
    bill(ledger, "late", minutes_ago=100)
    bill(ledger, "in-time", minutes_ago=80)

    gather_all(ledger)

    assert events() == [("held", "late_period", 2_500_000, 120, 90), ("pending", "", 2_500_000, 90, 60)]


def test_all_parts_share_the_carry_in_their_order(ledger, know, look):
    """2.5 credits before the boundary and 2.5 after it: 2 held, 3 to be sent."""
    know(*period_ending(90))
    bill(ledger, "late", minutes_ago=100)
    bill(ledger, "in-time", minutes_ago=80)

    gather_all(ledger)

    found = look("select credits, carry_before_micros, carry_after_micros from meter_event order by bucket_start_us")
    assert found == [(2, 0, 500_000), (3, 500_000, 0)]


def test_late_usage_of_a_bucket_that_was_gathered_whole_gets_its_own_part(ledger, know, events):
    """Before the boundary was known the hour was one bucket; identifiers differ."""
    bill(ledger, "t1", minutes_ago=100)
    gather_all(ledger)
    know(*period_ending(90))
    bill(ledger, "t2", minutes_ago=100)
    gather_all(ledger)

    assert events() == [("held", "late_period", 2_500_000, 120, 90), ("pending", "", 2_500_000, 120, 60)]


def test_what_is_too_old_is_too_old_before_it_is_late(ledger, know, events):
    """Stripe would refuse it in any period."""
    know(*period_ending(90))
    bill(ledger, "t1", minutes_ago=36 * 24 * 60)

    gather_all(ledger)

    assert [event[:2] for event in events()] == [("held", "too_old")]


def test_with_send_nothing_is_held_as_late(ledger, know, events):
    """The bucket is split all the same, so that Stripe sorts each part into its period."""
    know(*period_ending(90))
    bill(ledger, "late", minutes_ago=100)
    bill(ledger, "in-time", minutes_ago=80)

    while ledger.gather(RUN, 10, SEND):
        pass

    assert [event[:2] for event in events()] == [("pending", ""), ("pending", "")]


def test_usage_that_came_to_less_lowers_what_waits_in_its_bucket(ledger, know, look):
    """Held 2.5, then 1 less: one meter event of 1.5 waits, and nothing is in the carry but its half credit."""
    know(*period_ending(90))
    bill(ledger, "late", minutes_ago=100)
    gather_all(ledger)
    adjust(ledger, "late", -1_000_000, minutes_ago=100)
    gather_all(ledger)

    assert look("select state, revision, entries_micros from meter_event order by revision") == [
        ("cancelled", 0, 2_500_000),
        ("held", 1, 1_500_000),
    ]
    assert look("select amount_micros from carry") == [(500_000,)]
    assert look("select who, verb from decision") == [("tallymark", "correct")]


def test_what_another_trace_gives_back_does_not_wait(ledger, know, look):
    """Only a trace's own usage that waits is lowered; what was billed before is given back in the carry at once."""
    bill(ledger, "paid", 5_000_000, minutes_ago=100)
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), ACCEPTED)], later(1))
    know(*period_ending(60))
    bill(ledger, "late", minutes_ago=100)
    gather_all(ledger)
    adjust(ledger, "paid", -2_000_000, minutes_ago=100)
    gather_all(ledger)

    found = look("select state, entries_micros from meter_event order by revision")
    assert found == [("accepted", 5_000_000), ("held", 2_500_000), ("carried", -2_000_000)]


def test_more_usage_for_a_held_bucket_is_a_meter_event_of_its_own(ledger, know, events):
    """Nothing is rebuilt without need."""
    know(*period_ending(90))
    bill(ledger, "late", minutes_ago=100)
    gather_all(ledger)
    bill(ledger, "later", minutes_ago=100)
    gather_all(ledger)

    assert events() == [("held", "late_period", 2_500_000, 120, 90)] * 2


# ---- claiming


def test_what_became_late_before_it_was_sent_is_held(ledger, know, events):
    """Its invoice became final while Stripe was busy."""
    know(*period_ending(30))
    bill(ledger, "t1", minutes_ago=45)
    gather_all(ledger)
    claim = claim_one(ledger)
    ledger.settle([(claim, THROTTLED)], later(1))

    assert ledger.claim(later(40 * 60), 10) == []
    assert [event[:2] for event in events()] == [("held", "late_period")]


def test_a_refused_one_is_held_too_once_it_is_late(ledger, know, events):
    """It was not counted."""
    know(*period_ending(30))
    bill(ledger, "t1", minutes_ago=45)
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), REJECTED)], later(1))
    ledger.reopen_rejected()

    assert ledger.claim(later(40 * 60), 10) == []
    assert [event[:2] for event in events()] == [("held", "late_period")]


def test_what_became_too_old_before_it_was_sent_is_held(ledger, events):
    """Stripe would refuse it for ever."""
    bill(ledger, "t1", minutes_ago=60)
    gather_all(ledger)

    assert ledger.claim(NOW_US + 35 * DAY_US, 10) == []
    assert [event[:2] for event in events()] == [("held", "too_old")]


def test_an_unanswered_one_is_in_doubt_as_soon_as_its_invoice_is_final(ledger, know, events):
    """Another send could not tell whether the first came in time."""
    know(*period_ending(30))
    bill(ledger, "t1", minutes_ago=45)
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), UNKNOWN)], later(1))
    (again,) = ledger.claim(later(28 * 60), 10)
    ledger.settle([(again, UNKNOWN)], later(28 * 60))

    assert ledger.claim(later(40 * 60), 10) == []
    assert [event[:2] for event in events()] == [("in_doubt", "")]


def test_an_unanswered_one_that_a_person_released_is_sent_again(ledger, know, look):
    """It is late for certain, and was sent all the same: its identifier decides within the day."""
    know(*period_ending(30))
    bill(ledger, "t1", minutes_ago=45)
    gather_all(ledger)
    assert ledger.claim(later(40 * 60), 10) == []
    ((meter_event_id,),) = look("select meter_event_id from meter_event where state = 'held'")
    decide_meter_events(ledger, RUN, Word(Choice.AS_IS, "anna", "it is a draft"), [meter_event_id])
    ledger.settle([(claim_one(ledger, later(3600)), UNKNOWN)], later(3601))

    assert len(ledger.claim(later(2 * 3600), 10)) == 1


# ---- clocks


def test_a_retry_that_a_wrong_clock_put_off_is_due_at_once(ledger):
    """No delay is as long as that."""
    bill(ledger, "t1")
    gather_all(ledger)
    ledger.settle([(claim_one(ledger, later(20 * 86_400)), THROTTLED)], later(20 * 86_400))

    assert len(ledger.claim(NOW_US, 10)) == 1


def test_a_claim_of_a_wrong_clock_is_freed(ledger, look, monkeypatch):
    """Its owner cannot be asked, and its time would never come."""
    monkeypatch.setattr("tallymark.ledger.owner.this_process", lambda: "elsewhere/boot/ns|1|1")
    bill(ledger, "t1")
    gather_all(ledger)
    claim_one(ledger, later(20 * 86_400))

    ledger.claim(NOW_US, 10)

    # How old its send is nobody knows, so it is not repeated.
    assert look("select state from meter_event") == [("in_doubt",)]


def test_an_unanswered_send_from_the_future_is_in_doubt(ledger, look):
    """Its age is not known; a few minutes are a difference of clocks."""
    bill(ledger, "t1")
    bill(ledger, "t2", customer="cus_2")
    gather_all(ledger)
    first, second = ledger.claim(later(4 * 60), 10)
    ledger.settle([(first, UNKNOWN)], later(4 * 60))
    ledger.settle([(second, UNKNOWN)], later(4 * 60))

    assert len(ledger.claim(NOW_US, 10)) == 0
    assert look("select distinct state from meter_event") == [("pending",)]
    ledger.claim(later(-2 * 60), 10)
    assert look("select distinct state from meter_event") == [("in_doubt",)]


# ---- periods


def lanes(ledger, at_us=NOW_US):
    return [customer for customer, _ in lanes_to_check(ledger, at_us)]


def test_who_has_money_to_send_and_no_known_period_is_looked_up(ledger, know):
    """Open entries, and meter events that wait to be sent; once."""
    bill(ledger, "t1")
    bill(ledger, "t2", customer="cus_2")
    gather_all(ledger)
    bill(ledger, "t3")

    assert lanes(ledger) == ["cus_1", "cus_2"]
    know(*period_ending(90))
    assert lanes(ledger) == ["cus_2"]


def test_a_known_period_is_good_until_it_ends(ledger, know):
    """Then the next one is asked for."""
    bill(ledger, "t1")
    end_us = NOW_US + 5 * DAY_US
    know((NOW_US - DAY_US, end_us))

    assert lanes(ledger, end_us - 1) == []
    assert lanes(ledger, end_us) == ["cus_1"]
    know((NOW_US - DAY_US, end_us), (end_us, end_us + DAY_US), at_us=end_us)
    assert lanes(ledger, end_us) == []


def test_who_has_no_subscription_is_looked_up_again_after_a_day(ledger, know):
    """Also one whose subscription was cancelled long ago."""
    bill(ledger, "t1")
    bill(ledger, "t2", customer="cus_2")
    know()
    know((NOW_US - 40 * DAY_US, NOW_US - 10 * DAY_US), customer="cus_2")

    assert lanes(ledger, NOW_US + DAY_US - 1) == []
    assert lanes(ledger, NOW_US + DAY_US) == ["cus_1", "cus_2"]


def test_a_lookup_of_a_wrong_clock_is_repeated(ledger, know):
    """Or nobody would be looked up until its time comes."""
    bill(ledger, "t1")
    know(at_us=NOW_US + 20 * DAY_US)

    assert lanes(ledger) == ["cus_1"]


def test_a_reset_cycle_leaves_no_boundary_that_never_was(ledger, know):
    """The expected end goes; where the next period began is the boundary."""
    know((NOW_US, NOW_US + 30 * DAY_US))
    know((NOW_US + 15 * DAY_US, NOW_US + 45 * DAY_US), at_us=NOW_US + 31 * DAY_US)

    with ledger.transaction("test") as db:
        found = periods_txn(db, "cus_1", "credits")
    # The first of them is the one before the first that was read.
    assert [(p.start_us - NOW_US, p.end_us - NOW_US) for p in found[1:]] == [
        (0, 15 * DAY_US),
        (15 * DAY_US, 45 * DAY_US),
    ]
