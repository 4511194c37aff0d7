"""Collect: read windows of traces, compare their usage with the ledger, append entries for what is new or changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ..core.decisions import Known, Outcome, TraceKey, key_of
from ..core.types import Reason, Trace
from ..ledger import Ledger
from ..ledger.ledger import Coverage
from ..ledger.rows import RunRef
from ..source.rows import Page
from ..source.traces import IdStream, TracesSource
from .read_ahead import ahead, batches
from .reading import Collected, Range, Recording

log = logging.getLogger("tallymark")
BATCH_PAGES = 40
REVISIT_ROWS = 100
# Reasons that say whether tokens were used without a cost. Others were found before that was asked, or by a rate card
# that did not want to know.
FOUND_OUT = (Reason.UNPRICED, Reason.NO_BILLABLE_USAGE)


def collect(source: TracesSource, into: Recording, span: Range, coverage: Coverage | None) -> None:
    """Read a range, decide every trace in it, and record each batch in one transaction with its coverage."""
    ledger, decider, collected = into.ledger, into.decider, into.collected
    scored = source.scored(span.from_us, span.to_us, span.future_us)
    pages = ahead(source.read(span.from_us, span.to_us, decider.only_pending, span.future_us))
    for batch in batches(pages, BATCH_PAGES):
        collected.rows += sum(page.rows for page in batch)
        traces = distinct(trace for page in batch for trace in page.traces if span.settles(trace))
        if coverage is not None:
            remember_projects(ledger, coverage.source_key, {t.project_id for t in traces} - collected.project_ids)
        snapshot = ledger.snapshot(traces)
        traces = _looked_up(source, traces, snapshot.known, scored)
        collected.count(ledger.record(into.run, traces, decider, reached(coverage, batch, span), snapshot))
        collected.unreadable += [problem for page in batch for problem in page.unreadable]
        confirm_shrunk(source, into)
        into.progress("read", collected.rows, max(page.total_items for page in batch))
    if coverage is not None:
        ledger.put_coverage(coverage)


def remember_projects(ledger: Ledger, source_key: str, project_ids: Iterable[str]) -> None:
    """Keep which project a key reads, so that its marks can be written when nothing is read.

    Kept before how far reading has come: a run that goes on from there may meet no trace.
    """
    for project_id in project_ids:
        if ledger.fact(f"project {source_key}") != project_id:
            ledger.put_fact(f"project {source_key}", project_id)


def revisit_held(source: TracesSource, into: Recording, project_id: str) -> None:
    """Read held traces again that were decided under other settings, such as before a customer was mapped."""
    for ids in held_stale(into.ledger, into.run, project_id):
        collect_page(source.read_many(ids, 0), source, into)


def held_stale(ledger: Ledger, run: RunRef, project_id: str) -> Iterator[list[str]]:
    """Ids of a project's held traces that were decided under other settings, some at a time."""
    after = ""
    while ids := ledger.held_stale(run, project_id, after, REVISIT_ROWS):
        after = ids[-1]
        yield ids


def collect_page(page: Page, source: TracesSource, into: Recording) -> None:
    """Decide and record one page that was asked for by id."""
    traces = distinct(page.traces)
    if not traces:
        return
    times = [trace.timestamp_us for trace in traces]
    scored = source.scored(min(times), max(times) + 1000)
    traces = _looked_up(source, sorted(traces, key=lambda t: t.timestamp_us), into.ledger.known(traces), scored)
    into.collected.count(into.ledger.record(into.run, traces, into.decider))
    confirm_shrunk(source, into)


class Confirms(Protocol):
    """Reads traces again so widely that a lower bill can be believed."""

    def confirm(self, traces: Sequence[Trace]) -> list[Trace]:
        """The traces as they are, all of their parts added up; none that could not be read so."""
        ...


def confirm_shrunk(source: Confirms, into: Recording) -> None:
    """Read traces that look cheaper than billed again, widely, before the bill is lowered."""
    decider = into.decider
    if not decider.shrunk:
        return
    suspects = list(decider.shrunk.values())
    decider.confirmed = set(decider.shrunk)
    again = [trace for trace in source.confirm(suspects) if key_of(trace) in decider.confirmed]
    into.collected.count(into.ledger.record(into.run, distinct(again), decider))
    decider.confirmed = set()
    decider.shrunk = {}


def log_unknown_marks(ledger: Ledger, collected: Sequence[Collected]) -> None:
    """Say that the ledger looks like the wrong one: another one, or an older copy, billed what is marked."""
    found = sum((each.adopted_from for each in collected), Counter[str]())
    if own := found.pop(ledger.fact("ledger_id") or "", 0):
        log.warning(
            "%d traces carry marks of this ledger that it does not know of: it is an older copy of itself. They are "
            "not billed again; compare it with Stripe before the next invoice.",
            own,
        )
    if +found:
        log.warning(
            "%d traces carry marks of another ledger (%s) and are not billed by this one: check BILLING_LEDGER_URL. "
            "Two ledgers must not bill one project.",
            found.total(),
            ", ".join(sorted(+found)),
        )
    _log_billed_twice(ledger, collected)


def _log_billed_twice(ledger: Ledger, collected: Sequence[Collected]) -> None:
    """Two deployments that run at once do not see each other's marks in time; afterwards they do."""
    found = sum((each.billed_and_marked_by for each in collected), Counter[str]())
    found.pop(ledger.fact("ledger_id") or "", 0)
    if +found:
        log.warning(
            "%d traces that this ledger bills carry marks of another ledger (%s): both have billed them. Stop one of "
            "the two, then `tallymark reconcile` shows how much Stripe counts too much.",
            found.total(),
            ", ".join(sorted(+found)),
        )


def distinct(traces: Iterator[Trace] | Sequence[Trace]) -> list[Trace]:
    """One trace for each id. Two rows of one id on two dates are one trace: the earlier, with the larger usage."""
    found: dict[TraceKey, Trace] = {}
    for trace in traces:
        key = key_of(trace)
        found[key] = _merge(found[key], trace) if key in found else trace
    return list(found.values())


def _merge(first: Trace, second: Trace) -> Trace:
    if first.timestamp_us == second.timestamp_us:
        return second
    early, late = sorted((first, second), key=lambda trace: trace.timestamp_us)
    larger = max(first.units[0], second.units[0], key=lambda unit: (unit.problem is None, unit.cost_usd or 0))
    marked = ",".join(sorted({*filter(None, f"{early.marked},{late.marked}".split(","))}))
    return replace(early, units=(larger,), marked=marked, tags=tuple(sorted({*early.tags, *late.tags})))


def _looked_up(
    source: TracesSource, traces: Sequence[Trace], known: Mapping[TraceKey, Known], scored: IdStream
) -> list[Trace]:
    """Add what the trace list cannot tell: a score that marks a trace, and tokens without a cost."""
    before = [known.get(key_of(trace)) for trace in traces]
    found = [(with_score(trace, one, scored), one) for trace, one in zip(traces, before, strict=True)]
    unpriced = source.unpriced([trace for trace, one in found if may_be_unpriced(trace, one)])
    return [with_price(trace, one, unpriced) for trace, one in found]


def with_score(trace: Trace, known: Known | None, scored: IdStream) -> Trace:
    """Add a mark by score. Asked only for traces that the ledger does not know as they are: idle runs ask nothing."""
    if trace.marked or (known is not None and known.outcome == Outcome.BILLED):
        return trace
    reason = _reason_of_the_same(trace, known)
    if reason == Reason.ALREADY_PROCESSED or (reason is None and trace in scored):
        return replace(trace, marked="score")
    return trace


def may_be_unpriced(trace: Trace, known: Known | None) -> bool:
    """Whether a trace without a cost may have tokens; also one that was billed, to which some may have come."""
    unit = trace.units[0]
    if unit.cost_usd != 0 or unit.problem or _reason_of_the_same(trace, known) in FOUND_OUT:
        return False
    return not trace.marked or (known is not None and known.outcome == Outcome.BILLED)


def with_price(trace: Trace, known: Known | None, unpriced: Collection[str]) -> Trace:
    """Add whether a trace has tokens and no cost: as was asked, or as the ledger knows."""
    if trace.units[0].cost_usd != 0:
        return trace
    found = trace.trace_id in unpriced or _reason_of_the_same(trace, known) == Reason.UNPRICED
    return replace(trace, unpriced=True) if found else trace


def _reason_of_the_same(trace: Trace, known: Known | None) -> str | None:
    """Why the ledger did not bill a trace that has not changed since; None for one that is new or changed."""
    unit = trace.units[0]
    if known is None or (known.cost_usd, known.duration_s) != (unit.cost_usd, unit.duration_s):
        return None
    return known.reason


def reached(coverage: Coverage | None, batch: Sequence[Page], span: Range) -> Coverage | None:
    """How far reading has come: up to the last trace of the batch, but never past what is settled."""
    times = [trace.timestamp_us for page in batch for trace in page.traces]
    if coverage is None or not times:
        return None
    return replace(coverage, to_us=max(coverage.from_us, min(times[-1], span.settled_us, coverage.to_us)))
