"""Run seeds: `make sim SEEDS=10000 [START=] [JOBS=] [MUTANT=]`, or one of them again: `make sim SEED=123`."""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sim.events import Violation
from sim.happenings import HAPPENINGS
from sim.mutants import MUTANTS
from sim.runs import RUNS
from sim.world import Running, World
from tallymark.console import print_table, progress

STEPS = {**HAPPENINGS, **RUNS}
STEPS_MIN, STEPS_MAX = 30, 60
SHOWN_MAX = 10
LINE_SECONDS = 10.0


@dataclass
class Result:
    """How one seed went. `problem` is empty if all held; `lines` are kept of those that did not."""

    seed: int
    problem: str = ""
    digest: str = ""
    steps: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


def run_seed(seed, mutant=""):
    """Run one seed in a folder that is thrown away, with the code broken on purpose if a mutant is named."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tallymark-sim-", dir=shared if shared.is_dir() else None) as folder:
        result = Result(seed)
        world = World(seed, Path(folder))
        result.steps, result.lines, result.counts = world.events.steps, world.events.lines, world.events.counts
        try:
            with MUTANTS[mutant]() if mutant else contextlib.nullcontext(), Running(world):
                _play(world)
                result.digest = f"{world.events.digest()} {ledger_digest(world)}"
        except Violation as violation:
            result.problem = str(violation)
        except Exception:  # noqa: BLE001 - what no run of tallymark may ever end with
            result.problem = traceback.format_exc()
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
    world.judge.explained(world.reconcile())


def ledger_digest(world):
    """A digest over every row of the ledger."""
    found = hashlib.sha256()
    tables = "select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by name"
    for (table,) in world.judge.ask(tables):
        for row in world.judge.ask(f"select * from {table}"):
            found.update(repr(tuple(row)).encode())
    return found.hexdigest()[:16]


# ---- many seeds


def run_many(seeds, jobs, mutant=""):
    """Results as they come, on so many cores; the lines of those that went well are left out."""
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(partial(_run_slim, mutant=mutant), seeds)


def _run_slim(seed, mutant):
    result = run_seed(seed, mutant)
    if not result.problem:
        result.lines.clear()
        result.steps.clear()
    return result


def explain(result, *, lines=0):
    """A violation for people: the seed, what did not hold, the steps, and how to see it again."""
    told = [f"seed {result.seed}: {result.problem}", *(f"  {number}. {one}" for number, one in enumerate(result.steps))]
    told += [f"    {line}" for line in result.lines[-lines:]] if lines else []
    return "\n".join([*told, f"again: make sim SEED={result.seed}"])


def coverage(counts):
    """How often each kind of step, fault, crash and decision happened."""
    return [
        {"what": group, "kind": kind, "times": times}
        for (group, kind), times in sorted(counts.items())
        if group != "reached"
    ]


class _Lines:
    """Progress for logs: how many, how fast, and how long still."""

    def __init__(self):
        self._begun = self._next = time.monotonic()

    def __call__(self, _stage, done, total):
        now = time.monotonic()
        if now < self._next and done < total:
            return
        self._next = now + LINE_SECONDS
        rate = done / max(now - self._begun, 0.001)
        print(f"{done:,} of {total:,} seeds, {rate:.1f}/s, {(total - done) / rate:.0f} s left", file=sys.stderr)


def main(arguments=None):
    """The command; its exit status is 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with all that happened")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="break the code on purpose")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen.seed, chosen.mutant)
    return _many(range(chosen.start, chosen.start + chosen.seeds), chosen.jobs, chosen.mutant)


def _one(seed, mutant):
    result = run_seed(seed, mutant)
    print(*result.lines, sep="\n")
    print(explain(result) if result.problem else f"seed {seed} holds: {result.digest}")
    return 1 if result.problem else 0


def _many(seeds, jobs, mutant):
    begun, counts, wrong = time.monotonic(), Counter(), []
    with contextlib.nullcontext(_Lines()) if not sys.stderr.isatty() else progress(True) as told:
        for done, result in enumerate(run_many(seeds, jobs, mutant), 1):
            counts.update(result.counts)
            told("seeds", done, len(seeds))
            if result.problem:
                wrong.append(result.seed)
                if len(wrong) <= SHOWN_MAX:
                    print(explain(result, lines=12), flush=True)
    print_table(coverage(counts), ["what", "kind", "times"], "what happened")
    seconds = time.monotonic() - begun
    print(f"{len(seeds):,} seeds in {seconds:.0f} s ({len(seeds) / seconds:.1f}/s), {len(wrong)} violations")
    if wrong:
        print(f"seeds with violations: {', '.join(map(str, sorted(wrong)))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
