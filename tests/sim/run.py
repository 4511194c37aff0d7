"""Run seeds: `make sim SEEDS=10000`, or one of them again: `make sim SEED=123`."""

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sim.events import Violation
from sim.happenings import HAPPENINGS
from sim.runs import RUNS
from sim.world import World, running

STEPS = {**HAPPENINGS, **RUNS}
STEPS_MIN, STEPS_MAX = 30, 60


@dataclass
class Result:
    """How one seed went. `problem` is empty if all held."""

    seed: int
    problem: str = ""
    digest: str = ""
    steps: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


def run_seed(seed, mutate=None):
    """Run one seed in a folder that is thrown away."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tallymark-sim-", dir=shared if shared.is_dir() else None) as folder:
        world = World(seed, Path(folder))
        result = Result(seed, steps=world.events.steps, lines=world.events.lines, counts=world.events.counts)
        try:
            with running(world):
                _play(world)
                result.digest = f"{world.events.digest()} {ledger_digest(world)}"
        except Violation as violation:
            result.problem = str(violation)
        except Exception as error:  # what tallymark must never do: end with a traceback
            result.problem = "".join(traceback.format_exception(error))
        return result


def _play(world):
    steps, weights = list(STEPS), list(STEPS.values())
    for _ in range(world.chance.randint(STEPS_MIN, STEPS_MAX)):
        step = world.chance.choices(steps, weights)[0]
        world.events.step(step.__name__)
        world.events.count("step", step.__name__)
        said = step(world)
        world.events.steps[-1] += f" {said}"
        world.events.add(f"done {said}")
        world.judge.after_step(ran=step in RUNS)
    world.settle()
    world.judge.in_the_end()


def ledger_digest(world):
    """A digest over every row of the ledger."""
    import hashlib

    found = hashlib.sha256()
    for (table,) in world.judge.ask("select name from sqlite_master where type = 'table' and name not like 'sqlite%'"):
        for row in world.judge.ask(f"select * from {table} order by 1, 2"):
            found.update(repr(tuple(row)).encode())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    seed = int(sys.argv[1])
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    import time
    begun = time.process_time()
    bad = Counter()
    total = Counter()
    for one in range(seed, seed + many):
        result = run_seed(one)
        total.update(result.counts)
        if result.problem:
            bad[result.problem[-160:]] += 1
            if sum(bad.values()) <= 5:
                print(one, result.problem, result.steps if many == 1 else "")
        elif many == 1: print(result.digest, *result.lines[-30:], sep="\n")
    print(many / (time.process_time() - begun), "seeds/s", sum(bad.values()), "bad")
    for k, v in sorted(total.items()): print(k, v)
