"""What may be decided about a waiting meter event, for each of its states; and money of invoices."""

from decimal import Decimal

import pytest

from tallymark.core.choices import OF_TRACE, Choice, choices_of_meter_event
from tallymark.core.money import amount_of
from tallymark.core.states import Answer, State, after_cancel
from tallymark.core.types import HELD, Reason

ANYWHERE = (Choice.BILL_NOW, Choice.INVOICE_ITEM, Choice.ASSIGN, Choice.WAIVE)
DOUBT = (Choice.ARRIVED, Choice.NOT_SENT)
USUAL = {"too_old": False, "unanswered": False, "reported": False, "invoicing": False}


@pytest.mark.parametrize(
    ("state", "how", "choices"),
    [
        (State.HELD, {}, (Choice.AS_IS, *ANYWHERE)),
        (State.HELD, {"too_old": True}, ANYWHERE),
        (State.HELD, {"invoicing": True}, (Choice.INVOICE_ITEM,)),
        (State.REJECTED, {}, ANYWHERE),
        (State.REJECTED, {"reported": True}, (Choice.AS_IS, *ANYWHERE)),
        (State.REJECTED, {"unanswered": True}, ()),
        (State.IN_DOUBT, {"unanswered": True}, DOUBT),
        (State.PENDING, {}, ()),
        (State.SENDING, {}, ()),
        (State.ACCEPTED, {}, ()),
        (State.CANCELLING, {}, ()),
        (State.CANCELLED, {}, ()),
        (State.CARRIED, {}, ()),
    ],
)
def test_choices_of_a_meter_event(state, how, choices):
    """What may have arrived is never withdrawn; what Stripe would refuse is never sent as it is."""
    assert choices_of_meter_event(state, **{**USUAL, **how}) == choices


def test_every_reason_for_which_a_trace_is_held_has_choices():
    """Late and doubtful money waits in meter events, not in traces."""
    assert set(HELD) - {Reason.LATE_PERIOD, Reason.WINDOW_CUT, Reason.IN_DOUBT} <= set(OF_TRACE)
    assert all(Choice.WAIVE in choices for choices in OF_TRACE.values())


@pytest.mark.parametrize(
    ("shares", "cents"),
    [
        ([], 0),
        ([(500_000_000, Decimal("0.4"))], 200),
        ([(1_250_000, Decimal("0.4"))], 1),
        ([(1_249_999, Decimal("0.4"))], 0),
        ([(1, Decimal("500000"))] * 3, 2),
        ([(999_999_999_000_000, Decimal("0.000000000001"))], 0),
    ],
)
def test_money_is_added_exactly_and_rounded_once(shares, cents):
    """Halves go away from zero; three thirds of a cent are a cent."""
    assert amount_of(shares) == cents


@pytest.mark.parametrize(
    ("answer", "again", "last", "after"),
    [
        (Answer.REJECTED, False, False, (State.ACCEPTED, "kept")),
        (Answer.REJECTED, True, False, (State.IN_DOUBT, "cancelling")),
        (Answer.THROTTLED, False, False, (State.ACCEPTED, "")),
        (Answer.THROTTLED, False, True, (State.ACCEPTED, "kept")),
        (Answer.THROTTLED, True, False, (State.CANCELLING, "")),
        (Answer.THROTTLED, True, True, (State.IN_DOUBT, "cancelling")),
        (Answer.UNKNOWN, False, False, (State.CANCELLING, "")),
        (Answer.UNKNOWN, False, True, (State.IN_DOUBT, "cancelling")),
        (Answer.UNKNOWN, True, True, (State.IN_DOUBT, "cancelling")),
    ],
)
def test_what_an_answer_to_taking_back_leaves(answer, again, last, after):
    """Only what certainly was not taken back is accepted again."""
    assert after_cancel(answer, again=again, last=last) == after
