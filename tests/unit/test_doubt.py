"""What a window's value at Stripe says of the meter events in it: one answer, or none."""

import pytest

from tallymark.core.clock import HOUR_US
from tallymark.core.doubt import (
    NO_CUSTOMER,
    NOTHING,
    SUMMARY_MARGIN_US,
    Member,
    Value,
    Verdict,
    Window,
    fates_of,
    judge,
    may_be_proved,
    prove,
    quiet_from_us,
    spans_of,
    total,
    windows_of,
)
from tallymark.core.states import State

IN, OUT, OPEN = Verdict.COUNTED, Verdict.NOT_COUNTED, Verdict.UNDECIDED
HOUR = 3600


def worth(credits):
    return Value(credits, str(credits))


def doubtful(*credits):
    """Meter events in doubt of these credits, called "0", "1" and so on."""
    return [Member(str(number), State.IN_DOUBT, amount, 0) for number, amount in enumerate(credits)]


def accepted(credits, **changes):
    return Member("accepted", State.ACCEPTED, credits, 0, **changes)


def verdicts(value, members):
    """The verdicts in the order of the members that were unknown."""
    return list(judge(value, members).verdicts.values())


def streamed(*credits):
    """Meter events that were streamed a moment ago, called "s0", "s1" and so on."""
    return [
        Member(f"s{number}", State.STREAMED, amount, HOUR_US, unanswered=True) for number, amount in enumerate(credits)
    ]


# ---- one answer, or none


@pytest.mark.parametrize(
    ("said", "credits", "expected"),
    [
        (0, [5], [OUT]),
        (5, [5], [IN]),
        (0, [5, 5], [OUT, OUT]),
        (10, [5, 5], [IN, IN]),
        (5, [5, 5], [OPEN, OPEN]),
        (7, [5, 7], [OUT, IN]),
        (8, [3, 5], [IN, IN]),
        (8, [3, 5, 8], [OPEN, OPEN, OPEN]),
        (8, [5, 5, 3], [OPEN, OPEN, IN]),
        (5, [5, 5, 3], [OPEN, OPEN, OUT]),
        (10, [1, 2, 3, 4, 100], [IN, IN, IN, IN, OUT]),
    ],
)
def test_what_is_in_every_answer_was_counted_and_what_is_in_none_was_not(said, credits, expected):
    """Only what all choices that add up agree about is decided."""
    assert verdicts(worth(said), doubtful(*credits)) == expected


def test_what_was_accepted_is_taken_off_first():
    """The rest is what the unknown ones may have added."""
    members = [accepted(100), *doubtful(5, 7)]

    assert verdicts(worth(105), members) == [IN, OUT]
    assert judge(worth(105), members).accepted == 100


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (worth(99), "less than was accepted"),
        (worth(113), "more than was ever sent"),
        (worth(103), "no choice of them adds up"),
        (Value(None, "105.5"), "no whole number"),
    ],
)
def test_a_value_that_cannot_be_decides_nothing_and_says_why(value, why):
    """Someone else writes to the meter, or Stripe lost something: that is for reconcile, or for a person."""
    judgement = judge(value, [accepted(100), *doubtful(5, 7)])

    assert set(judgement.verdicts.values()) == {OPEN}
    assert why in judgement.why
    assert judgement.why.startswith(f"Stripe counts {value.said}; 100 are known to be counted, and 12 may be")


@pytest.mark.parametrize("state", [State.PENDING, State.REJECTED, State.HELD, State.CANCELLED])
def test_what_was_certainly_not_counted_is_no_part_of_it(state):
    """Never sent, refused at once, reported, cancelled: nothing of it can be in the value."""
    assert verdicts(worth(5), [Member("other", state, 5, 0), *doubtful(5)]) == [IN]


@pytest.mark.parametrize("other", [(State.PENDING, True), (State.SENDING, False), (State.CANCELLING, False)])
def test_what_may_have_been_counted_makes_others_undecidable(other):
    """An unanswered one in the same window explains the value as well."""
    state, unanswered = other
    members = [Member("other", state, 5, 0, unanswered=unanswered), *doubtful(5)]

    assert verdicts(worth(5), members) == [OPEN, OPEN]
    assert verdicts(worth(10), members) == [IN, IN]
    assert [member.is_asked for member in members] == [False, True]


def test_an_accepted_one_that_a_report_may_mean_is_a_question_too():
    """Stripe took it, and may not have counted it."""
    members = [Member("suspect", State.ACCEPTED, 7, 0, suspected=True), accepted(100), *doubtful(5)]

    assert judge(worth(105), members).verdicts == {"suspect": OUT, "0": IN}


def test_a_customer_whom_stripe_does_not_know_leaves_doubts_open():
    """The key may be of the other mode. What a report speaks of was not counted for a customer who does not exist."""
    members = [Member("suspect", State.ACCEPTED, 7, 0, suspected=True), accepted(100), *doubtful(5)]

    assert judge(NO_CUSTOMER, members).verdicts == {"suspect": OUT, "0": OPEN}
    assert "no such customer" in judge(NO_CUSTOMER, members).why


def test_many_of_equal_credits_are_decided_only_all_or_none():
    """Two thousand traces of one price, in buckets of their own: quick, and no guess."""
    many = doubtful(*[500] * 2000)

    assert set(verdicts(worth(0), many)) == {OUT}
    assert set(verdicts(worth(1_000_000), many)) == {IN}
    assert fates_of([500] * 300, 500) == [frozenset({True, False})] * 300


def test_too_many_sums_decide_nothing():
    """Fifty different amounts have more sums than anybody wants to look at."""
    judgement = judge(worth(2**40), doubtful(*[2**at + 1 for at in range(50)]))

    assert set(judgement.verdicts.values()) == {OPEN}
    assert "too many sums" in judgement.why


# ---- margins


def test_a_window_is_quiet_an_hour_after_the_last_thing_that_can_show_in_it():
    """Sends and answers count; a refusal at once changes no value."""
    members = [
        Member("0", State.IN_DOUBT, 5, 10),
        Member("1", State.ACCEPTED, 5, 30),
        Member("2", State.REJECTED, 5, 99),
    ]
    assert SUMMARY_MARGIN_US >= HOUR_US

    assert quiet_from_us(members) == 30 + SUMMARY_MARGIN_US
    assert quiet_from_us([*members, Member("3", State.CANCELLED, 5, 40)]) == 40 + SUMMARY_MARGIN_US
    assert quiet_from_us([*members, Member("4", State.REJECTED, 5, 50, reported=True)]) == 50 + SUMMARY_MARGIN_US


# ---- windows


def test_windows_are_aligned_and_asked_once():
    """Three meter events in two hours of one customer are two windows."""
    places = [("cus_1", "credits", at) for at in (HOUR + 1, HOUR + 59, 2 * HOUR - 1, 2 * HOUR)]

    assert windows_of([*places, ("cus_0", "credits", 0)], HOUR) == [
        Window("cus_0", "credits", 0, HOUR),
        Window("cus_1", "credits", HOUR, 2 * HOUR),
        Window("cus_1", "credits", 2 * HOUR, 3 * HOUR),
    ]


def test_near_windows_are_one_question():
    """One page holds a hundred hours: what is farther apart, of another customer or meter, is asked for itself."""
    near = [Window("cus_1", "credits", at * HOUR, (at + 1) * HOUR) for at in (0, 1, 101)]
    far = Window("cus_1", "credits", 300 * HOUR, 301 * HOUR)
    others = [Window("cus_1", "more", 301 * HOUR, 302 * HOUR), Window("cus_2", "more", 302 * HOUR, 303 * HOUR)]

    assert spans_of([*near, far, *others]) == [near, [far], *[[other] for other in others]]


def test_values_of_several_meters_add_up():
    """An event name may have had another meter before; where one has no number, the sum has none."""
    assert total([worth(5), NOTHING]) == Value(5, "5 + 0")
    assert total([worth(5), Value(None, "0.5")]) == Value(None, "5 + 0.5")
    assert total([]).credits is None


# ---- what was streamed a moment ago


@pytest.mark.parametrize(("said", "expected"), [(112, IN), (100, OPEN), (105, OPEN), (113, OPEN), (0, OPEN)])
def test_a_young_window_is_proved_by_its_full_value_only(said, expected):
    """Sums lag, and only grow: less than all may still become all."""
    members = [accepted(100), *streamed(5, 7)]

    assert set(prove(worth(said), members).verdicts.values()) == {expected}
    assert prove(worth(said), members).why == judge(worth(said), members).why


def test_all_that_may_be_counted_is_proved_together():
    """One in doubt in the same window adds to what it may be worth; without it, nothing is proved."""
    members = [*doubtful(3), *streamed(5)]

    assert prove(worth(8), members).verdicts == {"0": IN, "s0": IN}
    assert prove(worth(5), members).verdicts == {"0": OPEN, "s0": OPEN}


def test_a_young_window_that_may_fall_proves_nothing():
    """What was counted and taken back a moment ago may still be in the sum, and stand for what was streamed."""
    gone = Member("gone", State.CANCELLED, 5, HOUR_US)

    assert may_be_proved(streamed(5), HOUR_US)
    assert not may_be_proved([gone, *streamed(5)], HOUR_US)
    assert may_be_proved([gone, *streamed(5)], HOUR_US + SUMMARY_MARGIN_US)
    assert not may_be_proved(doubtful(5), HOUR_US)
