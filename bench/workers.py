"""Several workers on one PostgreSQL ledger: `python -m bench.workers`, or with `--accept 400000` the large backfill.

How much faster two and four workers read a Langfuse that takes its time, and that a budget holds for all of them. With
`--accept` so many traces are brought in by four workers, two of which are killed and replaced; then a sync by workers
bills and marks them, Stripe's tally must be exact, and reconcile must find nothing. The server is that of the tests.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tallymark.sandbox.process import Options, SandboxProcess
from tallymark.sandbox.process import start as start_sandbox

from . import machine
from .child import require
from .figures import Figure, table
from .workloads import TRACES

WORKERS = (1, 2, 4)
SPEEDUP_MIN = {2: 1.6, 4: 2.5}
# So much that waiting, and not this machine, is what takes time.
LATENCY_SECONDS = 0.5
BUDGET_PER_MINUTE = 120
# 48 windows of a quarter of an hour, and the whole story.
SHORT, WHOLE = ("--from", "12h"), ("--from", "7d")
COMMAND = (sys.executable, "-m", "tallymark")
# Killed when so many of all windows are done.
KILLED_AT = (0.2, 0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--traces", type=int, default=2_000, help="how many traces the sandbox holds")
    parser.add_argument("--accept", type=int, help="bring in so many traces by four workers, two of them killed")
    asked = parser.parse_args()
    server = _server()
    try:
        print(", ".join(f"{name}: {value}" for name, value in machine.describe().items()), flush=True)
        print(table(list(_accept(server, asked.accept) if asked.accept else _speedups(server, asked.traces))))
    finally:
        server.stop()


def _server() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    return importlib.import_module("postgres_server").Server()


def _environment(sandbox: SandboxProcess, url: str, **more: str) -> dict[str, str]:
    return {**os.environ, **sandbox.environment(), "BILLING_LEDGER_URL": url, **more}


def _tallymark(environment: Mapping[str, str], *arguments: str) -> Any:
    done = subprocess.run([*COMMAND, *arguments, "--json"], env=dict(environment), stdout=subprocess.PIPE, check=False)
    require(f"{arguments[0]} ends well", done.returncode in (0, 1) or done.stdout, True)
    return json.loads(done.stdout)


def _worker(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A worker that ends when nothing is planned any more, and plans nothing itself."""
    return subprocess.Popen([*COMMAND, "worker", "--until-idle", "--quiet"], env=dict(environment))


def _let_work(crowd: list[subprocess.Popen[bytes]]) -> None:
    for worker in crowd:
        require("a worker ends well", worker.wait(), 0)


# --- how much faster


def _speedups(server: Any, traces: int) -> Iterator[Figure]:
    options = Options(story=traces, latency_seconds=LATENCY_SECONDS)
    with start_sandbox(options) as sandbox:
        seconds = {}
        for count in WORKERS:
            seconds[count], _ = _read(_environment(sandbox, server.new_schema()), count)
            print(f"{count} workers: {seconds[count]:.1f} s", flush=True)
        budget = {"BILLING_LANGFUSE_REQUESTS_PER_MINUTE": str(BUDGET_PER_MINUTE)}
        bound, requests = _read(_environment(sandbox, server.new_schema(), **budget), WORKERS[-1])
    group = f"{traces:,} traces in windows, Langfuse takes {LATENCY_SECONDS} s more for each request"
    for count in WORKERS:
        yield Figure(group, f"{count} workers, seconds", seconds[count], "s")
    for count, least in SPEEDUP_MIN.items():
        yield Figure(group, f"{count} workers / 1", seconds[1] / seconds[count], "×", least, at_least=True)
    rate = requests / bound * 60
    yield Figure(
        group, f"4 workers, a budget of {BUDGET_PER_MINUTE} a minute: requests", rate, "/min", BUDGET_PER_MINUTE
    )


def _read(environment: Mapping[str, str], count: int) -> tuple[float, int]:
    """Seconds that workers take for a backfill, with their start, and the requests of it."""
    _tallymark(environment, "backfill", "--no-wait", *SHORT)
    start = time.monotonic()
    _let_work([_worker(environment) for _ in range(count)])
    seconds = time.monotonic() - start
    (summary,) = _ask(environment, "select summary from run where verb = 'backfill'")[0]
    return seconds, json.loads(summary)["requests"]["langfuse"]


def _ask(environment: Mapping[str, str], question: str) -> Any:
    return importlib.import_module("databases").ask(environment["BILLING_LEDGER_URL"], question)


# --- acceptance


def _accept(server: Any, traces: int) -> Iterator[Figure]:
    with start_sandbox(TRACES.options(traces)) as sandbox:
        environment = _environment(sandbox, server.new_schema(), BILLING_STRIPE_REQUESTS_PER_SECOND="1000")
        expected = TRACES.expected(traces, sandbox.ready.now_us)
        start = time.monotonic()
        plan_id = _tallymark(environment, "backfill", "--no-wait", *WHOLE)["plans"][0]["plan_id"]
        crowd = [_worker(environment) for _ in range(4)]
        killed = _kill_on_the_way(environment, plan_id, crowd)
        read_seconds = time.monotonic() - start
        _let_work(crowd)
        _tallymark(environment, "sync", "--full", "--no-wait")
        _let_work([_worker(environment) for _ in range(4)])
        seconds = time.monotonic() - start
        again = _tallymark(environment, "sync", "--full")
        require("a further sync sends nothing", again["meter_events"]["accepted"], 0)
        require("reconcile is clean", _tallymark(environment, "reconcile")["explained"], True)
        require("the tally is exact", _billed(sandbox, environment), expected.amount_micros)
    group = f"{traces:,} traces by four workers, {killed} of them killed and replaced: tally exact, reconcile clean"
    yield Figure(group, "backfill, seconds", read_seconds, "s")
    yield Figure(group, "backfill, traces a second", traces / read_seconds, "/s")
    yield Figure(group, "backfill and sync, seconds", seconds, "s")


def _kill_on_the_way(environment: Mapping[str, str], plan_id: str, crowd: list[subprocess.Popen[bytes]]) -> int:
    """Wait until a plan is done, and kill a worker at some moments of it, each of which is replaced; how many."""
    killed = 0
    while (plan := _plan(environment, plan_id))["state"] == "going on":
        if killed < len(KILLED_AT) and plan["stage"] == "read" and plan["done"] >= KILLED_AT[killed] * plan["total"]:
            crowd[killed].kill()
            crowd[killed].wait()
            crowd[killed] = _worker(environment)
            killed += 1
        time.sleep(1)
    require("the plan is done", plan["state"], "done")
    return killed


def _plan(environment: Mapping[str, str], plan_id: str) -> Any:
    found = _tallymark(environment, "plans")["plans"]
    return next(plan for plan in found if plan["plan_id"] == plan_id)


def _billed(sandbox: SandboxProcess, environment: Mapping[str, str]) -> int:
    """Micro-credits that Stripe counted, and what whole credits left over."""
    carry = _ask(environment, "select coalesce(sum(amount_micros), 0) from carry")
    return sum(sandbox.tally().values()) * 1_000_000 + int(carry[0][0])


if __name__ == "__main__":
    main()
