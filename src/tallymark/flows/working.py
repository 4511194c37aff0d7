"""A worker: takes jobs from the queue and does parts of plans, until it is stopped; several may work on one ledger.

What is left to do stands in the ledger. The queue is filled from there whenever something is missing in it, so nothing
that happens to the queue, or to a worker, loses work or does it twice in a way that counts (docs/adr/0039).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from ..clock import SystemClock
from ..config import Config
from ..core.clock import MINUTE_US, Clock
from ..errors import ConfigError, LedgerError, TallymarkError
from ..ledger import Ledger
from ..ledger.guard import using_ledger
from ..ledger.jobs import Done
from ..ledger.opening import POSTGRES_SCHEMES
from ..ledger.plans import (
    CANCELLED,
    FAILED,
    Part,
    Plan,
    end_part,
    fail_part,
    hand_back_readings,
    newest_plans,
    open_part,
    open_parts,
    open_plans,
    plan_of,
    stop_plan,
    try_part_again,
)
from ..ledger.rows import Asked
from ..queue.jobs import COLLECT, MARK, PLAN, QUEUES, SEND, Job, TryAgain
from ..queue.tasks import Address, Beats, Queue, Worker
from .alerts import alert_jobs
from .parts import do_part
from .plan_stages import advance
from .plan_status import until_ended, wait_for
from .planning import BACKFILL, plan_backfill, plan_sync, request_of
from .progress import Progress, quiet
from .ranges import check_range
from .service import (
    FULL_SYNC,
    SYNC,
    Interruptible,
    Scheduler,
    Stopped,
    done_of,
    jobs_for,
    running,
    said,
)
from .service import Job as ServiceJob
from .stations import Stations, open_stations
from .summary import SyncSummary
from .sync import Request

log = logging.getLogger("tallymark")
QUEUE_OF = {"read": COLLECT, "send": SEND, "mark": MARK}
QUEUE_SUFFIX = "_queue"
TRIES_MAX = 5
# After the first failure; then three times as long each time.
AGAIN_SECONDS = 5
# A plan that was cancelled is looked at for so long: a worker may have staged something after that.
CANCELLED_US = 10 * MINUTE_US
# How often who does a part looks whether its plan was cancelled.
WATCH_SECONDS = 3.0
BEATS = Beats()


def require_server(config: Config) -> None:
    """Raise ConfigError for a ledger that several machines cannot write."""
    if not config.ledger_url.startswith(POSTGRES_SCHEMES):
        raise ConfigError(
            "workers share a ledger and a queue in PostgreSQL, and BILLING_LEDGER_URL names a file, which one machine "
            "alone can write; move the ledger to PostgreSQL (docs/howto/postgres.md), or run without workers."
        )


@contextmanager
def queue_of(config: Config) -> Iterator[Queue]:
    """The queue beside a ledger, made if there is none. Raises ConfigError or LedgerError."""
    with Queue(_address(config)).opened() as queue:
        yield queue


def _address(config: Config) -> Address:
    from ..ledger.postgres import schema_beside

    schema, conninfo = schema_beside(config.ledger_url, QUEUE_SUFFIX)
    return Address(conninfo, schema)


def plan_for_workers(
    config: Config,
    kind: str,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    full: bool = False,
    use_tag_filtering: bool | None = None,
    clock: Clock | None = None,
    asked: Asked | None = None,
    progress: Progress = quiet,
) -> str:
    """Plan a "backfill" or a "sync" for workers, or join the one that goes on; the plan's id.

    Options are those of the flows of these names. A sync of another kind is waited for. Raises ConfigError, RemoteError
    or LedgerError.
    """
    require_server(config)
    check_range(from_us, to_us)
    if config.bulk_source is not None:
        raise ConfigError(
            "workers read Langfuse's API, and BILLING_SOURCE names a source that one process reads at once; run it "
            "without --workers, or set BILLING_SOURCE to auto."
        )
    only_pending = config.use_tag_filtering if use_tag_filtering is None else use_tag_filtering
    request = Request(None, from_us, to_us, full, only_pending)
    while kind == SYNC and (other := _other_sync(config, request)) is not None:
        until_ended(config, other, progress, clock)
    with open_stations(config, dry_run=False, clock=clock) as stations:
        plan = plan_backfill(stations, from_us, to_us) if kind == BACKFILL else plan_sync(stations, request, asked)
    _put_plan_jobs(config, plan)
    return plan.plan_id


def jobs_by_workers(config: Config) -> list[ServiceJob]:
    """The jobs of a service (flows/service.py) where workers are: a sync is planned, and waited for."""
    if config.bulk_source is not None:
        return jobs_for(config)
    by_workers = {name: partial(_sync, config, name == FULL_SYNC) for name in (SYNC, FULL_SYNC)}
    return [replace(job, run=by_workers.get(job.name, job.run)) for job in jobs_for(config)]


def _sync(config: Config, full: bool, clock: Clock, progress: Progress, asked: Asked) -> Done:
    plan_id = plan_for_workers(config, SYNC, full=full, clock=clock, asked=asked, progress=progress)
    summary = wait_for(config, plan_id, progress, clock)
    return done_of(summary) if isinstance(summary, SyncSummary) else Done()


def _other_sync(config: Config, wanted: Request) -> str | None:
    """The plan of a sync that goes on and is not the one that is wanted."""
    with using_ledger(config.ledger_url) as ledger:
        plans = [plan for plan in open_plans(ledger) if plan.kind == SYNC]
        return next((plan.plan_id for plan in plans if request_of(plan).as_sync() != wanted), None)


def _put_plan_jobs(config: Config, plan: Plan) -> None:
    """Put what is to be done of a plan into the queue. If this is lost, a worker puts it there a little later."""
    with queue_of(config) as queue, using_ledger(config.ledger_url, read_only=True) as ledger:
        queue.put(jobs_of(ledger, plan))


def jobs_of(ledger: Ledger, plan: Plan) -> list[Job]:
    """What is to be done now of a plan: the parts of its stage, or what follows when all of them have ended."""
    parts = [
        Job(QUEUE_OF[part.stage], part.plan_id, part.stage, part.number) for part in open_parts(ledger, plan.plan_id)
    ]
    return parts or [Job(PLAN, plan.plan_id, plan.stage)]


def work(
    config: Config,
    queues: Sequence[str] = QUEUES,
    concurrency: int = 1,
    *,
    until_idle: bool = False,
    beats: Beats | None = None,
) -> bool:
    """Work until stopped, or until no plan goes on; whether it was stopped by a signal.

    Raises ConfigError for a ledger in a file, and LedgerError if ledger or queue cannot be used.
    """
    require_server(config)
    with open_stations(config, dry_run=False):
        # The settings are complete, and the ledger is there and up to date, before anybody is told to begin.
        pass
    stop = threading.Event()
    with queue_of(config) as queue, ExitStack() as stack:
        hands = _Hands(config, queue, stop)
        stack.callback(hands.close)
        worker = Worker(_address(config), queues, concurrency, hands.do, hands.look_after, beats or BEATS)
        if until_idle:
            return worker.run(stop, hands.is_idle)
        stack.enter_context(running(_schedulers(config, stop), stop))
        return worker.run(stop, lambda: False)


def _schedulers(config: Config, stop: threading.Event) -> list[Scheduler]:
    """What plans syncs, and runs the other jobs of a service, where no other process does."""
    jobs = (jobs_by_workers(config), alert_jobs(config))
    schedulers = [Scheduler(config.ledger_url, each, SystemClock(), stop) for each in jobs]
    for scheduler in schedulers:
        scheduler.plan()
    return schedulers


class _Hands:
    """Does jobs, each thread with stations of its own, which stay open for the jobs of one plan."""

    def __init__(self, config: Config, queue: Queue, stop: threading.Event) -> None:
        self._config = config
        self._queue = queue
        self._stop = stop
        self._clock = SystemClock()
        self._own = threading.local()
        self._open: list[ExitStack] = []

    # --- jobs

    def do(self, job: Job) -> None:
        """Do a job. Raises TryAgain if it is to come again, and nothing else."""
        if job.queue == PLAN:
            # Fresh ones, whose requests are those of this step alone.
            self.close_own()
        try:
            with self._stations(job.plan_id) as (stations, waiting):
                self._advance(job, stations, waiting) if job.queue == PLAN else self._do_part(job, stations, waiting)
        except Stopped:
            raise TryAgain(0) from None
        except LedgerError as error:
            log.warning("%s", said(error))
            raise TryAgain(AGAIN_SECONDS) from None

    @contextmanager
    def _stations(self, plan_id: str) -> Iterator[tuple[Stations, Interruptible]]:
        """This thread's stations, which wait on a clock that ends when the worker does. An error closes them."""
        if getattr(self._own, "plan_id", "") != plan_id:
            self.close_own()
            waiting, stack = Interruptible(self._clock, self._stop), ExitStack()
            self._own.stations = stack.enter_context(
                open_stations(self._config, dry_run=False, clock=waiting, shared=True)
            )
            self._own.plan_id, self._own.stack, self._own.waiting = plan_id, stack, waiting
            self._open.append(stack)
        try:
            self._own.waiting.lost.clear()
            yield self._own.stations, self._own.waiting
        except BaseException:
            self.close_own()
            raise

    def close_own(self) -> None:
        """Close the stations of this thread."""
        if getattr(self._own, "plan_id", ""):
            self._own.plan_id = ""
            self._open.remove(self._own.stack)
            self._own.stack.close()

    def close(self) -> None:
        """Close the stations of all threads, which work no more."""
        while self._open:
            self._open.pop().close()

    def _do_part(self, job: Job, stations: Stations, waiting: Interruptible) -> None:
        ledger = stations.ledger
        plan, part = plan_of(ledger, job.plan_id), open_part(ledger, job.plan_id, job.stage, job.number)
        if plan is None or part is None:
            return
        before = stations.requests
        try:
            with self._watched(part, waiting):
                counts = do_part(stations, plan, part, waiting.progress)
        except Stopped:
            self._hand_back(ledger, part)
            raise
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - a mistake in one part must not end the worker
            self._note_failure(ledger, part, error)
        else:
            counts.requests = stations.requests - before
            if end_part(ledger, part, counts.text(), self._clock.now_us()):
                self._queue.put([Job(PLAN, part.plan_id, part.stage)])

    @contextmanager
    def _watched(self, part: Part, waiting: Interruptible) -> Iterator[None]:
        """Let a part stop soon after its plan was cancelled."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_SECONDS):
                with suppress(TallymarkError), using_ledger(self._config.ledger_url, read_only=True) as ledger:
                    if open_part(ledger, part.plan_id, part.stage, part.number) is None:
                        waiting.lost.set()

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _hand_back(self, ledger: Ledger, part: Part) -> None:
        plan = plan_of(ledger, part.plan_id)
        if plan is not None and plan.has_ended:
            hand_back_readings(ledger, part.plan_id)

    def _note_failure(self, ledger: Ledger, part: Part, error: Exception) -> None:
        """Note why a part was not done. Raises TryAgain unless it is given up."""
        problem, tries = said(error), part.tries + 1
        log.warning("part %d (%s) of plan %s: %s", part.number, part.stage, part.plan_id, problem)
        if tries < TRIES_MAX and not isinstance(error, ConfigError):
            try_part_again(ledger, part, problem)
            raise TryAgain(AGAIN_SECONDS * 3 ** (tries - 1)) from None
        if fail_part(ledger, part, problem, self._clock.now_us()):
            self._queue.put([Job(PLAN, part.plan_id, part.stage)])

    # --- plans

    def _advance(self, job: Job, stations: Stations, waiting: Interruptible) -> None:
        try:
            goes_on = advance(stations, job.plan_id, waiting.progress)
        except (Stopped, LedgerError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._note_plan_failure(stations.ledger, job, error)
            return
        plan = plan_of(stations.ledger, job.plan_id)
        if goes_on and plan is not None and not plan.has_ended:
            self._queue.put(jobs_of(stations.ledger, plan))

    def _note_plan_failure(self, ledger: Ledger, job: Job, error: Exception) -> None:
        problem = said(error)
        log.warning("plan %s: %s", job.plan_id, problem)
        if job.tries + 1 < TRIES_MAX and not isinstance(error, ConfigError):
            raise TryAgain(AGAIN_SECONDS * 3**job.tries) from None
        plan = plan_of(ledger, job.plan_id)
        if plan is not None and not plan.has_ended:
            stop_plan(ledger, plan, FAILED, problem, self._clock.now_us())

    # --- what is missing

    def look_after(self) -> None:
        """Put into the queue what is open and not there; leave to others what a cancelled plan had staged."""
        try:
            with using_ledger(self._config.ledger_url) as ledger:
                keys = self._queue.keys()
                missing = [job for plan in open_plans(ledger) for job in jobs_of(ledger, plan) if job.key not in keys]
                self._queue.put(missing)
                for plan in newest_plans(ledger, 10):
                    if plan.stage in (CANCELLED, FAILED) and self._clock.now_us() - plan.stage_at_us < CANCELLED_US:
                        hand_back_readings(ledger, plan.plan_id)
        except LedgerError as error:
            log.warning("what is to be done could not be looked at, and is looked at again: %s", said(error))

    def is_idle(self) -> bool:
        """Whether no plan goes on."""
        try:
            with using_ledger(self._config.ledger_url, read_only=True) as ledger:
                return not open_plans(ledger)
        except LedgerError:
            return False
