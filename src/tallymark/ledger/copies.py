"""Rows from one ledger into another, whatever the databases."""

from __future__ import annotations

from collections.abc import Callable

from ..core.batches import batched
from .database import Database

ROWS = 1000
Told = Callable[[str, int, int | None], None]
"""Told how far something is, as flows/progress.py says."""


def copy_rows_txn(source: Database, target: Database, progress: Told) -> None:
    """Copy every row into an empty ledger of the same schema, inside transactions of the caller on both."""
    target.write("clear_facts")
    target.write("clear_chain")
    done = 0
    for table in source.tables():
        if table == "usage_stale":
            # Traces come before it, and copying them has made their sums stale.
            target.write("clear_stale_usage")
        columns = source.columns_of(table)
        for rows in batched(source.stream_table(table), ROWS):
            target.insert_rows(table, columns, rows)
            done += len(rows)
            progress("copy", done, None)
