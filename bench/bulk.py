"""An export in one Parquet file, rated and recorded: `python -m bench.bulk`; a tenth of the observations, and all.

DuckDB writes the file, prompts in it as Langfuse does; a sandbox without traces answers what a backfill asks besides.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tallymark import config
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, HOUR_US, format_time
from tallymark.flows.backfill import backfill
from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from tallymark.sandbox.process import SandboxProcess
from tallymark.sandbox.process import start as start_sandbox

from . import machine
from .child import Counts, Measured, require, run
from .figures import Figure, table
from .workloads import OBSERVATIONS

PER_SECOND_MIN = 100_000
SPAN_US = 20 * DAY_US
# The columns of observations_v2 that billing reads, and two that it does not (facts/langfuse.md section 10.1).
_ROWS = """
copy (
  select md5(trace::varchar) as trace_id, md5('o' || i) as id, '{project}' as project_id,
         if(i % {per} = 0, '', md5('o' || trace * {per})) as parent_observation_id, 'GENERATION' as type, 'llm' as name,
         make_timestamp({from_us} + trace * {step_us} + (i % {per}) * 900000) as start_time,
         make_timestamp({from_us} + trace * {step_us} + (i % {per}) * 900000 + 850000) as end_time,
         make_timestamp({from_us} + trace * {step_us} + 60000000) as updated_at, 'default' as environment,
         '' as version, '' as release, 'chat' as trace_name, 'user-' || trace % 5000 as user_id,
         'session-' || trace % 50000 as session_id, ['billing:pending'] as tags, 'house-model' as provided_model_name,
         map {{'customerId': 'cus_' || trace % 500, 'step': (i % {per})::varchar}} as metadata,
         map {{'input': 100::ubigint, 'output': 20::ubigint, 'total': 120::ubigint}} as usage_details,
         map {{'total': ((1 + i % 1000) / 1000000)::decimal(18, 12)}} as cost_details,
         repeat('a prompt ', 20) as input, repeat('an answer ', 10) as output
    from (select i, i // {per} as trace from range({observations}) as rows(i))
) to '{path}' (format parquet)"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__)
    parser.add_argument("--observations", type=int, default=5_000_000, help="how many the larger file holds")
    parser.add_argument("--per-trace", type=int, default=10, help="how many of them a trace has")
    arguments = parser.parse_args()
    print(", ".join(f"{name}: {value}" for name, value in machine.describe().items()), flush=True)
    with start_sandbox(OBSERVATIONS.options(0)) as sandbox:
        small = _measured(sandbox, arguments.observations // 10, arguments.per_trace)
        large = _measured(sandbox, arguments.observations, arguments.per_trace)
    print(table(list(_figures(arguments.observations, arguments.per_trace, small, large))))


def _measured(sandbox: SandboxProcess, observations: int, per_trace: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="tallymark-bench-") as name:
        folder = Path(name)
        write_export(folder / "export", observations, per_trace)
        environment = {
            "BILLING_SOURCE": "export",
            "BILLING_EXPORT_URL": str(folder / "export"),
            "BILLING_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
        }
        measured = run("bench.bulk:read", sandbox.environment() | environment)
    require("traces owed", measured.counts["owed"], observations // per_trace)
    return measured


def write_export(folder: Path, observations: int, per_trace: int) -> None:
    """One run of an export: so many observations over the last twenty days, and its manifest."""
    import duckdb

    project, to_us = DEFAULT_PROJECT.project_id, SystemClock().now_us() - HOUR_US
    from_us, stem = to_us - SPAN_US, format_time(to_us)[:19].replace(":", "-")
    for table_name in ("observations_v2", "manifests"):
        (folder / project / table_name).mkdir(parents=True)
    path = folder / project / "observations_v2" / f"{stem}.parquet"
    step_us = SPAN_US // (observations // per_trace)
    values = {"observations": observations, "per": per_trace, "from_us": from_us, "step_us": step_us}
    with duckdb.connect(config={"memory_limit": "500MB", "temp_directory": str(folder)}) as engine:
        engine.execute(_ROWS.format(project=project, path=path, **values))
    window = {"minTimestamp": format_time(from_us), "maxTimestamp": format_time(to_us)}
    files = [{"key": f"{project}/observations_v2/{path.name}", "table": "observations_v2"}]
    manifest = {"version": 1, "projectId": project, "window": window, "files": files}
    (folder / project / "manifests" / f"{stem}.json").write_text(json.dumps(manifest))


def read() -> Callable[[], Counts]:
    """A backfill from the export: every trace read, rated and recorded, nothing sent."""
    settings = config.load(None, os.environ)
    return lambda: msgspec.to_builtins(backfill(settings))


def _figures(observations: int, per_trace: int, small: Measured, large: Measured) -> Iterator[Figure]:
    group = f"{observations:,} observations of {observations // per_trace:,} traces in a Parquet file, on SQLite"
    rate = observations / large.wall_seconds
    yield Figure(group, "rated and recorded, observations a second", rate, target=PER_SECOND_MIN, at_least=True)
    yield Figure(group, "seconds of the clock", large.wall_seconds, "s")
    yield Figure(group, "seconds of CPU, all threads", large.cpu_seconds, "s")
    yield Figure(group, "peak memory", large.peak_megabytes, "MB")
    yield Figure(group, "peak memory with a tenth of them", small.peak_megabytes, "MB")


if __name__ == "__main__":
    main()
