"""The ledger alone: claims, answers, doubt and marks, read back from a second connection."""

import os
import subprocess
import sys

import pytest

from builders import PROJECT, read_trace
from databases import DATABASES
from ledger_lines import (
    ACCEPTED,
    NOW_US,
    REJECTED,
    RUN,
    THROTTLED,
    UNKNOWN,
    bill,
    charge,
    claim_one,
    entry,
    gather_all,
    later,
)
from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.core.states import Answer, MeterOutcome
from tallymark.failpoints import Step
from tallymark.ledger import open_ledger, owner, sending
from tallymark.ledger.sending import CLAIM_SECONDS, LAST_CALL_SECONDS

pytestmark = pytest.mark.databases(*DATABASES)


@pytest.fixture
def sent_event(ledger):
    """One trace worth 2.5 credits, gathered and claimed."""
    bill(ledger, "t1")
    gather_all(ledger)
    return claim_one(ledger)


def state(look):
    return look("select state from meter_event order by created_at_us, revision")[-1][0]


# ---- claims


def test_one_claim_at_a_time_for_each_customer_and_meter(ledger):
    """Stripe allows one call in flight per customer and meter; of each the oldest bucket goes first."""
    for number, hours_ago in enumerate((3, 2, 1)):
        bill(ledger, f"a{number}", minutes_ago=60 * hours_ago)
    bill(ledger, "b1", customer="cus_2")
    bill(ledger, "c1", meter="compute")
    gather_all(ledger)

    claims = ledger.claim(NOW_US, 10)

    assert [(claim.customer_id, claim.meter) for claim in claims] == [
        ("cus_1", "compute"),
        ("cus_1", "credits"),
        ("cus_2", "credits"),
    ]
    assert claims[1].timestamp_s * SECOND_US == NOW_US - 3 * HOUR_US
    assert ledger.claim(NOW_US, 10) == []


def test_customers_take_turns(ledger):
    """However much one of them owes: who was not offered last time comes first, and nobody is left out."""
    for customer in ("cus_1", "cus_2", "cus_3"):
        for hours_ago in (3, 2):
            bill(ledger, f"{customer}-{hours_ago}", minutes_ago=60 * hours_ago, customer=customer)
    gather_all(ledger)
    offered = []
    for _ in range(3):
        claims = ledger.claim(NOW_US, 2)
        offered += [claim.customer_id for claim in claims]
        ledger.settle([(claim, ACCEPTED) for claim in claims], later(1))

    assert offered == ["cus_1", "cus_2", "cus_3", "cus_1", "cus_2", "cus_3"]


def test_a_claim_and_its_attempt_are_committed_before_anything_is_sent(sent_event, look):
    """After a crash the row itself says that an answer may be missing."""
    assert look("select state, attempt, claimed_until_us from meter_event") == [
        ("sending", 1, NOW_US + CLAIM_SECONDS * SECOND_US)
    ]
    assert look("select attempt, idempotency_key, outcome from attempt") == [(1, sent_event.idempotency_key, None)]


def test_a_second_process_gets_nothing_that_is_claimed(sent_event, ledger_url):
    """Two processes on one ledger never send the same meter event at the same time."""
    other = open_ledger(ledger_url)

    assert other.claim(later(CLAIM_SECONDS - 1), 10) == []
    other.close()


def test_a_claim_is_freed_when_its_time_is_over(sent_event, ledger):
    """The new attempt has the same identifier, another idempotency key, and remembers the first unanswered send."""
    again = claim_one(ledger, later(CLAIM_SECONDS))

    assert again.meter_event_id == sent_event.meter_event_id
    assert again.attempt == 2
    assert again.idempotency_key != sent_event.idempotency_key
    assert again.unanswered_since_us == NOW_US


def test_a_claim_of_a_dead_process_is_freed_soon(ledger, look, monkeypatch):
    """A killed run's meter events go on with the next run, not a minute later; but its last call may be on its way."""
    script = "from tallymark.ledger import owner; print(owner.this_process())"
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    bill(ledger, "t1")
    gather_all(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(owner, "this_process", lambda: dead)
        first = claim_one(ledger)

    assert ledger.claim(later(20), 10) == ledger.claim(later(20 + LAST_CALL_SECONDS - 1), 10) == []
    assert look("select claimed_until_us from meter_event") == [(later(20 + LAST_CALL_SECONDS),)]
    again = claim_one(ledger, later(20 + LAST_CALL_SECONDS))

    assert (again.meter_event_id, again.attempt) == (first.meter_event_id, 2)
    assert again.unanswered_since_us == NOW_US


@pytest.mark.parametrize("name", ["|1|1", "another-machine/boot/pid:[1]|1|1"])
def test_an_owner_of_another_machine_is_never_called_dead(name):
    """Only time frees a claim whose owner cannot be looked for."""
    assert not owner.is_dead(name)


def test_a_process_is_not_dead_while_it_lives():
    """This process is its own proof."""
    assert not owner.is_dead(owner.this_process())


def test_a_process_that_nobody_reaped_is_dead():
    """Under a parent that does not wait for it, a killed process stays in the table; it sends nothing any more."""
    script = "from tallymark.ledger import owner; print(owner.this_process(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        name = child.stdout.readline().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert owner.is_dead(name)


def test_a_reused_process_id_does_not_look_alive():
    """The same number, started at another time, is another process."""
    machine, process_id, started = owner.this_process().split("|")

    assert owner.is_dead(f"{machine}|{process_id}|{int(started) - 1}")


# ---- answers


@pytest.mark.parametrize("answer", [Answer.ACCEPTED, Answer.DUPLICATE])
def test_accepted_and_duplicate_both_mean_delivered(sent_event, ledger, look, answer):
    """A duplicate answer says that an earlier send arrived; either way the trace is due for its mark (G1, G5)."""
    ledger.settle([(sent_event, MeterOutcome(answer, "fine"))], later(1))

    assert state(look) == "accepted"
    assert look("select mark_state from trace") == [("owed",)]
    assert ledger.claim(later(3600), 10) == []


@pytest.mark.parametrize("outcome", [UNKNOWN, THROTTLED, REJECTED])
def test_no_mark_before_acceptance(sent_event, ledger, look, outcome):
    """Marks follow money (G5)."""
    ledger.settle([(sent_event, outcome)], later(1))

    assert look("select mark_state from trace") == [("waiting",)]


def test_a_throttled_send_waits_as_long_as_it_was_asked_to(sent_event, ledger):
    """429 with Retry-After: 2."""
    ledger.settle([(sent_event, THROTTLED)], later(1))

    assert ledger.next_attempt_at_us() == later(3)
    assert ledger.claim(later(3) - 1, 10) == []
    assert claim_one(ledger, later(3)).unanswered_since_us is None


def test_an_unknown_answer_is_retried_with_the_same_identifier(sent_event, ledger):
    """It may have been counted; only the identifier makes the repeat safe."""
    ledger.settle([(sent_event, UNKNOWN)], later(1))

    again = claim_one(ledger, later(10))

    assert again.meter_event_id == sent_event.meter_event_id
    assert (again.credits, again.timestamp_s) == (sent_event.credits, sent_event.timestamp_s)
    assert again.unanswered_since_us == NOW_US


def test_the_first_unanswered_send_counts_not_the_last(sent_event, ledger):
    """Doubt is measured from the earliest send that may have been counted."""
    ledger.settle([(sent_event, UNKNOWN)], later(1))
    second = claim_one(ledger, later(10))
    ledger.settle([(second, UNKNOWN)], later(11))

    assert claim_one(ledger, later(60)).unanswered_since_us == NOW_US


def test_an_abandoned_repeat_does_not_make_the_first_send_younger(sent_event, ledger):
    """Unanswered, repeated, and that repeat abandoned: doubt is still measured from the first send."""
    ledger.settle([(sent_event, UNKNOWN)], later(1))
    claim_one(ledger, later(10))

    assert claim_one(ledger, later(10 + CLAIM_SECONDS)).unanswered_since_us == NOW_US


@pytest.mark.parametrize("outcome", [ACCEPTED, REJECTED, UNKNOWN, THROTTLED])
def test_an_old_attempts_answer_changes_nothing(sent_event, ledger, look, outcome):
    """Fenced: who lost the claim no longer decides, and the new owner's answer stands."""
    newer = claim_one(ledger, later(CLAIM_SECONDS))
    before = look("select * from meter_event"), look("select mark_state from trace")

    ledger.settle([(sent_event, outcome)], later(CLAIM_SECONDS + 1))

    assert (look("select * from meter_event"), look("select mark_state from trace")) == before
    ledger.settle([(newer, ACCEPTED)], later(CLAIM_SECONDS + 2))
    assert state(look) == "accepted"


def test_an_answer_that_comes_after_the_claim_was_freed_changes_nothing(sent_event, ledger, look):
    """Freed and not yet claimed again: the old owner is fenced out all the same."""
    with ledger.transaction(Step.CLAIM) as database:
        sending.free_abandoned_txn(database, later(CLAIM_SECONDS))

    ledger.settle([(sent_event, ACCEPTED)], later(CLAIM_SECONDS + 1))

    assert state(look) == "pending"


def test_a_late_answer_never_reopens_what_is_accepted(sent_event, ledger, look):
    """Twice the same answer is once."""
    ledger.settle([(sent_event, ACCEPTED)], later(1))
    ledger.settle([(sent_event, UNKNOWN)], later(2))

    assert state(look) == "accepted"


def test_every_attempt_is_kept_with_its_answer(sent_event, ledger, look):
    """The ledger can tell how a meter event was delivered."""
    ledger.settle([(sent_event, UNKNOWN)], later(1))
    ledger.settle([(claim_one(ledger, later(10)), ACCEPTED)], later(11))

    assert look("select attempt, outcome, answer from attempt order by attempt") == [
        (1, "unknown", "no answer"),
        (2, "accepted", "taken"),
    ]


def test_a_rejected_meter_event_is_offered_again_unchanged(sent_event, ledger):
    """It was not counted, and its cause may be mended: the next run tries the same identifier."""
    ledger.settle([(sent_event, REJECTED)], later(1))
    assert ledger.claim(later(3600), 10) == []

    assert ledger.reopen_rejected() == 1
    assert claim_one(ledger, later(3600)).meter_event_id == sent_event.meter_event_id


# ---- doubt


def doubted_after(ledger, claim, hours):
    ledger.settle([(claim, UNKNOWN)], later(1))
    return ledger.claim(NOW_US + int(hours * HOUR_US), 10)


def test_an_unanswered_send_is_repeated_within_stripes_promise(sent_event, ledger, look):
    """Up to 23 hours Stripe certainly knows the identifier (24 h, less the margin)."""
    assert len(doubted_after(ledger, sent_event, 23)) == 1
    assert state(look) == "sending"


def test_an_unanswered_send_past_the_promise_is_never_sent_again(sent_event, ledger, look):
    """It becomes in doubt, and nothing that a run does offers it again (G1)."""
    assert doubted_after(ledger, sent_event, 23.001) == []
    assert state(look) == "in_doubt"

    ledger.reopen_rejected()
    gather_all(ledger)
    assert ledger.claim(NOW_US + 48 * HOUR_US, 10) == []
    assert ledger.next_attempt_at_us() is None
    assert ledger.open_meter_events() == {"in_doubt": 1}


def test_a_claim_abandoned_for_a_day_is_in_doubt(sent_event, ledger, look):
    """A process killed after sending, and nobody ran for a day: the send may have been counted."""
    assert ledger.claim(NOW_US + 24 * HOUR_US, 10) == []

    assert state(look) == "in_doubt"


def test_a_rejection_after_an_unknown_answer_still_ends_in_doubt(sent_event, ledger, look):
    """The first send may have been counted, whatever the second one was told."""
    ledger.settle([(sent_event, UNKNOWN)], later(1))
    ledger.settle([(claim_one(ledger, later(10)), REJECTED)], later(11))

    assert ledger.claim(NOW_US + 24 * HOUR_US, 10) == []
    assert state(look) == "in_doubt"


def test_a_meter_event_that_was_certainly_never_sent_is_no_doubt(ledger, look):
    """Old and pending, or rejected and throttled only: it may be sent."""
    bill(ledger, "t1")
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), THROTTLED)], later(1))

    assert len(ledger.claim(NOW_US + 30 * HOUR_US, 10)) == 1


# ---- marks


def test_a_trace_is_marked_when_all_its_lines_are_accepted(ledger, look):
    """Two meters, two meter events: the mark waits for both (G5)."""
    trace = read_trace("t1")
    lines = entry(trace, 2_000_000), entry(trace, 3_000_000, meter="compute")
    ledger.record(RUN, [trace], lambda one, _: charge(one, *lines))
    gather_all(ledger)
    first, second = ledger.claim(NOW_US, 10)

    ledger.settle([(first, ACCEPTED)], later(1))
    assert look("select mark_state from trace") == [("waiting",)]
    ledger.settle([(second, ACCEPTED)], later(2))
    assert look("select mark_state from trace") == [("owed",)]


def test_marks_are_listed_page_by_page(ledger):
    """In order of their ids, after a given one."""
    for trace_id in ("a", "b", "c"):
        bill(ledger, trace_id, 1)
    gather_all(ledger)

    assert [row["trace_id"] for row in ledger.owed_marks(PROJECT, "", 2)] == ["a", "b"]
    assert [row["trace_id"] for row in ledger.owed_marks(PROJECT, "b", 2)] == ["c"]
    assert ledger.owed_marks("another project", "", 2) == []


def test_a_refused_mark_stays_owed_and_says_why(ledger, look):
    """The next run writes it again."""
    bill(ledger, "a", 1)
    bill(ledger, "b", 1)
    gather_all(ledger)

    ledger.settle_marks([(PROJECT, "a")], {(PROJECT, "b"): "400 too long"}, later(5))

    assert look("select trace_id, mark_state, mark_written_at_us, mark_problem from trace order by trace_id") == [
        ("a", "written", later(5), None),
        ("b", "owed", None, "400 too long"),
    ]
