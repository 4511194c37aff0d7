"""What the parts of a plan counted, as they keep it in the ledger, and all of it together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from ..core.states import Answer
from ..ledger import Ledger
from ..ledger.plans import Plan, part_counts
from .mark import Marked
from .reading import Collected
from .send import Sent
from .summary import Requests

UNREADABLE_MAX = 20
Counts = dict[str, int]


class PartCounts(msgspec.Struct, omit_defaults=True):
    """Counts of one part, or of several. What became of traces, and what they cost, the ledger itself tells better:
    a worker that is lost takes its counts with it, and not what it recorded."""

    rows: int = 0
    revisited: int = 0
    adjusted: int = 0
    healed: int = 0
    untagged: int = 0
    adopted: int = 0
    adopted_from: Counts = {}
    billed_and_marked_by: Counts = {}
    unreadable: int = 0
    problems: list[str] = []
    answers: Counts = {}
    settled: int = 0
    reported: int = 0
    marked: int = 0
    marks_failed: int = 0
    requests: Requests = msgspec.field(default_factory=Requests)

    def text(self) -> str:
        """As the ledger keeps it."""
        return msgspec.json.encode(self).decode()

    def sent(self) -> Sent:
        """How the meter answered."""
        answers = Counter({Answer(answer): count for answer, count in self.answers.items()})
        return Sent(answers, self.settled, self.reported)


def counts_of(text: str) -> PartCounts:
    """What a part counted, from what the ledger keeps."""
    return msgspec.json.decode(text, type=PartCounts)


def collected_counts(collected: Collected) -> PartCounts:
    """What reading a window counted."""
    return PartCounts(
        rows=collected.rows,
        adjusted=collected.adjusted,
        healed=collected.healed,
        untagged=collected.untagged,
        adopted=collected.adopted,
        adopted_from=dict(collected.adopted_from),
        billed_and_marked_by=dict(collected.billed_and_marked_by),
        unreadable=len(collected.unreadable),
        problems=collected.unreadable[:UNREADABLE_MAX],
    )


def sent_counts(sent: Sent) -> PartCounts:
    """How the meter answered one who sent."""
    answers = {str(answer): count for answer, count in sent.answers.items()}
    return PartCounts(answers=answers, settled=sent.settled, reported=sent.reported)


def marked_counts(marked: Marked) -> PartCounts:
    """How many marks were written, and refused."""
    return PartCounts(marked=marked.written, marks_failed=marked.failed)


def all_counts(ledger: Ledger, plan: Plan) -> PartCounts:
    """What a plan and its parts counted so far."""
    return total(map(counts_of, [plan.counts, *part_counts(ledger, plan.plan_id)]))


def total(each: Iterable[PartCounts]) -> PartCounts:
    """Several counts, added up."""
    found = PartCounts()
    for counts in each:
        for name in PartCounts.__struct_fields__:
            setattr(found, name, _added(getattr(found, name), getattr(counts, name)))
    found.problems = found.problems[:UNREADABLE_MAX]
    return found


def _added(first: object, second: object) -> object:
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
    return first + second  # type: ignore[operator]


def collected_by(ledger: Ledger, plan: Plan, counts: PartCounts, from_us: int, after_entry_id: int) -> Collected:
    """What a plan collected: what became of traces from a time on, and lines after one, as the ledger has it now."""
    results = ledger.query("results_of_run", run_id=plan.plan_id, from_us=from_us)
    (credits,) = ledger.query("credits_of_run", run_id=plan.plan_id, after_entry_id=after_entry_id)
    unreadable = (counts.problems + ["(more)"] * counts.unreadable)[: counts.unreadable]
    return Collected(
        results=Counter({row["result"]: row["traces"] for row in results}),
        adjusted=counts.adjusted,
        healed=counts.healed,
        untagged=counts.untagged,
        adopted=counts.adopted,
        adopted_from=Counter(counts.adopted_from),
        billed_and_marked_by=Counter(counts.billed_and_marked_by),
        credits_micros=credits["amount_micros"],
        rows=counts.rows,
        unreadable=unreadable,
    )
