"""Seeds of the simulation: nothing is violated, one seed replays exactly, broken code is noticed, all kinds happen."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sim.happenings import HAPPENINGS
from sim.mutants import MUTANTS
from sim.run import explain, run_seed
from sim.runs import RUNS
from tallymark.failpoints import Step

SEEDS, CHUNKS = 240, 8
MUTANT_SEEDS = 60
STEPS = {step.__name__ for step in (*HAPPENINGS, *RUNS)}
# Copies of a ledger are made by commands of their own (tests/crash/test_killed_copies.py), and marks are taken in full by
# every sync; backfill's tags have tests/contract/test_backfill.py.
NOT_SIMULATED = {Step.BACK_UP, Step.RESTORE, Step.TAG}


def chunk_of(number):
    """The seeds of one test: small and many, so that they spread over the cores."""
    return range(1 + number * SEEDS // CHUNKS, 1 + (number + 1) * SEEDS // CHUNKS)


@pytest.mark.parametrize("number", range(CHUNKS))
def test_no_seed_violates_a_guarantee(number):
    """G1 to G5 hold after every step, and every sum is exact in the end; `make sim SEEDS=…` runs many more."""
    counts = Counter()
    for seed in chunk_of(number):
        result = run_seed(seed)
        assert not result.problem, explain(result)
        counts.update(result.counts)

    # Whatever may happen has happened somewhere in so many seeds.
    assert {kind for group, kind in counts if group == "step"} == STEPS


def replayed(seed, hash_seed):
    """What a process of its own says of a seed, with another order of sets and dictionaries' keys."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "sim.run", "--seed", str(seed)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("seed", [7, 8])
def test_one_seed_replays_exactly(seed):
    """The same requests, failpoints and steps in the same order, and the same ledger to the last row."""
    first, again = replayed(seed, "1"), replayed(seed, "2")

    assert first == again
    assert f"seed {seed} holds: " in first


@pytest.mark.parametrize("mutant", MUTANTS)
def test_code_that_is_broken_on_purpose_is_noticed(mutant):
    """Within few seeds."""
    caught = next((seed for seed in range(1, 1 + MUTANT_SEEDS) if run_seed(seed, mutant).problem), None)

    assert caught is not None


def test_a_violation_names_its_seed_and_its_steps():
    """What a person needs to see it again."""
    result = next(
        found for seed in range(1, 1 + MUTANT_SEEDS) if (found := run_seed(seed, "send_before_commit")).problem
    )

    assert "was sent while its committed state is" in explain(result)
    assert f"make sim SEED={result.seed}" in explain(result)
    assert len(explain(result).splitlines()) == len(result.steps) + 2
