"""Doctor's checks of the bulk sources: whether they can be read, what they hold, and what they will never hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ..config import Config, require_bulk
from ..core.clock import DAY_US, HOUR_US, MINUTE_US, Clock, format_time
from ..errors import ConfigError
from ..source.clickhouse import ClickHouseServer, ClickHouseSource
from ..source.export import files_to_read
from ..source.export_files import Manifest, gaps, manifests, open_store
from .findings import Finding

EXPORT, CLICKHOUSE = "export", "clickhouse"


def check_export(config: Config, project_id: str, clock: Clock) -> Iterator[Finding]:
    """Check the export of a project: its manifests, whether their tables suffice, and how old the newest is.

    Raises ConfigError or RemoteError if it cannot be read at all.
    """
    require_bulk(config)
    store = open_store(config.export_url or "", config.export_s3_endpoint)
    found = manifests(store, project_id, 0)
    if not found:
        raise ConfigError(
            f"{store.where} holds no manifest of {project_id}: no run of the export is complete, or Langfuse is too "
            "old to write them; only files that a manifest names are read"
        )
    newest = found[-1]
    age_hours = (clock.now_us() - newest.to_us) / HOUR_US
    reach = f"from {format_time(found[0].from_us)} to {format_time(newest.to_us)}, {age_hours:.1f} hours ago"
    yield Finding(EXPORT, "ok", f"{store.where} holds {len(found)} complete runs, {reach}")
    tables = sorted({file.table for file in files_to_read(newest, store.where)})
    yield Finding(EXPORT, "ok", f"traces are told by {', '.join(tables)}")
    yield from _gaps(found)
    yield Finding(
        EXPORT,
        "warning",
        "what reaches Langfuse after its file was written is in no file; `tallymark sync --full` (each night under "
        f"serve) finds it through the API within {config.lookback_us // DAY_US} days (BILLING_SYNC_LOOKBACK_DAYS)",
    )


def _gaps(found: Sequence[Manifest]) -> Iterator[Finding]:
    told = [(each.from_us, each.to_us) for each in found]
    for start_us, end_us in gaps(told, found[0].from_us, found[-1].to_us):
        span = f"from {format_time(start_us)} to {format_time(end_us)}"
        yield Finding(EXPORT, "warning", f"no manifest tells of the time {span}; the API reads it")


def check_clickhouse(config: Config, project_id: str, generation: str, clock: Clock) -> Iterator[Finding]:
    """Check the ClickHouse of a project: whether its tables can be read, and how old the newest row is.

    Raises ConfigError or RemoteError if it cannot be read at all.
    """
    require_bulk(config)
    with contextlib.closing(ClickHouseServer(config.clickhouse_url or "")) as server:
        source = ClickHouseSource(server, project_id, generation)
        yield Finding(CLICKHOUSE, "ok", f"{server.where} can be read, its table {source.table()}")
        newest_us = source.newest_us()
    if newest_us is None:
        yield Finding(CLICKHOUSE, "warning", f"it holds no row of the project {project_id}; is it this server's?")
        return
    minutes = (clock.now_us() - newest_us) / MINUTE_US
    yield Finding(CLICKHOUSE, "ok", f"its newest row was written {minutes:.0f} minutes ago")
