"""The simulation itself: a seed replays exactly, and code that is broken on purpose is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.mutants import MUTANTS
from sim.run import explain, main, run_seed

MUTANT_SEEDS = 40
TESTS = Path(__file__).parents[1]


def replayed(seed, hash_seed):
    """What a process of its own says of a seed, with another order of sets."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed}
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
    assert any(run_seed(seed, mutant).problem for seed in range(1, 1 + MUTANT_SEEDS))


def test_a_violation_names_its_seed_and_its_steps():
    """What a person needs to see it again."""
    result = next(found for seed in range(1, MUTANT_SEEDS) if (found := run_seed(seed, "send_before_commit")).problem)

    told = explain(result).splitlines()

    assert "was sent while its committed state is" in told[0]
    assert told[0].startswith(f"seed {result.seed}: ")
    assert told[-1] == f"again: make sim SEED={result.seed}"
    assert len(told) == len(result.steps) + 2


def test_the_command_ends_with_one_if_anything_did_not_hold(capsys):
    """And prints the seeds, and how often each kind of thing happened."""
    assert main(["--seeds", "3", "--jobs", "1", "--mutant", "send_before_commit"]) == 1

    out = capsys.readouterr().out
    assert "seeds with violations: 1, 2, 3" in out
    assert "what happened" in out
