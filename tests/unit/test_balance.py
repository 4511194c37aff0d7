"""The arithmetic of a reconciliation: what is Stripe's, what explains the rest, and nothing left out."""

from hypothesis import given
from hypothesis import strategies as st

from tallymark.core.balance import (
    CAUSE_OF_STATE,
    REMEDIES,
    UNEXPLAINED,
    Cause,
    Uncertain,
    Window,
    cause_of_gap,
    has_subset,
    total,
)
from tallymark.core.credits import MICROS_PER_CREDIT as CREDIT
from tallymark.core.states import UNSETTLED

AMOUNTS = st.integers(-(10**12), 10**12)


@given(
    st.integers(0, 10**12),
    st.integers(0, 10**6),
    st.none() | st.integers(0, 10**12),
    st.dictionaries(st.sampled_from([cause for cause in Cause if cause not in UNEXPLAINED]), AMOUNTS),
    st.integers(0, 10**12),
    st.lists(st.integers(0, 1000), max_size=4),
)
def test_a_window_always_adds_up(langfuse_micros, accepted, stripe_micros, differences, entries_micros, credits):
    """Langfuse and all differences are Stripe's value, whatever the numbers; unasked, the accepted credits."""
    window = Window(langfuse_micros, entries_micros, accepted * CREDIT, stripe_micros)
    window.differences.update(differences)

    window.explain(Uncertain(doubtful=credits))

    expected = accepted * CREDIT if stripe_micros is None else stripe_micros
    assert langfuse_micros + sum(window.differences.values()) == expected


def test_what_no_meter_event_explains_is_unexplained():
    """One credit more at Stripe, and nothing doubtful."""
    window = Window(5 * CREDIT, 5 * CREDIT, 5 * CREDIT, 6 * CREDIT)

    window.explain(Uncertain())

    assert +window.differences == {Cause.UNEXPLAINED_STRIPE: CREDIT}


def test_a_gap_has_the_cause_of_the_meter_events_that_make_it():
    """Doubtful ones first; unsettled ones; young ones that are not shown yet; never a part of one."""
    assert cause_of_gap(3 * CREDIT, Uncertain(doubtful=[3, 4])) is Cause.IN_DOUBT
    assert cause_of_gap(7 * CREDIT, Uncertain(doubtful=[3, 4])) is Cause.IN_DOUBT
    assert cause_of_gap(5 * CREDIT, Uncertain(doubtful=[3], unsettled=[2])) is Cause.IN_FLIGHT
    assert cause_of_gap(-2 * CREDIT, Uncertain(unseen=[2, 9])) is Cause.IN_FLIGHT
    assert cause_of_gap(-5 * CREDIT, Uncertain(suspected=[5, 9])) is Cause.REJECTED
    assert cause_of_gap(-7 * CREDIT, Uncertain(unseen=[2, 9], suspected=[5])) is Cause.REJECTED
    for gap, sent in (
        (-2, Uncertain(doubtful=[2], unsettled=[2])),
        (2, Uncertain(unseen=[2], suspected=[2])),
        (5, Uncertain(doubtful=[3, 4])),
    ):
        assert cause_of_gap(gap * CREDIT, sent) is Cause.UNEXPLAINED_STRIPE
    assert cause_of_gap(3 * CREDIT + 1, Uncertain([3], [3], [3], [3])) is Cause.UNEXPLAINED_STRIPE


def test_each_step_has_a_rest_of_its_own():
    """Langfuse against the lines, the lines against what was accepted, that against Stripe: two errors never cancel."""
    window = Window(5 * CREDIT, 6 * CREDIT, 5 * CREDIT, 5 * CREDIT)

    window.explain(Uncertain())

    assert +window.differences == {Cause.UNEXPLAINED_LANGFUSE: CREDIT}
    assert -window.differences == {Cause.UNEXPLAINED_LEDGER: CREDIT}


def test_subsets_of_many_amounts_are_not_searched_for_ever():
    """All of them, or a single one, is found among thousands."""
    amounts = list(range(1, 2001))

    assert has_subset(amounts, sum(amounts))
    assert has_subset(amounts, 1999)
    assert not has_subset(amounts, sum(amounts) + 1)


def test_every_cause_has_a_remedy_and_every_unsettled_state_a_cause():
    """A new cause or state cannot be forgotten."""
    assert set(REMEDIES) == set(Cause)
    assert set(CAUSE_OF_STATE) == set(UNSETTLED)


@given(st.lists(st.tuples(AMOUNTS, st.sampled_from(list(Cause)), AMOUNTS)))
def test_a_total_is_the_sum_of_its_windows(parts):
    """Of what Langfuse holds, and cause by cause."""
    windows = []
    for langfuse_micros, cause, micros in parts:
        windows.append(Window(langfuse_micros))
        windows[-1].differences[cause] = micros

    everything = total(windows)

    assert everything.langfuse_micros == sum(part[0] for part in parts)
    for cause in Cause:
        assert everything.differences[cause] == sum(part[2] for part in parts if part[1] == cause)
