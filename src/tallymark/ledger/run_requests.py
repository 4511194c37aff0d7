"""Runs that somebody asked for: kept until a service has run them, each by one process at a time.

Leases are those of jobs (jobs.py). What ended is not taken again, whether it worked or not; what was lost or stopped on
the way is.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import machine
from ..failpoints import Step
from .database import Row
from .jobs import LEASE_US, Done, Lease, Told, end_run_txn, is_held, put_progress_txn
from .ledger import Ledger
from .owner import this_process

WAITING_MAX = 20


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked, by whom and when. `kind` is sync, full, range, trace or reconcile."""

    request_id: str
    kind: str
    trace_id: str | None
    from_us: int | None
    to_us: int | None
    dry_run: bool
    asked_at_us: int
    asked_by: str


def ask(ledger: Ledger, request: RunRequest) -> bool:
    """Note what was asked; False, and nothing is noted, if too many wait already."""
    with ledger.transaction(Step.PUT_REQUEST) as db:
        if len(db.rows("open_requests")) >= WAITING_MAX:
            return False
        db.write(
            "put_request",
            request_id=request.request_id,
            kind=request.kind,
            trace_id=request.trace_id,
            from_us=request.from_us,
            to_us=request.to_us,
            dry_run=int(request.dry_run),
            asked_at_us=request.asked_at_us,
            asked_by=request.asked_by,
        )
    return True


def free_requests(ledger: Ledger, now_us: int) -> list[RunRequest]:
    """What was asked for and nobody runs, the oldest first."""
    return [_request_of(row) for row in ledger.query("open_requests") if not is_held(row, now_us)]


def take(ledger: Ledger, request_id: str, now_us: int) -> Lease | None:
    """The lease of what was asked for, if nobody else holds it and it has not ended."""
    with ledger.transaction(Step.PUT_REQUEST) as db:
        row = next((row for row in db.rows("open_requests") if row["request_id"] == request_id), None)
        if row is None or is_held(row, now_us):
            return None
        lease = Lease(request_id, row["attempt"] + 1, now_us, machine.current().random_hex(32))
        db.write("delete_progress", run_id=row["run_id"])
        db.write(
            "take_request",
            request_id=request_id,
            owner=this_process(),
            until_us=now_us + LEASE_US,
            now_us=now_us,
            run_id=lease.run_id,
        )
        return lease


def renew(ledger: Ledger, lease: Lease, now_us: int, told: Told | None = None) -> bool:
    """As jobs.renew."""
    with ledger.transaction(Step.PUT_REQUEST) as db:
        is_ours = db.write("renew_request", name=lease.name, attempt=lease.attempt, until_us=now_us + LEASE_US)
        put_progress_txn(db, lease, told if is_ours else None, now_us)
    return bool(is_ours)


def finish(ledger: Ledger, lease: Lease, done: Done, now_us: int) -> bool:
    """Store what a run came to; False if it was given to somebody else meanwhile."""
    with ledger.transaction(Step.PUT_REQUEST) as db:
        ended = {"now_us": now_us, "problem": done.problem, "summary": done.summary}
        changed = db.write("finish_request", name=lease.name, attempt=lease.attempt, **ended)
        end_run_txn(db, lease, done.problem, now_us)
    return bool(changed)


def release(ledger: Ledger, lease: Lease) -> None:
    """Give back what was stopped on the way."""
    with ledger.transaction(Step.PUT_REQUEST) as db:
        db.write("release_request", name=lease.name, attempt=lease.attempt)
        db.write("delete_progress", run_id=lease.run_id)


def _request_of(row: Row) -> RunRequest:
    return RunRequest(
        row["request_id"],
        row["kind"],
        row["trace_id"],
        row["from_us"],
        row["to_us"],
        bool(row["dry_run"]),
        row["asked_at_us"],
        row["asked_by"],
    )
