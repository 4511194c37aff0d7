"""The service: sync every few minutes, the look-back once a night, reconcile once a day, and what somebody asks for;
each run by one process.

When a job is due stands in the ledger, and so does who runs it (ledger/jobs.py). A run that fails is logged and tried
again at its next time; a run that is stopped, or whose process is lost, stays due and is done at once by whoever is
there. Every run may be lost at any point (docs/adr/0023): stopping one is no more than that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from types import ModuleType

from .. import machine
from ..config import Config
from ..core.clock import DAY_US, MINUTE_US, SECOND_US, Clock, format_time
from ..core.secrets import told
from ..errors import TallymarkError
from ..ledger import jobs as job_leases
from ..ledger import run_requests
from ..ledger.guard import using_ledger
from ..ledger.jobs import LEASE_US, Done, Lease, Planned, Told, is_free, jobs_of, plan
from ..ledger.rows import Asked
from ..ledger.run_requests import RunRequest, free_requests
from .progress import Progress
from .reconcile import reconcile
from .summary import SyncSummary
from .sync import sync

log = logging.getLogger("tallymark")

SYNC, FULL_SYNC, RECONCILE = "sync", "full sync", "reconcile"
# What the ledger says of who asked for a run: a job of this name.
JOB = "job: "
# How often the ledger is asked what is due: another process may have ended in the middle of its run.
LOOK_SECONDS = 5.0
# A run that waits for Langfuse or Stripe looks so often whether it is to stop.
STOP_SECONDS = 1.0
RENEW_SECONDS = LEASE_US / SECOND_US / 10
# How often a run's progress is noted, if it moved.
TELL_SECONDS = 1.0
# Services that were started together do not ask Langfuse and Stripe together: up to this part of an interval later.
JITTER_PART = 10
DAILY_JITTER_US = 10 * MINUTE_US
Jitter = Callable[[int], int]
"""Gives a number from 0 up to the given one."""


Run = Callable[[Clock, Progress, Asked], Done]
"""A run: it is told the clock to wait by, whom to tell its progress, and as what it is kept."""


class Stopped(Exception):
    """A run was told to end before it was done. Nothing is lost."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, so many microseconds after the last start."""

    interval_us: int
    at_once: bool = True

    @property
    def words(self) -> str:
        """For people."""
        return f"every {self.interval_us / MINUTE_US:g} minutes"

    def next_us(self, after_us: int, jitter: Jitter) -> int:
        """When the run is due that follows one which began at this moment."""
        return after_us + self.interval_us + jitter(self.interval_us // JITTER_PART)


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day, so many microseconds after midnight UTC."""

    at_us: int
    at_once = False

    @property
    def words(self) -> str:
        """For people."""
        return f"daily at {format_time(self.at_us)[11:16]} UTC"

    def next_us(self, after_us: int, jitter: Jitter) -> int:
        """When the run is due that follows one which began at this moment."""
        midnight_us = after_us - after_us % DAY_US
        today_us = midnight_us + self.at_us
        return (today_us if today_us > after_us else today_us + DAY_US) + jitter(DAILY_JITTER_US)


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is run again and again."""

    name: str
    schedule: Every | Daily
    run: Run


def jobs_for(config: Config) -> list[Job]:
    """The jobs that the settings ask for."""
    jobs = [Job(SYNC, Every(config.sync_every_us), partial(_sync, config, False))]
    if config.full_sync_at is not None:
        jobs.append(Job(FULL_SYNC, Daily(config.full_sync_at), partial(_sync, config, True)))
    if config.reconcile_at is not None:
        jobs.append(Job(RECONCILE, Daily(config.reconcile_at), partial(_reconcile, config)))
    return jobs


def _sync(config: Config, full: bool, clock: Clock, progress: Progress, asked: Asked) -> Done:
    return done_of(sync(config, full=full, clock=clock, progress=progress, asked=asked))


def done_of(summary: SyncSummary) -> Done:
    """What a service notes of a sync."""
    counts, requests = summary.meter_events, summary.requests
    return Done("", requests.langfuse, requests.stripe, counts.accepted)


def _reconcile(config: Config, clock: Clock, progress: Progress, asked: Asked) -> Done:
    found, _ = reconcile(config, clock=clock, progress=progress, asked=asked)
    problem = "" if found.explained else "there are differences without a cause; run `tallymark reconcile` to see them."
    return Done(problem, found.requests.langfuse, found.requests.stripe)


def run_requested(config: Config, request: RunRequest, clock: Clock, progress: Progress, asked: Asked) -> Done:
    """Run what somebody asked for. What a dry run found is in its answer alone; the others keep it in the ledger."""
    from_us, to_us = request.from_us, request.to_us
    if request.kind == RECONCILE:
        found, _ = reconcile(config, from_us=from_us, to_us=to_us, clock=clock, progress=progress, asked=asked)
        return Done("", found.requests.langfuse, found.requests.stripe)
    summary = sync(
        config,
        from_us=from_us,
        to_us=to_us,
        trace_id=request.trace_id,
        full=request.kind == "full",
        dry_run=request.dry_run,
        clock=clock,
        progress=progress,
        asked=asked,
    )
    return replace(done_of(summary), summary=summary.encode().decode() if request.dry_run else None)


def by_chance(most: int) -> int:
    """A jitter that nobody knows before."""
    return int(machine.current().random_hex(16), 16) % (most + 1)


@dataclass(frozen=True, slots=True)
class _Work:
    """A run that is this process's to do. `leases` keeps its lease: ledger/jobs.py or ledger/run_requests.py."""

    what: str
    by: str
    lease: Lease
    run: Run
    leases: ModuleType


class Scheduler:
    """Runs what is due or was asked for, one run at a time, until it is stopped.

    `requested` runs what was asked for; without it that is left to others.
    """

    def __init__(
        self,
        ledger_url: str,
        jobs: Sequence[Job],
        clock: Clock,
        stop: threading.Event,
        jitter: Jitter = by_chance,
        requested: Callable[[RunRequest, Clock, Progress, Asked], Done] | None = None,
    ) -> None:
        self._ledger_url = ledger_url
        self._jobs = {job.name: job for job in jobs}
        self._clock = clock
        self._stop = stop
        self._jitter = jitter
        self._requested = requested
        self._bell = threading.Event()

    def wake(self) -> None:
        """Look at once what is due: something was asked for, or the service is to stop."""
        self._bell.set()

    def plan(self) -> None:
        """Note the jobs in the ledger, which is made if there is none. Raises LedgerError or ConfigError."""
        now_us = self._clock.now_us()
        planned = {}
        for name, job in self._jobs.items():
            next_us = job.schedule.next_us(now_us, self._jitter)
            planned[name] = Planned(now_us if job.schedule.at_once else next_us, next_us)
        with using_ledger(self._ledger_url) as ledger:
            plan(ledger, planned)

    def run_forever(self) -> None:
        """Run what is due until stopped. Nothing that a run or the ledger does ends it."""
        problem = ""
        while not self._stop.is_set():
            self._bell.clear()
            problem = self._look(problem)
            self._bell.wait(LOOK_SECONDS)

    def _look(self, before: str) -> str:
        """Run what is due; why that cannot be told or noted, which is logged when it changes."""
        try:
            self.run_due()
        except Exception as error:  # noqa: BLE001 - nothing may end the service but a signal
            problem = said(error)
            if problem != before:
                log.error("what is due could not be told or noted, and is looked at again: %s", problem)
            return problem
        if before:
            log.warning("what is due can be told again")
        return ""

    def run_due(self) -> list[str]:
        """Run what was asked for and what is due and nobody else runs, each once; what ran. Raises LedgerError."""
        ran = []
        for take in self._due():
            work = None if self._stop.is_set() else take()
            if work is not None:
                self._run(work)
                ran.append(work.what)
        return ran

    def _due(self) -> list[Callable[[], _Work | None]]:
        """How to take each thing that may be taken; somebody waits for what was asked for, so that is first."""
        now_us = self._clock.now_us()
        with using_ledger(self._ledger_url, read_only=True) as ledger:
            asked = free_requests(ledger, now_us) if self._requested is not None else []
            due = [row["name"] for row in jobs_of(ledger) if row["name"] in self._jobs and is_free(row, now_us)]
        return [
            *(partial(self._take_request, each) for each in asked),
            *(partial(self._take_job, name) for name in due),
        ]

    def _take_job(self, name: str) -> _Work | None:
        with using_ledger(self._ledger_url) as ledger:
            lease = job_leases.take(ledger, name, self._clock.now_us())
        return _Work(name, f"{JOB}{name}", lease, self._jobs[name].run, job_leases) if lease else None

    def _take_request(self, request: RunRequest) -> _Work | None:
        with using_ledger(self._ledger_url) as ledger:
            lease = run_requests.take(ledger, request.request_id, self._clock.now_us())
        if lease is None or self._requested is None:
            return None
        what = f"{request.kind} for {request.asked_by}"
        return _Work(what, request.asked_by, lease, partial(self._requested, request), run_requests)

    def _run(self, work: _Work) -> None:
        waiting = Interruptible(self._clock, self._stop)
        try:
            with self._renewed(work, waiting):
                done = self._done(work, waiting)
        except Stopped:
            log.warning("%s was stopped and is still due", work.what)
            with using_ledger(self._ledger_url) as ledger:
                work.leases.release(ledger, work.lease)
            return
        self._finish(work, done)

    def _done(self, work: _Work, waiting: Interruptible) -> Done:
        """Run it; what it came to, also if it failed."""
        try:
            return work.run(waiting, waiting.progress, Asked(work.lease.run_id, work.by))
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a mistake in one run must not end the service
            return Done(said(error))

    def _finish(self, work: _Work, done: Done) -> None:
        now_us, lease = self._clock.now_us(), work.lease
        again = self._store(work, done, now_us) or "another process has taken it over meanwhile"
        if done.problem:
            log.error("%s failed: %s (%s)", work.what, done.problem, again)
        else:
            took = (now_us - lease.started_at_us) // SECOND_US
            log.info("%s done in %d s: %d meter events accepted (%s)", work.what, took, done.accepted, again)

    def _store(self, work: _Work, done: Done, now_us: int) -> str:
        """Store what a run came to; when the next one is, or nothing if the run was another process's by now."""
        with using_ledger(self._ledger_url) as ledger:
            if work.leases is run_requests:
                return "as asked" if run_requests.finish(ledger, work.lease, done, now_us) else ""
            # Longer than its interval: due again at once.
            next_us = self._jobs[work.what].schedule.next_us(work.lease.started_at_us, self._jitter)
            due_us = max(now_us, next_us)
            is_ours = job_leases.finish(ledger, work.lease, done, due_us, now_us)
            return f"next at {format_time(due_us)}" if is_ours else ""

    @contextlib.contextmanager
    def _renewed(self, work: _Work, waiting: Interruptible) -> Iterator[None]:
        """Renew a lease meanwhile and note the progress, in a thread and a connection of its own."""
        over = threading.Event()

        def keep() -> None:
            told, renewed_at = None, monotonic()
            while not over.wait(min(TELL_SECONDS, RENEW_SECONDS)):
                if waiting.told == told and monotonic() - renewed_at < RENEW_SECONDS:
                    continue
                told, renewed_at = waiting.told, monotonic()
                # A ledger that is away for a moment may be there next time; the lease outlives nine failures.
                with contextlib.suppress(TallymarkError), using_ledger(self._ledger_url) as ledger:
                    if not work.leases.renew(ledger, work.lease, self._clock.now_us(), told):
                        waiting.lost.set()

        keeper = threading.Thread(target=keep, name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()


@contextlib.contextmanager
def running(schedulers: Sequence[Scheduler], stop: threading.Event) -> Iterator[None]:
    """The schedulers in threads beside; a second signal must not wait for them."""
    threads = [threading.Thread(target=each.run_forever, name="scheduler", daemon=True) for each in schedulers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for scheduler, thread in zip(schedulers, threads, strict=True):
            scheduler.wake()
            thread.join()


def said(error: Exception) -> str:
    """What to log of an error; a mistake's own text may hold anything."""
    if isinstance(error, TallymarkError):
        return " ".join(told(str(error)).split())
    log.debug("the mistake", exc_info=error)
    return f"a mistake in tallymark ({type(error).__name__}); run `tallymark sync` by hand and report what it says."


class Interruptible:
    """A clock whose waiting ends, and a progress that raises, when a run is to stop: between two steps of it."""

    def __init__(self, clock: Clock, stop: threading.Event) -> None:
        self._clock = clock
        self._stop = stop
        self.lost = threading.Event()
        self.told: Told | None = None

    def now_us(self) -> int:
        """As Clock.now_us."""
        return self._clock.now_us()

    def sleep(self, seconds: float) -> None:
        """As Clock.sleep, in pieces. Raises Stopped."""
        while seconds > 0:
            self._check()
            self._clock.sleep(min(seconds, STOP_SECONDS))
            seconds -= STOP_SECONDS
        self._check()

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """As Progress. Raises Stopped."""
        self._check()
        before = self.told
        # A second project begins its own count.
        goes_on = before is not None and before.stage == stage and before.done <= done
        began_us = before.stage_at_us if before is not None and goes_on else self.now_us()
        self.told = Told(stage, began_us, done, total)

    def _check(self) -> None:
        if self._stop.is_set() or self.lost.is_set():
            raise Stopped
