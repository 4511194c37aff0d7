"""Export: tables of one moment of the ledger as files that others can read, with a manifest that says what they are."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .. import __version__
from ..core.clock import Clock, format_time
from ..ledger import Ledger
from ..ledger.backups import refuse_existing
from ..ledger.database import Database
from ..ledger.export import TABLES, Table
from ..ledger.sqlite import MIGRATIONS
from ..tables import private, require_writer, sha256_of, write_table, writing
from .progress import Progress

MANIFEST = "manifest.json"
ALWAYS_US = 2**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export: "csv" or "parquet", a range of time in microseconds (None is without end), and which tables."""

    form: str
    from_us: int | None
    until_us: int | None
    tables: Sequence[str] = ()


def export(ledger: Ledger, folder: Path, wanted: Wanted, clock: Clock, progress: Progress) -> dict[str, Any]:
    """Write tables into a new folder, which gets its name when it is whole; what the manifest says.

    Raises ConfigError if the folder is there already or cannot be written.
    """
    require_writer(wanted.form)
    with _new_folder(folder) as partial, ledger.one_moment() as db:
        files = [_write(db, partial, table, wanted, progress) for table in TABLES if _is_wanted(table, wanted)]
        manifest = _manifest(db, wanted, clock.now_us(), files)
        with private(partial / MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def _is_wanted(table: Table, wanted: Wanted) -> bool:
    return not wanted.tables or table.name in wanted.tables


def _write(db: Database, folder: Path, table: Table, wanted: Wanted, progress: Progress) -> dict[str, Any]:
    path = folder / f"{table.name}.{wanted.form}"
    from_us = wanted.from_us if wanted.from_us is not None else -ALWAYS_US
    until_us = wanted.until_us if wanted.until_us is not None else ALWAYS_US
    with private(path) as file:
        rows = _counted(table.rows(db, from_us, until_us), progress)
        count = write_table(wanted.form, file, table.columns, rows)
    return {"table": table.name, "file": path.name, "rows": count, "sha256": sha256_of(path)}


def _counted(rows: Iterator[list[Any]], progress: Progress) -> Iterator[list[Any]]:
    for number, row in enumerate(rows, 1):
        if number % 1000 == 0:
            progress("export", number, None)
        yield row


def _manifest(db: Database, wanted: Wanted, now_us: int, files: list[dict[str, Any]]) -> dict[str, Any]:
    heads = {name: db.row("chain_head", name=name) for name in ("entry", "decision")}
    return {
        "tallymark": __version__,
        "schema": len(MIGRATIONS),
        "ledger_id": db.row("get_fact", name="ledger_id")["value"],
        "exported_at": format_time(now_us),
        "from": format_time(wanted.from_us) if wanted.from_us is not None else None,
        "until": format_time(wanted.until_us) if wanted.until_us is not None else None,
        "entries": f"{heads['entry']['length']}:{heads['entry']['digest']}",
        "decisions": f"{heads['decision']['length']}:{heads['decision']['digest']}",
        "files": files,
    }


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    refuse_existing(folder)
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        with writing(folder):
            partial.mkdir(mode=0o700)
            yield partial
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
