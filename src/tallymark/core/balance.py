"""How Langfuse, ledger and Stripe are compared: windows of a customer's usage on a meter, and what explains each gap.

For every window: what Langfuse holds, plus all differences with their signs, is what Stripe counted. What no cause
explains is a difference of its own at the step where it appears, never left out. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations

from .credits import MICROS_PER_CREDIT
from .states import State
from .types import Reason

WindowKey = tuple[str, str, int]
"""(customer id, meter, start in microseconds). Usage without a customer has the customer ''."""

SUBSET_MAX = 12


class Cause(StrEnum):
    """Why two of the three differ, in the order of the way from Langfuse through the ledger to Stripe."""

    SETTLING = "settling"
    UNBILLED = "unbilled"
    CHANGED = "changed"
    HELD = "held"
    MARKED_ELSEWHERE = "marked_elsewhere"
    KEPT = "kept"
    NOT_IN_LANGFUSE = "not_in_langfuse"
    MOVED = "moved"
    WAIVED = "waived"
    INVOICED = "invoiced"
    UNEXPLAINED_LANGFUSE = "unexplained_langfuse"
    IN_FLIGHT = "in_flight"
    LATE = "late"
    IN_DOUBT = "in_doubt"
    REJECTED = "rejected"
    REDATED = "redated"
    CARRY = "carry"
    UNEXPLAINED_LEDGER = "unexplained_ledger"
    UNEXPLAINED_STRIPE = "unexplained_stripe"


UNEXPLAINED = (Cause.UNEXPLAINED_LANGFUSE, Cause.UNEXPLAINED_LEDGER, Cause.UNEXPLAINED_STRIPE)
IN_LEDGER = (Cause.IN_FLIGHT, Cause.LATE, Cause.IN_DOUBT, Cause.REJECTED, Cause.REDATED, Cause.CARRY)
"""What lies between the ledger's lines and the credits that Stripe accepted."""


REMEDIES = {
    Cause.SETTLING: "wait: it is younger than the settle delay (BILLING_SETTLE_SECONDS)",
    Cause.UNBILLED: "the next sync of this range bills it: tallymark reconcile --repair",
    Cause.CHANGED: "the next sync of this range adjusts it: tallymark reconcile --repair",
    Cause.HELD: "a person decides: tallymark held list",
    Cause.MARKED_ELSEWHERE: "nothing: it carries a mark of an earlier billing, and this ledger did not bill it",
    Cause.KEPT: "nothing: what was billed stays, because the reading may not lower or raise it (docs/adr/0005)",
    Cause.NOT_IN_LANGFUSE: "Langfuse no longer has it; tallymark sync --full decides by BILLING_DELETED_TRACES",
    Cause.MOVED: "nothing: a decision dated it otherwise; tallymark held decisions",
    Cause.WAIVED: "nothing: a decision waived it; tallymark held decisions",
    Cause.INVOICED: "nothing: a decision billed it by an invoice item; tallymark held decisions",
    Cause.IN_FLIGHT: "wait for the next sync, or run it: it is on its way",
    Cause.LATE: "its invoice is final, or Stripe takes nothing so old, or would date more than it; a person decides: "
    "tallymark held list",
    Cause.IN_DOUBT: "tallymark reconcile --repair asks Stripe's summaries again; else a person: tallymark held list",
    Cause.REJECTED: "Stripe did not count it; mend the cause that tallymark held list names, then sync",
    Cause.REDATED: "nothing: a period ends inside its window at Stripe, so it is dated just before it (docs/adr/0042)",
    Cause.CARRY: "nothing: less than a credit is left over and goes into the customer's next usage",
    Cause.UNEXPLAINED_LANGFUSE: "the same usage comes to something else than was billed: tallymark ledger verify",
    Cause.UNEXPLAINED_LEDGER: "the ledger does not agree with itself: tallymark ledger verify",
    Cause.UNEXPLAINED_STRIPE: "look at who else writes to this meter, and at Stripe's error reports of that time",
}
"""What to do about each cause."""

CAUSE_OF_STATE = {
    State.PENDING: Cause.IN_FLIGHT,
    State.SENDING: Cause.IN_FLIGHT,
    State.STREAMED: Cause.IN_FLIGHT,
    State.CANCELLING: Cause.IN_FLIGHT,
    State.HELD: Cause.REJECTED,
    State.IN_DOUBT: Cause.IN_DOUBT,
    State.REJECTED: Cause.REJECTED,
}
"""Why a meter event's credits are not among those that Stripe counted; see `cause_of_state`."""


def cause_of_state(state: str, reason: str) -> Cause | None:
    """Why a meter event's credits are not among those that Stripe counted; None if they are, or must not be."""
    if state == State.HELD and reason in (Reason.LATE_PERIOD, Reason.TOO_OLD, Reason.WINDOW_CUT):
        return Cause.LATE
    return CAUSE_OF_STATE.get(State(state))


@dataclass(slots=True)
class Uncertain:
    """Whole credits of the meter events of one window whose place at Stripe is not certain.

    `doubtful` and `unsettled` ones Stripe may have counted although the ledger does not say so. Accepted ones it may
    not show: those of `unseen` because they are so young, of `suspected` because a report may mean them.
    """

    doubtful: list[int] = field(default_factory=list)
    unsettled: list[int] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)
    suspected: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Window:
    """One window of one customer and meter. Amounts in micro-credits; `stripe_micros` None: Stripe was not asked."""

    langfuse_micros: int = 0
    entries_micros: int = 0
    accepted_micros: int = 0
    stripe_micros: int | None = None
    differences: Counter[Cause] = field(default_factory=Counter)

    def explain(self, uncertain: Uncertain) -> None:
        """Say why Stripe's value is not the accepted credits, and what is left unexplained."""
        counted_micros = self.accepted_micros if self.stripe_micros is None else self.stripe_micros
        in_ledger_micros = sum(self.differences[cause] for cause in IN_LEDGER)
        before_micros = sum(self.differences.values()) - in_ledger_micros
        gap_micros = counted_micros - self.accepted_micros
        rests = {
            Cause.UNEXPLAINED_LANGFUSE: self.entries_micros - self.langfuse_micros - before_micros,
            Cause.UNEXPLAINED_LEDGER: self.accepted_micros - self.entries_micros - in_ledger_micros,
            cause_of_gap(gap_micros, uncertain): gap_micros,
        }
        self.differences.update({cause: micros for cause, micros in rests.items() if micros})


def cause_of_gap(gap_micros: int, uncertain: Uncertain) -> Cause:
    """Why Stripe counted more, or less, than was accepted: whole meter events, or nothing that is known."""
    gap_credits, rest_micros = divmod(gap_micros, MICROS_PER_CREDIT)
    if rest_micros:
        return Cause.UNEXPLAINED_STRIPE
    doubtful, unseen = uncertain.doubtful, uncertain.unseen
    likely = (
        (Cause.IN_FLIGHT, unseen, -gap_credits),
        (Cause.REJECTED, [*uncertain.suspected, *unseen], -gap_credits),
        (Cause.IN_DOUBT, doubtful, gap_credits),
        (Cause.IN_FLIGHT, [*doubtful, *uncertain.unsettled], gap_credits),
    )
    return next((cause for cause, sent, gap in likely if has_subset(sent, gap)), Cause.UNEXPLAINED_STRIPE)


def has_subset(amounts: Sequence[int], total: int) -> bool:
    """Whether some of these amounts add up to a total. Of many, only all or single ones are tried."""
    if len(amounts) > SUBSET_MAX:
        return total in (sum(amounts), *amounts)
    return any(sum(chosen) == total for size in range(1, len(amounts) + 1) for chosen in combinations(amounts, size))


def totals_by_customer(windows: Mapping[WindowKey, Window]) -> dict[tuple[str, str], Window]:
    """Windows added up for each customer and meter, in their order."""
    totals: dict[tuple[str, str], Window] = {}
    for (customer_id, meter, _), window in sorted(windows.items()):
        add(totals.setdefault((customer_id, meter), Window()), window)
    return totals


def total(windows: Iterable[Window]) -> Window:
    """All windows added up."""
    everything = Window()
    for window in windows:
        add(everything, window)
    return everything


def add(to: Window, window: Window) -> None:
    """Add one window to another."""
    to.langfuse_micros += window.langfuse_micros
    to.entries_micros += window.entries_micros
    to.accepted_micros += window.accepted_micros
    to.stripe_micros = (to.stripe_micros or 0) + (window.stripe_micros or 0)
    to.differences.update(window.differences)
