"""Jobs that a service runs again and again: when each is due, and the lease by which only one process runs it.

A lease has an owner, an end and an attempt. Who holds it renews it; when its process is dead, or its end is over, the
next one takes the job, which is still due. The earlier attempt can then store nothing about it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.clock import MINUTE_US
from ..failpoints import Step
from .database import Row
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
    """The right of this process to run a job now."""

    name: str
    attempt: int
    started_at_us: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a run came to: `problem` is why it failed, empty if it did not; then what it did."""

    problem: str = ""
    langfuse_requests: int = 0
    stripe_requests: int = 0
    accepted: int = 0


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
        db.write("take_job", name=name, owner=this_process(), until_us=now_us + LEASE_US, now_us=now_us)
        return Lease(name, job["attempt"] + 1, now_us)


def is_free(job: Row, now_us: int) -> bool:
    """Whether a job may be taken: it is due, and whoever took it is dead or has not renewed its lease.

    A lease that ends later than any lease can was given by a wrong clock, and ends now.
    """
    is_held = job["owner"] and now_us < job["lease_until_us"] <= now_us + LEASE_US and not is_dead(job["owner"])
    return job["due_at_us"] <= now_us and not is_held


def renew(ledger: Ledger, lease: Lease, now_us: int) -> bool:
    """Hold on to a job; False if it was given to somebody else meanwhile."""
    with ledger.transaction(Step.PUT_JOB) as db:
        return bool(db.write("renew_job", name=lease.name, attempt=lease.attempt, until_us=now_us + LEASE_US))


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
    return bool(changed)


def release(ledger: Ledger, lease: Lease) -> None:
    """Give back a job whose run was stopped."""
    with ledger.transaction(Step.PUT_JOB) as db:
        db.write("release_job", name=lease.name, attempt=lease.attempt)
