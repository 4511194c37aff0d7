"""Four processes on one PostgreSQL ledger, one of them killed every second and started again (issue 4, acceptance 5).

Stripe's tally must be exact in the end, and no customer may ever have had two calls in flight. `make four-processes`
runs it for a minute; FOUR_PROCESSES_SECONDS says for how long.
"""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from children import CrashChild
from judge import check_marks, check_money, check_order, check_traces
from scenarios import FULL_SYNC, run

from databases import POSTGRES, fresh_ledgers
from tallymark.clock import SystemClock
from tallymark.ledger.sending import LAST_CALL_SECONDS
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.stripe import SandboxStripe
from worlds import PROJECT, open_world

SECONDS = int(os.environ.get("FOUR_PROCESSES_SECONDS", "6"))
PROCESSES, SEED = 4, 20261130
# So many are there at the start, and so many more come every second, so that there is always something to send.
TRACES, TRACES_PER_SECOND = 400, 40
PROCESSING_SECONDS = 0.05
POLL_SECONDS = 0.02
# How long a process is looked for that is sending at this moment.
FIND_SECONDS = 0.8
# Each trace is a meter event of its own; a killed process's last call is waited for, as it is outside of tests.
SETTINGS = {"BILLING_METER_BUCKET": "trace"}
# Its world is larger than that of other crash tests, and so are its batches.
CONSTANTS = {
    "tallymark.ledger.sending.LAST_CALL_SECONDS": LAST_CALL_SECONDS,
    "tallymark.source.traces.PAGE_ROWS": 100,
    "tallymark.source.scores.PAGE_ROWS": 100,
    "tallymark.flows.send.GATHER_BUCKETS": 30,
    "tallymark.flows.send.CLAIMS_MAX": 8,
    "tallymark.flows.send.BATCHES_MAX": 4,
}


@dataclass
class Crowd:
    """Processes that sync again and again, and traces that come meanwhile."""

    world: object
    told: list
    children: list = field(default_factory=list)
    ended: Counter = field(default_factory=Counter)
    in_the_middle: int = 0

    def write(self, count):
        """Let so many more traces happen."""
        for told in self.told[:count]:
            body = {**told.trace, "bookmarked": told.bookmarked}
            self.world.langfuse.put_trace(PROJECT, body, told.observations)
        del self.told[:count]

    def fill_up(self):
        """Start a process in the place of each that has ended."""
        for child in [child for child in self.children if not child.is_running()]:
            self._end(child)
        while len(self.children) < PROCESSES:
            self.children.append(CrashChild(self.world, FULL_SYNC, constants=CONSTANTS, **SETTINGS))

    def kill_one(self, chance, *, sending):
        """Kill a process that is running; one that is sending, if there is one soon."""
        child = (self._sending() if sending else None) or chance.choice(self.children)
        child.kill()
        self._end(child)
        self.in_the_middle += child.process_id in self._senders()

    def _sending(self):
        give_up_at = time.monotonic() + FIND_SECONDS
        while time.monotonic() < give_up_at:
            senders = self._senders()
            for child in self.children:
                if child.process_id in senders and child.is_running():
                    return child
            time.sleep(POLL_SECONDS)
        return None

    def _senders(self):
        """The ids of processes that hold claims."""
        if not self.world.has_ledger():
            return set()
        names = self.world.ask("select distinct claimed_by from meter_event where state = 'sending'")
        return {int(name.split("|")[1]) for (name,) in names}

    def end(self):
        """Let all of them come to their ends."""
        for child in list(self.children):
            self._end(child)

    def _end(self, child):
        ended = child.end()
        assert ended.status in (0, 1, -signal.SIGKILL), ended.err
        self.ended[ended.status] += 1
        self.children.remove(child)


def disturb(crowd):
    """For so many seconds: new traces, one process killed, and another one in its place."""
    chance, start = random.Random(SEED), time.monotonic()
    for second in range(1, SECONDS + 1):
        while time.monotonic() < start + second:
            crowd.fill_up()
            time.sleep(POLL_SECONDS)
        crowd.write(TRACES_PER_SECOND)
        crowd.fill_up()
        crowd.kill_one(chance, sending=second % 2 == 0)


def test_four_processes_of_which_one_is_killed_every_second_bill_once(tmp_path, capsys):
    """The tally is exact, each meter event counted once, and no customer had two calls in flight."""
    stripe = SandboxStripe(clock=SystemClock(), processing_seconds=PROCESSING_SECONDS)
    stripe.add_meter("credits")
    with (
        fresh_ledgers(POSTGRES, tmp_path) as address,
        open_world(tmp_path, stripe=stripe, ledger_url=address()) as world,
    ):
        world.told = list(tell(TRACES + SECONDS * TRACES_PER_SECOND, SystemClock().now_us()))
        world.expected = expect(iter(world.told))
        crowd = Crowd(world, list(world.told))
        crowd.write(TRACES)
        disturb(crowd)
        check_order(world, set())
        crowd.end()
        run(world, FULL_SYNC, **SETTINGS)

        again = run(world, FULL_SYNC, **SETTINGS)["meter_events"]
        in_flight = Counter(world.stripe.max_in_flight().values())
        with capsys.disabled():
            print(f"\n{report(world, crowd, in_flight)}")
        assert in_flight.keys() == {1}
        assert again["accepted"] == 0
        check_money(world)
        check_traces(world)
        check_marks(world, by_score=False)
        check_order(world, set())


def report(world, crowd, in_flight):
    """What happened, in a line."""
    ((sent, calls, again),) = world.ask(
        "select count(distinct meter_event_id), count(*), count(case when attempt > 1 then 1 end) from attempt"
    )
    killed = crowd.ended[-signal.SIGKILL]
    return (
        f"{SECONDS} s, {PROCESSES} processes: {killed} killed, {crowd.in_the_middle} of them with claims, "
        f"{sum(crowd.ended.values()) - killed} ended; {sent} meter events in {calls} calls, {again} of them again; "
        f"{len(world.stripe.tally())} customers billed, calls in flight at once: {max(in_flight)}"
    )
