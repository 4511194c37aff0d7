"""Workers are killed at any moment while they do a plan together: every trace is billed once and marked once.

The judge is the sandbox Stripe's own tally, as everywhere.
"""

import random
import signal
import time

import pytest
from children import CrashChild
from judge import check_marks, check_money, check_order, check_traces
from scenarios import (
    EVENTS_ONLY,
    FULL_SYNC,
    LEGACY,
    PLAN_BACKFILL,
    PLAN_FULL_SYNC,
    WORK,
    WORKERS,
    Scenario,
    run,
    world_of,
)

from databases import POSTGRES
from worlds import WAIT_SECONDS_MAX

SEED, KILLS, CROWD = 20261130, 4, 3
POLL_SECONDS = 0.02
# A window takes about so long to read; a kill falls anywhere into it, or between two.
PAUSES_SECONDS = (0.05, 0.5)


def do_plan(world, chance):
    """Let workers do what is planned, and kill some of them on the way, each of which is replaced; how many."""
    crowd, killed = [], 0
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    while goes_on(world):
        assert time.monotonic() < give_up_at, "the workers never came to an end"
        crowd = [child for child in crowd if child.is_running()]
        while len(crowd) < CROWD:
            crowd.append(CrashChild(world, WORK, constants=WORKERS))
        if killed < KILLS and begun(world):
            time.sleep(chance.uniform(*PAUSES_SECONDS))
            victim = chance.choice(crowd)
            victim.kill()
            killed += victim.end().status == -signal.SIGKILL
            check_order(world, set())
        time.sleep(POLL_SECONDS)
    for child in crowd:
        assert child.end().status in (0, -signal.SIGKILL)
    return killed


def goes_on(world):
    """Whether a plan goes on."""
    return bool(world.ask("select 1 from plan where stage not in ('done', 'failed', 'cancelled')"))


def begun(world):
    """Whether some part of the newest plan has ended: the workers are there."""
    return bool(
        world.ask(
            "select 1 from plan_part join plan on plan.plan_id = plan_part.plan_id"
            " where state = 'done' and plan.stage not in ('done', 'failed', 'cancelled')"
        )
    )


@pytest.mark.parametrize(("generation", "plan"), [(LEGACY, PLAN_BACKFILL), (EVENTS_ONLY, PLAN_FULL_SYNC)])
def test_workers_killed_at_random_bill_once(tmp_path, generation, plan):
    """Three workers do a backfill, or a sync; some are killed, and others go on: the tally is exact."""
    with world_of(tmp_path, Scenario("workers killed", (), generation=generation), POSTGRES) as world:
        run(world, plan, constants=WORKERS)
        killed = do_plan(world, random.Random(SEED))
        run(world, FULL_SYNC)

        assert killed >= 1
        assert world.ask("select stage from plan") == [("done",)]
        assert world.ask("select 1 from reading") == []
        check_money(world)
        check_traces(world)
        check_marks(world, by_score=generation == EVENTS_ONLY)
        check_order(world, set())
        again = run(world, FULL_SYNC)
        assert (again["meter_events"]["accepted"], again["adjusted"], again["marks"]["written"]) == (0, 0, 0)
