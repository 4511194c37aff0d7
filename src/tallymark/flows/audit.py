"""What Langfuse holds, rated again: each trace of a range is compared with what the ledger says of it.

The auditor decides as a sync would, on a throw-away copy of the ledger, and adds up what it sees by customer, meter and
window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from ..core.balance import Cause, Window, WindowKey
from ..core.clock import DAY_US, HOUR_US
from ..core.decisions import Decision, Known, MarkState, Outcome, TraceKey, key_of
from ..core.types import Rated, Reason, Trace
from ..ledger import Ledger
from ..ledger.database import Row
from ..rating.customers import NoCustomer, resolve
from ..rating.rate import rate
from .decide import Decider, amounts_by_meter, laid_as_billed

WIDTH_US = {"hour": HOUR_US, "day": DAY_US}
EXAMPLES_MAX = 5


@dataclass(slots=True)
class Audit:
    """What was seen in a range of whole windows: the windows, the traces behind each cause, and how marks stand.

    A trace younger than `settled_us` is not to be billed yet. `examples` are some trace ids for each cause. `chain` is
    the newest line of the ledger that was compared.
    """

    from_us: int
    to_us: int
    settled_us: int
    width_us: int
    chain: str
    windows: dict[WindowKey, Window] = field(default_factory=dict)
    traces: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    marks: Counter[str] = field(default_factory=Counter)

    def window(self, customer_id: str, meter: str, at_us: int) -> Window:
        """The window of a moment."""
        return self.windows.setdefault((customer_id, meter, at_us - at_us % self.width_us), Window())

    @property
    def by(self) -> Literal["hour", "day"]:
        """The width of a window as a word."""
        return "day" if self.width_us == WIDTH_US["day"] else "hour"

    def behind(self, cause: Cause) -> tuple[int, list[str]]:
        """How many traces stand behind a cause, and some of them."""
        names = [name for name in self.traces if name == cause or name.startswith(f"{cause}: ")]
        examples = [trace_id for name in names for trace_id in self.examples[name]]
        return sum(self.traces[name] for name in names), examples[:EXAMPLES_MAX]

    def covers(self, at_us: int) -> bool:
        """Whether a moment lies in the range."""
        return self.from_us <= at_us < self.to_us

    def note(self, what: str, trace_id: str) -> None:
        """Count a trace under a cause, and keep it as an example if there are few."""
        self.traces[what] += 1
        examples = self.examples.setdefault(what, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(trace_id)


class Auditor(Decider):
    """Decides as another decider would, and audits every trace that it decides."""

    def __init__(self, decider: Decider, audit: Audit, ledger: Ledger) -> None:
        Decider.__init__(
            self,
            decider.config,
            decider.run_id,
            decider.now_us,
            decider.billed_by_meter,
            decider.card_texts,
            marks_by_score=decider.marks_by_score,
        )
        self.audit = audit
        self._ledger = ledger
        self._pending: list[Callable[[], object]] = []

    def __call__(self, trace: Trace, known: Known | None) -> Decision:
        """Decide one trace, and add what Langfuse holds of it, once it is certain that it is not set aside."""
        self.count()
        decision = Decider.__call__(self, trace, known)
        at_us = known.timestamp_us if known is not None and known.outcome == Outcome.BILLED else trace.timestamp_us
        if self.audit.covers(at_us):
            self._audit(trace, known, decision, at_us)
        return decision

    def count(self) -> None:
        """Add what the last trace came to."""
        for add in self._pending:
            add()
        self._pending.clear()

    def set_aside(self) -> None:
        """As Decider.set_aside."""
        self._pending.clear()

    def _add(
        self,
        customer_id: str,
        meter: str,
        at_us: int,
        micros: int,
        cause: Cause | None = None,
        *,
        moved_micros: int = 0,
    ) -> None:
        """Count later on what Langfuse holds, and why it is not what was billed there; `moved_micros` came to it."""

        def add() -> None:
            window = self.audit.window(customer_id, meter, at_us)
            window.langfuse_micros += micros
            if cause is not None:
                window.differences[cause] += moved_micros - micros

        self._pending.append(add)

    def _note(self, what: str, trace_id: str) -> None:
        self._pending.append(partial(self.audit.note, what, trace_id))

    def _audit(self, trace: Trace, known: Known | None, decision: Decision, at_us: int) -> None:
        again = known is not None and known.last_run_id == self.run_id
        if known is not None and known.outcome == Outcome.BILLED:
            self._audit_billed(trace, known, decision, at_us, again)
        elif not again:
            self._audit_unbilled(trace, known, decision, at_us)

    def _audit_unbilled(self, trace: Trace, known: Known | None, decision: Decision, at_us: int) -> None:
        cause = _cause_of_unbilled(decision)
        if cause is None:
            return
        if cause is Cause.UNBILLED and at_us >= self.audit.settled_us:
            cause = Cause.SETTLING
        amounts, customer_id = self._worth(trace, decision)
        for meter, micros in amounts.items():
            self._add(customer_id, meter, at_us, micros, cause)
        self._note(f"{cause}: {decision.reason}" if cause is Cause.HELD else cause, trace.trace_id)

    def _worth(self, trace: Trace, decision: Decision) -> tuple[Mapping[str, int], str]:
        """What an unbilled trace comes to by the card of today, and for whom; nothing if it cannot be rated."""
        rated = decision.rated or rate(trace, self.config.rate_card, default_ownership=self.config.default_ai_ownership)
        if not isinstance(rated, Rated):
            return {self.config.meter_event_name: 0}, ""
        customer = decision.customer or resolve(trace, self.config.customers)
        return amounts_by_meter(rated, self.config), "" if isinstance(customer, NoCustomer) else customer.customer_id

    def _audit_billed(self, trace: Trace, known: Known, decision: Decision, at_us: int, again: bool) -> None:
        """A trace that the ledger billed: what it comes to, read again, against what it was billed, and to whom.

        It counts where it was charged: what a decision moved from there is told as moved.
        """
        key = key_of(trace)
        charges = self._charges(key)
        billed = Counter[str]()
        for charge in charges:
            billed[charge["meter"]] += charge["billed_micros"]
            if charge["charged_micros"] and not again:
                self._audit_charge(charge, at_us)
        # A lower reading that is to be confirmed first counts as what was billed until it is.
        amounts = billed if key in self.shrunk else self._rated_again(trace, known, billed)
        for meter in sorted({*billed, *amounts}):
            gap_micros = amounts.get(meter, 0) - billed[meter]
            if gap_micros:
                cause = Cause.CHANGED if decision.entries else Cause.KEPT
                self._add(known.customer_id or "", meter, at_us, gap_micros, cause)
                self._note(cause, trace.trace_id)
        if not again:
            self._pending.append(partial(self._audit_mark, trace, known, decision))

    def _audit_charge(self, charge: Row, at_us: int) -> None:
        """What was charged counts at the trace's own time; where a decision dated it otherwise, it moved from there."""
        place, micros = (charge["customer_id"], charge["meter"]), charge["charged_micros"]
        if charge["timestamp_us"] == at_us:
            self._add(*place, at_us, micros)
            return
        self._add(*place, at_us, micros, Cause.MOVED)
        if self.audit.covers(charge["timestamp_us"]):
            self._add(*place, charge["timestamp_us"], 0, Cause.MOVED, moved_micros=micros)

    def _charges(self, key: TraceKey) -> list[Row]:
        return list(self._ledger.query("charged", project_id=key[0], trace_id=key[1]))

    def _rated_again(self, trace: Trace, known: Known, billed: Mapping[str, int]) -> Mapping[str, int]:
        rated = self.rate_again(trace, known)
        return laid_as_billed(rated, known, billed, self.config) if isinstance(rated, Rated) else billed

    def _audit_mark(self, trace: Trace, known: Known, decision: Decision) -> None:
        """How the marks of a billed trace stand: seen, owed and on their way, lost, or there before the money."""
        marks = self.audit.marks
        marks["expected"] += known.mark_state in (MarkState.OWED, MarkState.WRITTEN)
        # A list of traces does not show scores.
        by_score = self._is_marked_by_score(trace) and known.mark_state == MarkState.WRITTEN
        marks["seen"] += bool(trace.marked) or by_score
        if decision.mark_state == MarkState.OWED and known.mark_state == MarkState.WRITTEN:
            self.audit.note("mark lost", trace.trace_id)
        elif trace.marked and known.mark_state == MarkState.WAITING and known.mark_written_at_us is None:
            self.audit.note("mark without money", trace.trace_id)


def _cause_of_unbilled(decision: Decision) -> Cause | None:
    if decision.outcome == Outcome.BILLED:
        return Cause.UNBILLED
    if decision.outcome == Outcome.HELD:
        return Cause.HELD
    return Cause.MARKED_ELSEWHERE if decision.reason == Reason.ALREADY_PROCESSED else None
