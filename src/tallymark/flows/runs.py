"""Runs: what was run, by whom and with what result, what runs now and how far it is, and asking a service for one."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .. import machine
from ..config import Config, require_langfuse, require_stripe
from ..core.clock import SECOND_US, format_time, parse_time
from ..errors import ConfigError, NotFound
from ..ledger import Ledger
from ..ledger.guard import using_ledger
from ..ledger.jobs import is_held, jobs_of
from ..ledger.owner import is_dead
from ..ledger.run_requests import WAITING_MAX, RunRequest, ask
from .alerts import alert_jobs
from .backfill import BackfillSummary
from .paging import Listing, listing, read_cursor
from .ranges import check_range
from .service import JOB, RECONCILE, jobs_for
from .summary import SyncSummary

Kind = Literal["sync", "full", "range", "trace", "reconcile"]
State = Literal["waiting", "running", "done", "failed", "stopped"]
NO_PLACE = (2**62, "~")
TRACE_ID_CHARS_MAX = 500
BACKFILL = "backfill"


class RunProgress(msgspec.Struct):
    """How far a run is: `done` of `total`, if that is known, in its stage ("read", "send", "mark", "compare").

    Of workers the stage is "windows", "shards" or "batches". `seconds_left` is for this stage, at the rate so far.
    """

    stage: str
    done: int
    total: int | None
    per_second: float | None
    seconds_left: int | None
    at: str


class RunCounts(msgspec.Struct):
    """What a run came to, in short: traces, exact credits, and meter events that Stripe took."""

    fetched: int
    processed: int
    failed: int
    held: int
    credits: str
    accepted: int


class Run(msgspec.Struct):
    """One run, or what was asked for and waits.

    `kind` is what was asked for (sync, full, range, trace, reconcile), or what was run: sync, backfill, reconcile, held
    (a decision). `state`: waiting, running, done, failed (`problem` says why) or stopped (its process ended first). Who
    `asked_by` names is a person, or "job: " and the name of a job; it is empty for a run by hand. `seconds` is how long
    it took, or has taken so far.
    """

    run_id: str
    kind: str
    state: State
    dry_run: bool
    asked_by: str
    asked_at: str
    started_at: str | None
    finished_at: str | None
    seconds: int | None
    trace_id: str | None
    from_: str | None = msgspec.field(name="from")
    to: str | None
    problem: str
    progress: RunProgress | None
    counts: RunCounts | None


class ReconcileResult(msgspec.Struct):
    """What a reconcile came to; its report has the rest."""

    explained: bool
    from_: str = msgspec.field(name="from")
    to: str
    by: str


class RunDetails(Run, kw_only=True):
    """A run with what it came to: `summary` of a sync, `reconciliation` of a reconcile, `backfill` of a backfill."""

    summary: SyncSummary | None = None
    reconciliation: ReconcileResult | None = None
    backfill: BackfillSummary | None = None


class RunWish(msgspec.Struct, forbid_unknown_fields=True):
    """A run to ask for. `trace` needs `trace_id`; `range` needs `from` and may have `to`, and so may `reconcile`.

    A dry run reads and rates, and writes nothing but its own result.
    """

    kind: Kind
    trace_id: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    dry_run: bool = False


class JobLine(msgspec.Struct):
    """A job of the service: when it runs, whether it does now (`lease_until` is its process's hold on it), and how it
    went. `schedule` is empty for one that today's settings leave out."""

    name: str
    schedule: str
    running: bool
    due_at: str
    lease_until: str | None
    run_id: str | None
    started_at: str | None
    finished_at: str | None
    succeeded_at: str | None
    problem: str
    runs: int
    failures: int


class _Short(msgspec.Struct):
    """What every summary may have of the counts."""

    fetched: int = 0
    processed: int = 0
    owed: int = 0
    failed: int = 0
    held: dict[str, int] = {}
    credits: str | None = None
    meter_events: dict[str, int] = {}


def list_runs(ledger: Ledger, now_us: int, limit: int, cursor: str | None = None) -> Listing[Run]:
    """Runs by hand, of jobs and asked for, the newest first. Raises ConfigError for a cursor of another list."""
    before_us, before_id = read_cursor(cursor, int, str) if cursor else NO_PLACE
    rows = list(ledger.query("list_runs", before_us=before_us, before_id=before_id, limit=limit + 1))
    return listing(rows, limit, lambda row: _run(row, now_us), lambda row: (row["at_us"], row["id"]))


def one_run(ledger: Ledger, run_id: str, now_us: int) -> RunDetails:
    """A run with what it came to. Raises NotFound."""
    is_id = run_id.isascii() and run_id.isalnum()
    row = next(iter(ledger.query("one_run", id=run_id)), None) if is_id else None
    if row is None:
        raise NotFound(f"there is no run {run_id!r:.60}; `GET /api/v1/runs` and the page Runs list them.")
    run = _run(row, now_us)
    details = RunDetails(**{name: getattr(run, name) for name in Run.__struct_fields__})
    if row["summary"] is None:
        return details
    if run.kind == RECONCILE:
        details.reconciliation = msgspec.json.decode(row["summary"], type=ReconcileResult)
    elif run.kind == BACKFILL:
        details.backfill = msgspec.json.decode(row["summary"], type=BackfillSummary)
    elif run.kind != "held":
        details.summary = msgspec.json.decode(row["summary"], type=SyncSummary)
    return details


def list_jobs(ledger: Ledger, config: Config, now_us: int) -> list[JobLine]:
    """The jobs that any service has planned in this ledger, the one that is due first first."""
    schedules = {job.name: job.schedule.words for job in (*jobs_for(config), *alert_jobs(config))}
    return [
        JobLine(
            name=row["name"],
            schedule=schedules.get(row["name"], ""),
            running=is_held(row, now_us),
            due_at=format_time(row["due_at_us"]),
            lease_until=_time(row["lease_until_us"] or None),
            run_id=row["run_id"],
            started_at=_time(row["started_at_us"]),
            finished_at=_time(row["finished_at_us"]),
            succeeded_at=_time(row["succeeded_at_us"]),
            problem=row["problem"],
            runs=row["runs"],
            failures=row["failures"],
        )
        for row in jobs_of(ledger)
    ]


def parse_wish(**fields: Any) -> RunWish:
    """The wish of a form. Raises ConfigError for a kind that is none."""
    fields["from"] = fields.pop("from_", None)
    try:
        return msgspec.convert(fields, RunWish)
    except msgspec.ValidationError as error:
        raise ConfigError(f"that cannot be run: {error}.") from error


def ask_for_run(config: Config, wish: RunWish, by: str, now_us: int) -> str:
    """Store what somebody asks for, so that a service runs it; its id.

    Raises ConfigError if it cannot be run as it was asked, or too much waits already, and LedgerError.
    """
    request = _checked(config, wish, by, now_us)
    with using_ledger(config.ledger_url) as ledger:
        if not ask(ledger, request):
            raise ConfigError(f"{WAITING_MAX} runs wait already; is a `tallymark serve` running? See the page Runs.")
    return request.request_id


def _checked(config: Config, wish: RunWish, by: str, now_us: int) -> RunRequest:
    # A service without one of the keys runs nothing, not even a dry run.
    require_langfuse(config)
    require_stripe(config)
    from_us, to_us = _moment("from", wish.from_), _moment("to", wish.to)
    check_range(from_us, to_us)
    if problem := _why_not(wish):
        raise ConfigError(problem)
    run_id = machine.current().random_hex(32)
    return RunRequest(run_id, wish.kind, wish.trace_id, from_us, to_us, wish.dry_run, now_us, by)


def _why_not(wish: RunWish) -> str:
    """What is missing of a wish, or too much; empty if nothing is."""
    has_range = wish.from_ is not None or wish.to is not None
    if (wish.kind == "trace") != bool(wish.trace_id):
        return "a run of kind trace, and no other, needs trace_id."
    if wish.trace_id and (len(wish.trace_id) > TRACE_ID_CHARS_MAX or not wish.trace_id.isprintable()):
        return f"a trace_id has at most {TRACE_ID_CHARS_MAX} characters, none of them a control character."
    if wish.kind == "range" and wish.from_ is None:
        return "a run of kind range needs from, such as 2026-11-01T00:00:00Z."
    if has_range and wish.kind not in ("range", "reconcile"):
        return f"a run of kind {wish.kind} takes no from and to; kind range does."
    if wish.dry_run and wish.kind == RECONCILE:
        return "a reconcile changes nothing anyway; ask for it without dry_run."
    return ""


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise ConfigError(f"{name}: {text!r:.60} is no time with a zone, such as 2026-11-20T10:00:00Z.") from None


def _run(row: Any, now_us: int) -> Run:
    state = _state(row)
    return Run(
        run_id=row["id"],
        kind=row["kind"],
        state=state,
        dry_run=bool(row["dry_run"]),
        asked_by=row["asked_by"],
        asked_at=format_time(row["at_us"]),
        started_at=_time(row["started_at_us"]),
        finished_at=_time(row["finished_at_us"]),
        seconds=_seconds(row, state, now_us),
        trace_id=row["trace_id"],
        from_=_time(row["from_us"]),
        to=_time(row["to_us"]),
        problem=row["problem"],
        progress=_progress(row) if state == "running" and row["stage"] is not None else None,
        counts=_counts(row["kind"], row["summary"]) if row["summary"] is not None else None,
    )


def _state(row: Any) -> State:
    if row["finished_at_us"] is not None:
        return "failed" if row["problem"] else "done"
    if row["owner"] and not is_dead(row["owner"]):
        return "running"
    return "waiting" if row["is_request"] else "stopped"


def _seconds(row: Any, state: State, now_us: int) -> int | None:
    ended_us = row["finished_at_us"] if state in ("done", "failed") else now_us if state == "running" else None
    began_us = row["started_at_us"]
    return max(0, ended_us - began_us) // SECOND_US if began_us is not None and ended_us is not None else None


def _progress(row: Any) -> RunProgress:
    seconds = (row["told_at_us"] - row["stage_at_us"]) / SECOND_US
    rate = row["done"] / seconds if seconds > 0 else None
    left = max(0, row["total"] - row["done"]) if row["total"] is not None else None
    return RunProgress(
        stage=row["stage"],
        done=row["done"],
        total=row["total"],
        per_second=round(rate, 1) if rate is not None else None,
        seconds_left=round(left / rate) if rate and left is not None else None,
        at=format_time(row["told_at_us"]),
    )


def _counts(kind: str, summary: str) -> RunCounts | None:
    if kind in (RECONCILE, "held"):
        return None
    short = msgspec.json.decode(summary, type=_Short)
    return RunCounts(
        fetched=short.fetched,
        processed=short.processed + short.owed,
        failed=short.failed,
        held=sum(short.held.values()),
        credits=short.credits or "0.000000",
        accepted=short.meter_events.get("accepted", 0),
    )


def _time(moment_us: int | None) -> str | None:
    return format_time(moment_us) if moment_us is not None else None


def asker(run: Run) -> str:
    """Who asked for a run, for people."""
    return run.asked_by.removeprefix(JOB) + " (job)" if run.asked_by.startswith(JOB) else run.asked_by or "by hand"
