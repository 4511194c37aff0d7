"""The service: sync every few minutes, the look-back once a night, reconcile once a day; each run by one process.

When a job is due stands in the ledger, and so does who runs it (ledger/jobs.py). A run that fails is logged and tried
again at its next time; a run that is stopped, or whose process is lost, stays due and is done at once by whoever is
there. Every run may be lost at any point (docs/adr/0023): stopping one is no more than that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .. import machine
from ..config import Config
from ..core.clock import DAY_US, MINUTE_US, SECOND_US, Clock, format_time
from ..core.secrets import told
from ..errors import TallymarkError
from ..ledger.guard import using_ledger
from ..ledger.jobs import LEASE_US, Done, Lease, Planned, finish, is_free, jobs_of, plan, release, renew, take
from .progress import Progress
from .reconcile import reconcile
from .sync import sync

log = logging.getLogger("tallymark")

SYNC, FULL_SYNC, RECONCILE = "sync", "full sync", "reconcile"
# How often the ledger is asked what is due: another process may have ended in the middle of its run.
LOOK_SECONDS = 5.0
# A run that waits for Langfuse or Stripe looks so often whether it is to stop.
STOP_SECONDS = 1.0
RENEW_SECONDS = LEASE_US / SECOND_US / 10
# Services that were started together do not ask Langfuse and Stripe together: up to this part of an interval later.
JITTER_PART = 10
DAILY_JITTER_US = 10 * MINUTE_US
Jitter = Callable[[int], int]
"""Gives a number from 0 up to the given one."""


class Stopped(Exception):
    """A run was told to end before it was done. Nothing is lost."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, so many microseconds after the last start."""

    interval_us: int
    at_once: bool = True

    def next_us(self, after_us: int, jitter: Jitter) -> int:
        """When the run is due that follows one which began at this moment."""
        return after_us + self.interval_us + jitter(self.interval_us // JITTER_PART)


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day, so many microseconds after midnight UTC."""

    at_us: int
    at_once = False

    def next_us(self, after_us: int, jitter: Jitter) -> int:
        """When the run is due that follows one which began at this moment."""
        midnight_us = after_us - after_us % DAY_US
        today_us = midnight_us + self.at_us
        return (today_us if today_us > after_us else today_us + DAY_US) + jitter(DAILY_JITTER_US)


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is run again and again. `run` is told the clock to wait by and whom to tell its progress."""

    name: str
    schedule: Every | Daily
    run: Callable[[Clock, Progress], Done]


def jobs_for(config: Config) -> list[Job]:
    """The jobs that the settings ask for."""
    jobs = [Job(SYNC, Every(config.sync_every_us), lambda clock, progress: _sync(config, False, clock, progress))]
    if config.full_sync_at is not None:
        daily = Daily(config.full_sync_at)
        jobs.append(Job(FULL_SYNC, daily, lambda clock, progress: _sync(config, True, clock, progress)))
    if config.reconcile_at is not None:
        jobs.append(Job(RECONCILE, Daily(config.reconcile_at), lambda *given: _reconcile(config, *given)))
    return jobs


def _sync(config: Config, full: bool, clock: Clock, progress: Progress) -> Done:
    summary = sync(config, full=full, clock=clock, progress=progress)
    counts, requests = summary.meter_events, summary.requests
    return Done("", requests.langfuse, requests.stripe, counts.accepted)


def _reconcile(config: Config, clock: Clock, progress: Progress) -> Done:
    found, _ = reconcile(config, clock=clock, progress=progress)
    problem = "" if found.explained else "there are differences without a cause; run `tallymark reconcile` to see them."
    return Done(problem, found.requests.langfuse, found.requests.stripe)


def by_chance(most: int) -> int:
    """A jitter that nobody knows before."""
    return int(machine.current().random_hex(16), 16) % (most + 1)


class Scheduler:
    """Runs what is due, one job at a time, until it is stopped."""

    def __init__(
        self,
        ledger_url: str,
        jobs: Sequence[Job],
        clock: Clock,
        stop: threading.Event,
        jitter: Jitter = by_chance,
    ) -> None:
        self._ledger_url = ledger_url
        self._jobs = {job.name: job for job in jobs}
        self._clock = clock
        self._stop = stop
        self._jitter = jitter

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
            problem = self._look(problem)
            self._stop.wait(LOOK_SECONDS)

    def _look(self, before: str) -> str:
        """Run what is due; why that cannot be told or noted, which is logged when it changes."""
        try:
            self.run_due()
        except Exception as error:  # noqa: BLE001 - nothing may end the service but a signal
            problem = _said(error)
            if problem != before:
                log.error("what is due could not be told or noted, and is looked at again: %s", problem)
            return problem
        if before:
            log.warning("what is due can be told again")
        return ""

    def run_due(self) -> list[str]:
        """Run each job that is due and that nobody else runs, once; their names. Raises LedgerError."""
        ran = []
        for name in self._due():
            lease = None if self._stop.is_set() else self._take(name)
            if lease is not None:
                self._run(lease)
                ran.append(name)
        return ran

    def _due(self) -> list[str]:
        now_us = self._clock.now_us()
        with using_ledger(self._ledger_url, read_only=True) as ledger:
            return [row["name"] for row in jobs_of(ledger) if row["name"] in self._jobs and is_free(row, now_us)]

    def _take(self, name: str) -> Lease | None:
        with using_ledger(self._ledger_url) as ledger:
            return take(ledger, name, self._clock.now_us())

    def _run(self, lease: Lease) -> None:
        lost = threading.Event()
        try:
            with self._renewed(lease, lost):
                done = self._done(lease.name, lost)
        except Stopped:
            log.warning("%s was stopped and is still due", lease.name)
            with using_ledger(self._ledger_url) as ledger:
                release(ledger, lease)
            return
        self._finish(lease, done)

    def _done(self, name: str, lost: threading.Event) -> Done:
        """Run a job; what it came to, also if it failed."""
        waiting = _Interruptible(self._clock, self._stop, lost)
        try:
            return self._jobs[name].run(waiting, waiting.progress)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a mistake in one run must not end the service
            return Done(_said(error))

    def _finish(self, lease: Lease, done: Done) -> None:
        now_us = self._clock.now_us()
        # Longer than its interval: due again at once.
        due_us = max(now_us, self._jobs[lease.name].schedule.next_us(lease.started_at_us, self._jitter))
        with using_ledger(self._ledger_url) as ledger:
            is_ours = finish(ledger, lease, done, due_us, now_us)
        again = f"next at {format_time(due_us)}" if is_ours else "another process has taken it over meanwhile"
        if done.problem:
            log.error("%s failed: %s (%s)", lease.name, done.problem, again)
        else:
            took = (now_us - lease.started_at_us) // SECOND_US
            log.info("%s done in %d s: %d meter events accepted (%s)", lease.name, took, done.accepted, again)

    @contextlib.contextmanager
    def _renewed(self, lease: Lease, lost: threading.Event) -> Iterator[None]:
        """Renew a lease meanwhile, in a thread and a connection of its own."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(RENEW_SECONDS):
                # A ledger that is away for a moment may be there next time; the lease outlives nine failures.
                with contextlib.suppress(TallymarkError), using_ledger(self._ledger_url) as ledger:
                    if not renew(ledger, lease, self._clock.now_us()):
                        lost.set()

        keeper = threading.Thread(target=keep, name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()


def _said(error: Exception) -> str:
    """What to log of an error; a mistake's own text may hold anything."""
    if isinstance(error, TallymarkError):
        return " ".join(told(str(error)).split())
    log.debug("the mistake", exc_info=error)
    return f"a mistake in tallymark ({type(error).__name__}); run `tallymark sync` by hand and report what it says."


class _Interruptible:
    """A clock whose waiting ends, and a progress that raises, when a run is to stop: between two steps of it."""

    def __init__(self, clock: Clock, stop: threading.Event, lost: threading.Event) -> None:
        self._clock = clock
        self._stop = stop
        self._lost = lost

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

    def _check(self) -> None:
        if self._stop.is_set() or self._lost.is_set():
            raise Stopped
