"""Jobs in procrastinate: putting them in, doing them, and finding again what a lost worker was at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import procrastinate
from procrastinate import exceptions
from procrastinate.jobs import Status
from psycopg_pool import PoolTimeout

from ..errors import LedgerUnreachable, LedgerUnusable
from .jobs import PLAN, Job, TryAgain

LOOK_AFTER = "look after"
# Every so many seconds, in the sixth field of a cron line.
LOOK_AFTER_CRON = "* * * * * */5"
# Before all other work: it finds what was lost, and lets the next stage begin.
URGENT = 10
CONNECT_SECONDS = 15.0
UNDER_WAY = (Status.TODO, Status.DOING)

Do = Callable[[Job], None]
"""Does a job. Raises TryAgain if it is to come again, and nothing else."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the queue is: how to connect, and the schema of its tables, which a connection looks into first."""

    conninfo: str
    schema: str


@dataclass(frozen=True, slots=True)
class Beats:
    """How often a worker says that it lives, and how long after its last word its jobs are given to others, in seconds.

    A worker that only stood still may come back: a part is then done twice, which changes nothing.
    """

    every_seconds: float = 4.0
    lost_after_seconds: float = 20.0


class _Again(procrastinate.BaseRetryStrategy):
    """A job comes again if it says so."""

    def get_retry_decision(
        self, *, exception: BaseException, job: procrastinate.jobs.Job
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, TryAgain):
            return procrastinate.RetryDecision(retry_in={"seconds": exception.after_seconds})
        return None


class Queue:
    """The queue for who puts jobs in. Used from one thread at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(**_pool(address)))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Queue]:
        """Connect, and make the tables if they are not there. Raises LedgerUnreachable or LedgerUnusable."""
        with said_as_ours(), self._app.open():
            self._prepare()
            yield self

    def _prepare(self) -> None:
        connector = self._app.connector
        if self._has("to_regclass('procrastinate_jobs')"):
            return
        if not self._has(f"to_regnamespace('{self._address.schema}')"):
            connector.execute_query(f"create schema if not exists {self._address.schema}")
        # Two workers that start together: one makes the tables, the other one finds them.
        try:
            self._app.schema_manager.apply_schema()
        except exceptions.ConnectorException:
            if not self._has("to_regclass('procrastinate_jobs')"):
                raise

    def _has(self, what: str) -> bool:
        return self._app.connector.execute_query_one(f"select {what} is not null as found")["found"] is True

    def put(self, jobs: Sequence[Job]) -> int:
        """Put jobs in that do not wait already; how many."""
        put = 0
        with said_as_ours():
            for job in jobs:
                # Deferring one that waits already is no mistake: somebody else saw the same thing to do.
                with contextlib.suppress(exceptions.AlreadyEnqueued):
                    self._deferrer(job).defer(plan_id=job.plan_id, stage=job.stage, number=job.number)
                    put += 1
        return put

    def _deferrer(self, job: Job) -> Any:
        priority = URGENT if job.queue == PLAN else 0
        return self._app.configure_task(
            job.queue, queue=job.queue, lock=job.lock, queueing_lock=job.key, priority=priority
        )

    def keys(self) -> set[str]:
        """The keys of all jobs that wait or are being done."""
        with said_as_ours():
            manager = self._app.job_manager
            return {job.queueing_lock or "" for state in UNDER_WAY for job in manager.list_jobs(status=state.value)}


class Worker:
    """Does jobs of some queues, several side by side, until it is stopped."""

    def __init__(
        self,
        address: Address,
        queues: Sequence[str],
        concurrency: int,
        do: Do,
        look_after: Callable[[], None],
        beats: Beats,
    ) -> None:
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(**_pool(address, concurrency)))
        self._queues = [*queues, PLAN]
        self._concurrency = concurrency
        self._beats = beats
        self._look_after = look_after
        for queue in self._queues:
            self._app.task(name=queue, retry=_Again(), pass_context=True)(_doing(do, queue))
        task = self._app.task(name=LOOK_AFTER, queue=PLAN, queueing_lock=LOOK_AFTER, priority=URGENT)(self._look)
        self._app.periodic(cron=LOOK_AFTER_CRON)(task)

    def run(self, stop: threading.Event, is_done: Callable[[], bool]) -> bool:
        """Work until `stop` is set, by a signal too, or `is_done` says so; whether it was a signal.

        What is being done then is told to stop by the same event. Raises LedgerUnreachable if the queue is lost.
        """
        with said_as_ours():
            return asyncio.run(self._run(stop, is_done))

    async def _run(self, stop: threading.Event, is_done: Callable[[], bool]) -> bool:
        loop, signalled = asyncio.get_running_loop(), asyncio.Event()
        loop.set_default_executor(ThreadPoolExecutor(self._concurrency + 2, thread_name_prefix="work"))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled.set)
        async with self._app.open_async():
            working = asyncio.create_task(self._work())
            ending = asyncio.create_task(_end(signalled, is_done))
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            ending.cancel()
            if working.done():
                raise LedgerUnreachable(
                    "the queue's connection was lost; nothing is half-written. Start the worker again when the server "
                    "is reachable."
                )
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
        return signalled.is_set()

    async def _work(self) -> None:
        await self._app.run_worker_async(
            queues=self._queues,
            concurrency=self._concurrency,
            install_signal_handlers=False,
            delete_jobs="always",
            update_heartbeat_interval=self._beats.every_seconds,
            stalled_worker_timeout=self._beats.lost_after_seconds,
            fetch_job_polling_interval=1.0,
        )

    async def _look(self, timestamp: int) -> None:
        """Give the jobs of lost workers to others; then let the flows look what is missing."""
        manager = self._app.job_manager
        lost = await manager.get_stalled_jobs(seconds_since_heartbeat=self._beats.lost_after_seconds)
        for job in lost:
            await self._give_back(job)
        await manager.prune_stalled_workers(self._beats.lost_after_seconds)
        await asyncio.to_thread(self._look_after)

    async def _give_back(self, job: procrastinate.jobs.Job) -> None:
        manager = self._app.job_manager
        try:
            await manager.retry_job(job)
        except exceptions.ConnectorException:
            # The same work waits already.
            await manager.finish_job(job, status=Status.FAILED, delete_job=True)


async def _end(signalled: asyncio.Event, is_done: Callable[[], bool]) -> None:
    """Return when a signal came, or all is done."""
    while not signalled.is_set():
        if await asyncio.to_thread(is_done):
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(signalled.wait(), 0.5)


def _doing(do: Do, queue: str) -> Callable[..., None]:
    def task(context: procrastinate.JobContext, plan_id: str, stage: str, number: int) -> None:
        do(Job(queue, plan_id, stage, number, context.job.attempts))

    return task


def _pool(address: Address, concurrency: int = 0) -> dict[str, Any]:
    # One connection listens, one beats, and jobs share the others only while they are fetched and ended.
    return {
        "conninfo": address.conninfo,
        "min_size": 1,
        "max_size": 2 + min(concurrency + 1, 4),
        "timeout": CONNECT_SECONDS,
    }


@contextlib.contextmanager
def said_as_ours() -> Iterator[None]:
    """Turn the queue's errors into ours, without the server's words, which may hold an address."""
    try:
        yield
    except (exceptions.ConnectorException, PoolTimeout) as error:
        cause = error.__cause__
        if getattr(cause, "sqlstate", None) == "42501":
            raise LedgerUnusable(
                "the role may not make the queue's schema beside the ledger's; make it as docs/howto/workers.md says."
            ) from None
        raise LedgerUnreachable(
            f"the queue on the ledger's server cannot be used ({type(cause or error).__name__}); nothing is "
            "half-written. Run again when the server is reachable."
        ) from None


# What matters of theirs is told in our words.
for name in ("procrastinate", "psycopg.pool"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
