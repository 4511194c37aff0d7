"""Jobs that a service runs again and again, and runs that it was asked for: what is due, and the lease by which only
one process runs it.

A lease has an owner, an end and an attempt. Who holds it renews it; when its process is dead, or its end is over, the
next one takes the job, which is still due. The earlier attempt can then store nothing about it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import machine
from ..core.clock import MINUTE_US
from ..failpoints import Step
from .database import Database, Row
from .ledger import Ledger
from .owner import is_dead, this_process

# On another machine only time tells that a process is gone; and clocks of two machines may differ by some minutes.
LEASE_US = 5 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Planned:
    """When a job is due that was never seen, and when at the latest one that was."""

    first_us: int
    latest_us: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of this process to run a job now, as the run `run_id`."""

    name: str
    attempt: int
    started_at_us: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a run came to: `problem` is why it failed, empty if it did not; then what it did, and the object that says
    so, as JSON."""

    problem: str = ""
    langfuse_requests: int = 0
    stripe_requests: int = 0
    accepted: int = 0
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """How far a run is: its stage and when that began, how many are done, and of how many, if that is known."""

    stage: str
    stage_at_us: int
    done: int
    total: int | None


def plan(ledger: Ledger, jobs: Mapping[str, Planned]) -> None:
    """Note jobs by name. What was due while nobody was there stays due, once."""
    with ledger.transaction(Step.PUT_JOB) as db:
        for name, planned in jobs.items():
            db.write("put_job", name=name, first_us=planned.first_us, latest_us=planned.latest_us)


def jobs_of(ledger: Ledger) -> list[Row]:
    """All jobs, the one that is due first first."""
    return list(ledger.query("jobs"))


def take(ledger: Ledger, name: str, now_us: int) -> Lease | None:
    """The lease of a job, if it is due and nobody else holds it."""
    with ledger.transaction(Step.PUT_JOB) as db:
        job = next((row for row in db.rows("jobs") if row["name"] == name), None)
        if job is None or not is_free(job, now_us):
            return None
        lease = Lease(name, job["attempt"] + 1, now_us, machine.current().random_hex(32))
        until_us = now_us + LEASE_US
        db.write("delete_progress", run_id=job["run_id"])
        db.write("take_job", name=name, owner=this_process(), until_us=until_us, now_us=now_us, run_id=lease.run_id)
        return lease


def is_free(job: Row, now_us: int) -> bool:
    """Whether a job may be taken: it is due, and nobody holds it."""
    return job["due_at_us"] <= now_us and not is_held(job, now_us)


def is_held(row: Row, now_us: int) -> bool:
    """Whether a living process runs a job or what it was asked for: one that is not dead, and has renewed its lease.

    A lease that ends later than any lease can was given by a wrong clock, and ends now.
    """
    return bool(row["owner"] and now_us < row["lease_until_us"] <= now_us + LEASE_US and not is_dead(row["owner"]))


def renew(ledger: Ledger, lease: Lease, now_us: int, told: Told | None = None) -> bool:
    """Hold on to a job, and tell how far it is; False if it was given to somebody else meanwhile."""
    with ledger.transaction(Step.PUT_JOB) as db:
        is_ours = db.write("renew_job", name=lease.name, attempt=lease.attempt, until_us=now_us + LEASE_US)
        put_progress_txn(db, lease, told if is_ours else None, now_us)
    return bool(is_ours)


def put_progress_txn(db: Database, lease: Lease, told: Told | None, now_us: int) -> None:
    """Note how far a run is, if it says so."""
    if told is not None:
        at = {"stage": told.stage, "stage_at_us": told.stage_at_us, "done": told.done, "total": told.total}
        db.write("put_progress", run_id=lease.run_id, now_us=now_us, **at)


def end_run_txn(db: Database, lease: Lease, problem: str, now_us: int) -> None:
    """Forget how far a run was, and note why it failed, if it did."""
    db.write("delete_progress", run_id=lease.run_id)
    if problem:
        db.write("fail_run", run_id=lease.run_id, problem=problem, now_us=now_us)


def finish(ledger: Ledger, lease: Lease, done: Done, due_us: int, now_us: int) -> bool:
    """Store what a run came to and when the next one is due; False if the job was given to somebody else meanwhile."""
    with ledger.transaction(Step.PUT_JOB) as db:
        changed = db.write(
            "finish_job",
            name=lease.name,
            attempt=lease.attempt,
            due_us=due_us,
            now_us=now_us,
            problem=done.problem,
            run_us=max(0, now_us - lease.started_at_us),
            langfuse_requests=done.langfuse_requests,
            stripe_requests=done.stripe_requests,
            accepted=done.accepted,
        )
        end_run_txn(db, lease, done.problem, now_us)
    return bool(changed)


def release(ledger: Ledger, lease: Lease) -> None:
    """Give back a job whose run was stopped."""
    with ledger.transaction(Step.PUT_JOB) as db:
        db.write("release_job", name=lease.name, attempt=lease.attempt)
        db.write("delete_progress", run_id=lease.run_id)
