"""One job in a fresh interpreter, which measures itself: `python -m bench.child MODULE:JOB`.

A job is a function without arguments that prepares and returns what is to be measured, itself a function that returns
counts as a dict, or whatever else JSON holds. Imports and preparing are left out of the seconds, and stay in the
memory.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MEGABYTE = 1_000_000

Counts = dict[str, Any]
Job = Callable[[], Callable[[], Counts]]


class WrongResultError(Exception):
    """A job did not do what it was measured for: its figures would mean nothing."""


def require(what: str, found: object, expected: object) -> None:
    """Raise WrongResultError if a job found anything but what it should."""
    if found != expected:
        raise WrongResultError(f"{what}: {found}, but it should be {expected}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a job counted, and what it took: seconds of the clock, seconds of all its threads, the most memory."""

    counts: Counts
    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float


def run(job: str, environment: Mapping[str, str]) -> Measured:
    """Run a job in a child process with these variables added to the environment.

    Raises subprocess.CalledProcessError if it fails; it has said why on the standard error.
    """
    child = subprocess.run(
        [sys.executable, "-m", "bench.child", job],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return Measured(**json.loads(child.stdout))


def measure(work: Callable[[], Counts]) -> Measured:
    """Do the work and measure it in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    counts = work()
    return Measured(counts, time.perf_counter() - wall, time.process_time() - cpu, peak_megabytes())


def peak_megabytes() -> float:
    """The most memory this process ever had resident.

    On Linux from /proc: there `ru_maxrss` of a child counts what its parent had when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MEGABYTE
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / MEGABYTE


def main() -> None:
    """Run the job that the command line names and print what was measured as JSON."""
    # What a run warns of is known here, and would stand between the lines of the table.
    logging.disable(logging.WARNING)
    module, _, name = sys.argv[1].partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    print(json.dumps(asdict(measure(job()))))


if __name__ == "__main__":
    main()
