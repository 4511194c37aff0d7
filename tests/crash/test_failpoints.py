"""A process that is killed at any failpoint, and started again, bills every trace once and marks it once.

The real command runs in a child on a real ledger, is lost to SIGKILL there, and the sandbox Stripe's own tally says
what was billed (G1, G2, G4 and G5). docs/adr/0023 says where failpoints stand and why.
"""

import itertools
import os
import signal
from collections import Counter
from itertools import product

import pytest
from children import CrashChild
from judge import check_marks, check_money, check_order, check_traces
from scenarios import BACKFILL, CLAIMS, EVENTS_ONLY, FULL_SYNC, SCENARIOS, SYNC, run, world_of

from child import REACHED, STARTED, Stop, Then
from databases import DATABASES, POSTGRES, SQLITE
from tallymark.clock import SystemClock
from tallymark.failpoints import Side, Step
from tallymark.sandbox.faults import Fault, Faults
from tallymark.source.traces import BILLED_FIELDS
from worlds import PROJECT, WAIT_SECONDS_MAX, until

LAST = "last"
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FIRST_SYNC = BY_NAME["first sync"]
# Between what the ledger and what Stripe knows.
AROUND_SENDING = (
    (Step.CLAIM, Side.AFTER),
    (Step.STRIPE_SEND, Side.BEFORE),
    (Step.STRIPE_SEND, Side.AFTER),
    (Step.SETTLE, Side.BEFORE),
    (Step.SETTLE, Side.AFTER),
)
# What two workers do to the same rows.
SHARED = (Step.RECORD, Step.GATHER, Step.CLAIM, Step.STRIPE_SEND, Step.SETTLE)
# Workers need PostgreSQL.
BY_WORKERS = (Step.PUT_PLAN, Step.END_PART, Step.MOVE_PLAN, Step.RESERVE)
# In how many scenarios each side of each step is tried; `make crash` tries it in three.
SCENARIOS_EACH = int(os.environ.get("CRASH_SCENARIOS", "1"))
on_every_database = pytest.mark.parametrize("database", DATABASES)


def kills():
    """Every (database, scenario, step, side, time) that is tried.

    Each side of each step, in as many scenarios that take it as SCENARIOS_EACH says; on SQLite those that are taken
    often at their last time, too. With one scenario each, PostgreSQL tries one side, and the other with the next step.
    """
    seen = Counter()
    for scenario, database in product(SCENARIOS, DATABASES):
        steps = (*scenario.steps, *scenario.often) if database in scenario.databases else ()
        for step, side in product(steps, Side):
            if seen[database, step, side] < SCENARIOS_EACH and is_tried(database, step, side):
                seen[database, step, side] += 1
                yield database, scenario, step, side, 1
            if database == SQLITE and step in scenario.often:
                yield database, scenario, step, side, LAST


def is_tried(database, step, side):
    """A step is taken by the same code on both databases: short runs leave one of its sides out on PostgreSQL."""
    if step in BY_WORKERS:
        return database == POSTGRES
    turn = (list(Step).index(step) + list(Side).index(side)) % 2
    return SCENARIOS_EACH > 1 or database == SQLITE or turn == 0


KILLS = list(kills())


def named(values):
    """The id of a test, or a part of it."""
    each = values if isinstance(values, tuple) else (values,)
    return ", ".join(str(getattr(value, "name", value)).lower() for value in each)


def lose(world, scenario, stop):
    """Run a scenario's command in a child that is killed at a failpoint; an error if it never gets there."""
    marked = world.marked()
    ended = CrashChild(world, scenario.command, stop, constants=scenario.constants, **scenario.settings).end()
    assert ended.status == -signal.SIGKILL, ended.err or ended.out
    check_order(world, marked)


def finish(world, scenario):
    """Run once more, undisturbed: then everything is billed and marked, and a full sync finds nothing left."""
    run(world, scenario.command, scenario.ends, constants=scenario.constants, **scenario.settings)
    if scenario.command == BACKFILL:
        check_tags(world, scenario)
    if scenario.command[0] != "sync":
        run(world, SYNC)
    scenario.then(world)
    again = run(world, FULL_SYNC, **scenario.settings)
    assert (again["meter_events"]["accepted"], again["adjusted"], again["processed"]) == (0, 0, 0)
    assert again["marks"]["written"] == 0
    check_all(world, scenario)


def check_all(world, scenario):
    """What must hold in the end."""
    check_money(world)
    check_traces(world)
    check_marks(world, by_score=scenario.generation == EVENTS_ONLY)
    check_order(world, set())


def third_page():
    """A matcher for the third page of a range, whichever is read: traces or observations."""
    seen = itertools.count(1)

    def matches(request):
        query = dict(request.query)
        return (query.get("fields") == BILLED_FIELDS or "fromStartTime" in query) and next(seen) == 3

    return matches


def check_tags(world, scenario):
    """After a backfill every unbilled trace carries the tag, where the server takes one."""
    untagged = [told.trace["id"] for told in world.told if told.kind == "untagged"]
    if scenario.generation != EVENTS_ONLY:
        assert all("billing:pending" in world.langfuse.trace(PROJECT, trace)["tags"] for trace in untagged)


@pytest.fixture(scope="session")
def last_time(tmp_path_factory):
    """A function that tells how often an undisturbed run reaches one side of a step."""
    counted = {}

    def ask(scenario, step, side):
        if scenario.name not in counted:
            with world_of(tmp_path_factory.mktemp("rehearsal"), scenario) as world:
                child = CrashChild(world, scenario.command, constants=scenario.constants, **scenario.settings)
                child.end()
                counted[scenario.name] = child.counts()
        return counted[scenario.name][step, side]

    return ask


# --- one process


@on_every_database
def test_every_step_has_a_scenario(database):
    """One without would never be tried. Copies are killed in test_killed_copies.py, services in test_serve.py."""
    tried = {(step, side) for where, _, step, side, _ in KILLS if where == database}
    elsewhere = {Step.BACK_UP, Step.RESTORE, Step.PUT_JOB, Step.PUT_REQUEST, Step.PUT_ALERTS, Step.ALERT_SEND}
    wanted = set(product(set(Step) - elsewhere, Side))
    assert tried == {(step, side) for step, side in wanted if is_tried(database, step, side)}


@pytest.mark.parametrize(("database", "scenario", "step", "side", "time"), KILLS, ids=map(named, KILLS))
def test_killed_at_a_failpoint_bills_once(tmp_path, last_time, database, scenario, step, side, time):
    """Whatever was done and not told, or told and not done: the next run completes it, and repeats nothing."""
    number = last_time(scenario, step, side) if time == LAST else time
    with world_of(tmp_path, scenario, database) as world:
        lose(world, scenario, Stop(step, side, number))
        finish(world, scenario)


@pytest.mark.parametrize("second", AROUND_SENDING[:: 2 if SCENARIOS_EACH == 1 else 1], ids=named)
@pytest.mark.parametrize("first", AROUND_SENDING, ids=named)
def test_killed_again_while_recovering_bills_once(tmp_path, first, second):
    """The run that completes another one is lost too, in the middle of the same meter events."""
    with world_of(tmp_path, FIRST_SYNC) as world:
        lose(world, FIRST_SYNC, Stop(*first))
        lose(world, FIRST_SYNC, Stop(*second))
        finish(world, FIRST_SYNC)


@pytest.mark.parametrize("scenario", [FIRST_SYNC, BY_NAME["first sync by observations"]], ids=lambda one: one.name)
def test_a_killed_run_leaves_no_reader_behind(tmp_path, scenario):
    """A long range is read by a process of its own, which ends with its parent although the server keeps it waiting."""
    faults = Faults.script([(third_page(), Fault.HANG_AFTER)], hang_seconds=10 * WAIT_SECONDS_MAX)
    with world_of(tmp_path, scenario, langfuse_faults=faults) as world:
        child = CrashChild(world, SYNC, BILLING_LANGFUSE_REQUESTS_PER_MINUTE=None)
        until(lambda: faults.done)
        child.kill()
        # The end of its outputs, which its reader shares, is waited for too.
        assert child.end().status == -signal.SIGKILL
        finish(world, scenario)


# --- two processes


@on_every_database
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("step", SHARED)
def test_one_of_two_workers_is_killed(tmp_path, database, step, side):
    """The other one, in the middle of the same work, goes on; what was lost is done by it or by the next run, once."""
    with world_of(tmp_path, FIRST_SYNC, database) as world:
        lost = CrashChild(world, SYNC, Stop(step, side, then=Then.STANDS))
        lost.wait_until(REACHED)
        other = CrashChild(world, SYNC, Stop(step, side, then=Then.GOES_ON))
        # Before it commits, the one that is going to be lost holds the ledger, and the other one waits for it.
        other.wait_until(STARTED if side is Side.BEFORE and step is not Step.STRIPE_SEND else REACHED)
        lost.kill()
        assert lost.end().status == -signal.SIGKILL
        check_order(world, set())
        assert other.end().status in (0, 1)
        finish(world, FIRST_SYNC)


@on_every_database
def test_a_worker_that_comes_back_late_reopens_nothing(tmp_path, database):
    """It stood still past its claims, and another one has sent and settled them; its answers, all unknown, are old."""
    scenario = BY_NAME["Stripe counts and fails"]
    with world_of(tmp_path, scenario, database) as world:
        late = a_late_worker(world)
        run(world, SYNC)
        check_all(world, scenario)
        late.go_on()
        assert late.end().status in (0, 1)
        finish(world, scenario)


@on_every_database
def test_a_worker_that_comes_back_late_takes_no_claim_away(tmp_path, database):
    """It stood still past its claims, and another one is sending them at this moment."""
    scenario = BY_NAME["Stripe counts and fails"]
    with world_of(tmp_path, scenario, database) as world:
        late = a_late_worker(world)
        until(lambda: world.ask("select max(claimed_until_us) from meter_event")[0][0] < SystemClock().now_us())
        other = CrashChild(world, SYNC, Stop(Step.STRIPE_SEND, Side.BEFORE, then=Then.STANDS))
        other.wait_until(REACHED)
        late.go_on()
        until(lambda: len(world.ask("select 1 from attempt where outcome = 'unknown'")) == CLAIMS)
        taken_over = "select distinct state, attempt from meter_event where attempt > 1"
        assert world.ask(taken_over) == [("sending", 2)]
        other.go_on()
        assert [each.end().status in (0, 1) for each in (late, other)] == [True, True]
        finish(world, scenario)


def a_late_worker(world):
    """A worker that stands still before it settles its first claims, which end after a second."""
    child = CrashChild(
        world,
        SYNC,
        Stop(Step.STRIPE_SEND, Side.AFTER, CLAIMS, Then.STANDS),
        constants={"tallymark.ledger.sending.CLAIM_SECONDS": 1},
    )
    child.wait_until(REACHED)
    return child
