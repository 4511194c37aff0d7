"""Settling by sums, against trying every choice."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tallymark.core.doubt import fates_of

AMOUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=9)


@given(AMOUNTS, st.data())
def test_fates_are_those_of_all_choices_that_add_up(amounts, data):
    """For each amount exactly the answers that some choice allows; none where no choice adds up."""
    rest = data.draw(st.integers(0, sum(amounts)))
    choices = [choice for choice in product((True, False), repeat=len(amounts)) if _worth(amounts, choice) == rest]

    assert fates_of(amounts, rest) == [frozenset(choice[at] for choice in choices) for at in range(len(amounts))]


@given(AMOUNTS, st.data())
def test_what_was_counted_is_never_called_not_counted(amounts, data):
    """Whatever Stripe counted: a decided amount is decided rightly, so none is sent twice and none is lost."""
    counted = data.draw(st.lists(st.booleans(), min_size=len(amounts), max_size=len(amounts)))

    for was_counted, fate in zip(counted, fates_of(amounts, _worth(amounts, counted)), strict=True):
        assert was_counted in fate


def _worth(amounts, choice):
    return sum(amount for amount, taken in zip(amounts, choice, strict=True) if taken)
