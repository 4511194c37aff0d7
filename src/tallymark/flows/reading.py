"""What it takes to read: which range, from which project and through what, and where goes what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..core.clock import parse_time
from ..core.decisions import Decision, Outcome
from ..core.ids import ledger_id_in
from ..core.types import Trace
from ..core.windows import FUTURE_TOLERANCE_US
from ..ledger import Ledger
from ..ledger.rows import RunRef
from .decide import Decider
from .progress import Progress, quiet
from .stations import Project, Stations

FAR_FUTURE_US = parse_time("2099-12-31T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Range:
    """What to read: from_us <= timestamp < to_us; traces younger than settled_us wait for the next run."""

    from_us: int
    to_us: int
    settled_us: int
    future_us: int

    def settles(self, trace: Trace) -> bool:
        """Whether a trace is quiet already, or so far ahead that it is no matter of settling."""
        return trace.timestamp_us < self.settled_us or trace.timestamp_us > self.future_us


def range_of(from_us: int, to_us: int | None, now_us: int, settle_us: int) -> Range:
    """A range up to now (to_us None: and beyond, for traces from the future), less the settle delay."""
    settled_us = now_us - settle_us
    return Range(from_us, to_us if to_us is not None else FAR_FUTURE_US, settled_us, now_us + FUTURE_TOLERANCE_US)


@dataclass(slots=True)
class Collected:
    """What collecting counted: distinct traces by result, and what else was noticed.

    Counted here and not by the ledger, where another run may read the same traces a moment later.
    """

    results: Counter[str] = field(default_factory=Counter)
    adjusted: int = 0
    healed: int = 0
    untagged: int = 0
    adopted: int = 0
    adopted_from: Counter[str] = field(default_factory=Counter)
    """Adopted traces by the id of the ledger that their mark names."""
    billed_and_marked_by: Counter[str] = field(default_factory=Counter)
    """Traces that this ledger bills by the id of the ledger that their mark names."""
    credits_micros: int = 0
    rows: int = 0
    unreadable: list[str] = field(default_factory=list)
    project_ids: set[str] = field(default_factory=set)
    bulk: str = ""
    """The bulk source that was read, if one was."""

    @property
    def read(self) -> int:
        """How many distinct traces were read."""
        return self.results.total()

    def count(self, decisions: Sequence[Decision]) -> None:
        """Add a batch."""
        for decision in decisions:
            self.results[decision.result] += 1
            if not decision.first_in_run:
                self.results[decision.result_before] -= 1
            self.adjusted += decision.adjusted
            self.healed += decision.healed
            self.untagged += decision.untagged
            self.adopted += decision.adopted
            if maker := ledger_id_in(decision.trace.attributes.get("meter_event_id", "")):
                self.adopted_from[maker] += decision.adopted
                self.billed_and_marked_by[maker] += decision.outcome == Outcome.BILLED and decision.first_in_run
            self.credits_micros += sum(entry.amount_micros for entry in decision.entries)
            self.project_ids.add(decision.trace.project_id)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The generation that a project is read through, why, and the server's version."""

    generation: str
    reason: str
    version: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Where goes what is read: decided by one decider, recorded in the ledger by one run, and counted."""

    ledger: Ledger
    decider: Decider
    run: RunRef
    collected: Collected = field(default_factory=Collected)
    progress: Progress = quiet

    def quietly(self) -> Recording:
        """The same, without progress: for what is read again."""
        return replace(self, progress=quiet)


@dataclass(frozen=True, slots=True)
class Reading:
    """One project as a run reads it: where from, through which generation, and where goes what is read."""

    stations: Stations
    project: Project
    chosen: Chosen
    into: Recording
