"""Billing periods, purely: where buckets are cut, what is too late, and periods that end before their time."""

import pytest

from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.core.periods import (
    LATE_MARGIN_US,
    Lateness,
    Period,
    begun_in_window_us,
    boundaries_of,
    closed_before,
    corrected,
    dated_us,
    parts,
)

NOW_US = 1000 * DAY_US


@pytest.mark.parametrize(
    ("boundaries", "cut"),
    [
        ([], [(0, 10)]),
        ([0, 10], [(0, 10)]),
        ([-5, 15], [(0, 10)]),
        ([4], [(0, 4), (4, 10)]),
        ([2, 4, 9], [(0, 2), (2, 4), (4, 9), (9, 10)]),
    ],
)
def test_a_bucket_is_cut_at_the_boundaries_inside_it(boundaries, cut):
    """Its parts cover it without gap or overlap; its own edges cut nothing."""
    assert parts(0, 10, boundaries) == cut


HALF_US = NOW_US + HOUR_US // 2
BEFORE_US = NOW_US - SECOND_US


@pytest.mark.parametrize(
    ("minute", "boundaries", "dated", "begun"),
    [
        (10, [], 10, None),
        (10, [NOW_US, NOW_US + HOUR_US], 10, None),
        (10, [HALF_US], BEFORE_US, None),
        (30, [HALF_US], 30, HALF_US),
        (45, [NOW_US - DAY_US, HALF_US], 45, HALF_US),
        (10, [NOW_US, HALF_US], None, None),
        (40, [HALF_US, NOW_US + 50 * MINUTE_US], None, HALF_US),
        (10, [HALF_US, NOW_US + 50 * MINUTE_US], BEFORE_US, None),
    ],
)
def test_a_window_of_a_pre_aggregated_meter_belongs_to_one_period(minute, boundaries, dated, begun):
    """Usage before a boundary inside its window is dated just before that window, if that is the same period."""
    at_us = NOW_US + minute * MINUTE_US
    wanted = NOW_US + dated * MINUTE_US if dated in (10, 30, 45) else dated

    assert dated_us(at_us, HOUR_US, boundaries) == wanted
    assert begun_in_window_us(at_us, HOUR_US, boundaries) == begun


def test_boundaries_are_where_a_period_of_any_item_begins_or_ends():
    """Each once, the earliest first."""
    assert boundaries_of([Period("b", 5, 9), Period("a", 1, 5)]) == [1, 5, 9]


@pytest.mark.parametrize(
    ("grace_us", "open_us"),
    [(HOUR_US, HOUR_US - LATE_MARGIN_US), (72 * HOUR_US, 72 * HOUR_US - LATE_MARGIN_US), (MINUTE_US, 0), (0, 0)],
)
def test_a_period_is_final_a_grace_after_its_end_less_the_margin_for_the_way(grace_us, open_us):
    """Just inside it usage is still sent; with no grace nothing is late before its period has ended."""
    lateness = Lateness(grace_us)
    boundary_us = NOW_US - open_us

    assert closed_before([boundary_us], lateness.final_us(NOW_US)) == boundary_us
    assert closed_before([boundary_us + 1], lateness.final_us(NOW_US)) == 0


def test_of_several_final_periods_the_latest_decides():
    """A boundary ahead closes nothing."""
    assert closed_before([1, 5, 9], 6) == 5
    assert closed_before([], 6) == 0


def test_without_a_grace_nothing_is_ever_late():
    """BILLING_LATE_PERIOD=send."""
    assert closed_before([0, 1, NOW_US - 90 * DAY_US], Lateness(None).final_us(NOW_US)) == 0


def test_the_next_period_of_an_item_leaves_the_last_one_as_it_was():
    """The usual roll-over."""
    assert corrected([Period("a", 0, 10)], [Period("a", 10, 20)], 11) == [Period("a", 10, 20)]


def test_an_item_that_began_another_period_ended_the_one_before():
    """A cycle that was reset in its middle: the end that was expected is no boundary."""
    assert corrected([Period("a", 0, 30)], [Period("a", 15, 45)], 31) == [Period("a", 15, 45), Period("a", 0, 15)]


def test_an_item_that_is_gone_ended_its_period():
    """By now, since nobody knows when; periods that had ended stay."""
    known = [Period("a", 0, 10), Period("a", 10, 20)]

    assert corrected(known, [], 15) == [Period("a", 10, 15)]


def test_a_period_read_again_is_what_stripe_says():
    """Its end may have moved, for a cancellation."""
    assert corrected([Period("a", 0, 30)], [Period("a", 0, 20)], 10) == [Period("a", 0, 20)]


@pytest.mark.parametrize(("days", "before_days"), [(1, 1), (7, 7), (31, 28)])
@pytest.mark.parametrize("known", [[], [Period("a", -400 * DAY_US, -370 * DAY_US)]])
def test_before_a_first_period_and_after_a_gap_one_more_is_assumed(known, days, before_days):
    """In the hour after a period's end only its own invoice is open. A month is taken for as short as it can be."""
    read = Period("a", 0, days * DAY_US)

    assert corrected(known, [read], 1) == [read, Period("a", -before_days * DAY_US, 0)]
