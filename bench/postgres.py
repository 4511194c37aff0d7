"""PostgreSQL against SQLite under the ledger, in one run: `python -m bench.postgres`.

The server is the one of the tests (tests/postgres_server.py), on this machine, which waits for its disk as SQLite does.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tallymark.sandbox.process import SandboxProcess
from tallymark.sandbox.process import start as start_sandbox

from . import machine
from .child import Measured, run
from .figures import Figure, table
from .workloads import TARGETS_AT_TRACES, TRACES

RUNS = 3
JOBS = {"collect": "bench.ours:collect", "gather and send": "bench.ours:send"}
Pair = tuple[Measured, Measured]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.postgres", description=__doc__)
    parser.add_argument("--traces", type=int, default=TARGETS_AT_TRACES, help="how many traces the sandbox holds")
    traces = parser.parse_args().traces
    server = _server()
    try:
        print(", ".join(f"{name}: {value}" for name, value in machine.describe().items()), flush=True)
        print(server.execute("select version()").fetchone()[0], flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="tallymark-bench-") as folder,
            start_sandbox(TRACES.options(traces)) as sandbox,
        ):
            print(table(list(_figures(_measure(sandbox, server, Path(folder)), traces))))
    finally:
        server.stop()


def _server() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    return importlib.import_module("postgres_server").Server(durable=True)


def _measure(sandbox: SandboxProcess, server: Any, folder: Path) -> dict[str, list[Pair]]:
    """Every job on a fresh ledger in a file and on one in the server, by turns."""
    pairs: dict[str, list[Pair]] = {name: [] for name in JOBS}
    # Once unmeasured: the sandbox remembers sums that it computes on a first reading.
    _run(sandbox, JOBS["collect"], f"sqlite:///{folder}/first.sqlite3")
    for number in range(RUNS):
        urls = f"sqlite:///{folder}/{number}.sqlite3", server.new_schema()
        for name, job in JOBS.items():
            pairs[name].append((_run(sandbox, job, urls[0]), _run(sandbox, job, urls[1])))
    return pairs


def _run(sandbox: SandboxProcess, job: str, url: str) -> Measured:
    environment = {"BILLING_LEDGER_URL": url, "BILLING_STRIPE_REQUESTS_PER_SECOND": "100000"}
    return run(job, sandbox.environment() | environment)


def _figures(measured: dict[str, list[Pair]], traces: int) -> Iterator[Figure]:
    for name, pairs in measured.items():
        if any(one.counts != other.counts for one, other in pairs):
            raise SystemExit(f"{name}: the two databases came to different counts")
        group = f"{traces:,} traces, {name} (median of {RUNS} alternating runs, fresh process and ledger each)"
        yield Figure(group, "SQLite, seconds", median(one.wall_seconds for one, _ in pairs), "s")
        yield Figure(group, "PostgreSQL, seconds", median(other.wall_seconds for _, other in pairs), "s")
        ratio = median(other.wall_seconds / one.wall_seconds for one, other in pairs)
        yield Figure(group, "PostgreSQL / SQLite", ratio, "×")
        cpu = median(other.cpu_seconds / one.cpu_seconds for one, other in pairs)
        yield Figure(group, "PostgreSQL / SQLite, CPU of tallymark alone", cpu, "×")


if __name__ == "__main__":
    main()
