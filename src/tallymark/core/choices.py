"""What a person may decide about money that waits: for each kind of it, the choices that keep every sum right. Pure."""

from __future__ import annotations

from enum import StrEnum

from .states import State
from .types import Reason


class Choice(StrEnum):
    """A person's word; the names are the options of `tallymark held release`, and its sister `held waive`."""

    ASSIGN = "customer"
    AS_IS = "as-is"
    BILL_NOW = "bill-now"
    INVOICE_ITEM = "invoice-item"
    ARRIVED = "arrived"
    NOT_SENT = "not-sent"
    WAIVE = "waive"


DELETED = "deleted"
"""Why a billed trace waits whose trace is gone in Langfuse."""

OF_TRACE = {
    Reason.NO_CUSTOMER: (Choice.ASSIGN, Choice.WAIVE),
    Reason.TOO_OLD: (Choice.BILL_NOW, Choice.ASSIGN, Choice.WAIVE),
    Reason.UNRATED: (Choice.AS_IS, Choice.ASSIGN, Choice.WAIVE),
    Reason.UNPRICED: (Choice.AS_IS, Choice.ASSIGN, Choice.WAIVE),
    DELETED: (Choice.AS_IS, Choice.WAIVE),
}
"""By the reason for which a trace is held."""


def choices_of_meter_event(
    state: str, *, too_old: bool, unanswered: bool, reported: bool, invoicing: bool
) -> tuple[Choice, ...]:
    """By the state of a meter event; empty where nothing is to be decided.

    `too_old`: Stripe takes its timestamp no more. `unanswered`: one of its sends may have arrived. `reported`: Stripe
    took it and reported later that it did not count it. `invoicing`: an invoice item for it was begun.
    """
    if state == State.IN_DOUBT:
        return Choice.ARRIVED, Choice.NOT_SENT
    if invoicing:
        return (Choice.INVOICE_ITEM,)
    if state == State.HELD or (state == State.REJECTED and not unanswered):
        as_is = (Choice.AS_IS,) if not too_old and (state == State.HELD or reported) else ()
        return *as_is, Choice.BILL_NOW, Choice.INVOICE_ITEM, Choice.ASSIGN, Choice.WAIVE
    return ()
