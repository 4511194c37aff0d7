"""Children that run the real command and are stopped at a failpoint: lost there, or standing still until they are told.

They are forked by a server process that has imported tallymark already (multiprocessing's forkserver), because starting
Python takes longer than a small run does.
"""

import multiprocessing
import os
from collections import Counter
from multiprocessing.connection import wait

from child import become_command
from worlds import WAIT_SECONDS_MAX, Ended, environment

# Batches so small that a short story has several of each.
SMALL = {
    "tallymark.source.traces.PAGE_ROWS": 50,
    "tallymark.source.scores.PAGE_ROWS": 50,
    "tallymark.flows.collect.BATCH_PAGES": 1,
    "tallymark.flows.observe.STAGE_PAGES": 1,
    "tallymark.flows.observe.DECIDE_TRACES": 30,
    "tallymark.flows.send.GATHER_BUCKETS": 15,
    "tallymark.flows.send.CLAIMS_MAX": 4,
    # One batch at a time: a test stops at what is in it. Others (test_four_processes.py) have several under way.
    "tallymark.flows.send.BATCHES_MAX": 1,
    "tallymark.marks.langfuse.BODY_BYTES_MAX": 5_000,
    # A killed child is gone on with at once.
    "tallymark.ledger.sending.LAST_CALL_SECONDS": 0,
}
SETTINGS = {
    "BILLING_METER_BUCKET": "day",
    # Under a budget everything is read in the child itself, so that every request reaches its failpoints.
    "BILLING_LANGFUSE_REQUESTS_PER_MINUTE": "1000000",
}
# What commands import on their way; a name that is gone costs time and nothing else.
PRELOADED = [
    *("encodings.ascii", "getpass"),
    *(f"procrastinate.{name}" for name in ("builtin_tasks", "signals", "worker")),
    *(
        f"tallymark.{name}"
        for name in (
            *("cli", "api", "console", "show", "show_held", "show_plans"),
            *(f"flows.{name}" for name in ("sync", "backfill", "working", "held_decisions", "invoice_items")),
            *("ledger.postgres", "meter.invoice_items", "meter.permissions"),
        )
    ),
    *(
        f"stripe.{name}"
        for name in (
            *("_stripe_client", "_event", "_billing_service", "_object_classes", "_test_helpers"),
            *("_customer", "_customer_service", "_invoice", "_invoice_item", "_invoice_item_service"),
            *("_price", "_subscription", "_subscription_item", "_subscription_service"),
            *("events._v1_billing_meter_error_report_triggered_event", "events._event_classes"),
            *(
                f"billing.{name}"
                for meter in ("_meter", "_meter_event", "_meter_event_adjustment", "_meter_event_summary")
                for name in (meter, f"{meter}_service")
            ),
            *("v2._billing_service", "v2._core_service", "v2.core._event_service"),
            *("v2.billing._meter_event", "v2.billing._meter_event_service"),
            *("v2.billing._meter_event_session", "v2.billing._meter_event_session_service"),
            "v2.billing._meter_event_stream_service",
        )
    ),
]
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(PRELOADED)


class CrashChild:
    """A command that runs in a child until its failpoint stops it, if it has one."""

    def __init__(self, world, arguments, stop=None, *, constants=None, **settings):
        self._out, out = _processes.Pipe(duplex=False)
        self._err, err = _processes.Pipe(duplex=False)
        self._told, told = _processes.Pipe()
        merged = {**world.settings, **SETTINGS, **settings}
        given = environment(world.folder, {name: value for name, value in merged.items() if value is not None})
        self._process = _processes.Process(
            target=become_command,
            args=(arguments, given, str(world.folder), stop, {**SMALL, **(constants or {})}, out, err, told),
            daemon=True,
        )
        self._process.start()
        # What the child holds must be its alone: an output ends when nobody holds it any more.
        for theirs in (out, err, told):
            theirs.close()
        world.children.append(self)

    def wait_until(self, word):
        """Wait until the child tells that it has STARTED, or has REACHED its failpoint; an error if it ends before."""
        heard = None
        while heard != word:
            assert self._told.poll(WAIT_SECONDS_MAX), f"{word}: nothing was heard"
            heard = self._told.recv()

    @property
    def process_id(self):
        """Its process id."""
        return self._process.pid

    def is_running(self):
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def go_on(self):
        """Let a child that stands still go on."""
        self._told.send("go on")

    def kill(self):
        """SIGKILL it."""
        self._process.kill()

    def clear(self):
        """End it if a failed test has left it alone."""
        if self._process.is_alive():
            self.kill()

    def end(self):
        """Wait for its end, and for that of every process that it has started."""
        self._process.join(WAIT_SECONDS_MAX)
        return Ended(self._process.exitcode, _read_to_end(self._out), _read_to_end(self._err))

    def counts(self):
        """How often a child that has ended by itself had reached each (step, side)."""
        heard = None
        while not isinstance(heard, Counter):
            heard = self._told.recv()
        return heard


def _read_to_end(pipe):
    """What was written into a pipe, which ends only when no process is left that could write."""
    text = b""
    while wait([pipe], WAIT_SECONDS_MAX):
        part = os.read(pipe.fileno(), 65_536)
        if not part:
            return text.decode()
        text += part
    raise AssertionError("a process that the child had started has outlived it")
