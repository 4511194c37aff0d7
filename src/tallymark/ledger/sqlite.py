"""SQLite under the ledger: opening, transactions, migrations, and its errors in our words."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import LedgerError, LedgerFull, LedgerLocked, LedgerMissing, LedgerNewer, LedgerUnusable
from ..failpoints import Step
from .chain import chain_older_entries_txn
from .database import Database, NamedRow
from .statements import migration, numbered

MIGRATIONS = (
    "0001_first",
    "0002_rows_in_order",
    "0003_decisions",
    "0004_append_only",
    "0005_jobs",
    "0006_requested_runs",
    "0007_usage_sums",
    "0008_search",
    "0009_alerts",
    "0010_stale_by_batch",
    "0011_plans",
    "0012_streamed",
    "0013_claims",
    "0014_meter_windows",
)
# What a migration does besides its script, which SQL cannot say.
THEN = {"0003_decisions": chain_older_entries_txn}
BUSY_TIMEOUT_SECONDS = 30.0
CACHE_KIB = 32_000
# A batch fills a thousand pages, SQLite's own measure: copying them to the file after each costs a tenth of collecting.
CHECKPOINT_PAGES = 4_000

DAMAGE_MAX = 100

_ERRORS: dict[int, tuple[type[LedgerError], str]] = {
    sqlite3.SQLITE_BUSY: (
        LedgerLocked,
        "another process has held the ledger {path} for too long; run again when it is done.",
    ),
    sqlite3.SQLITE_LOCKED: (LedgerLocked, "the ledger {path} is locked; run again when the other process is done."),
    sqlite3.SQLITE_READONLY: (LedgerUnusable, "the ledger {path} is read-only; make the file and its folder writable."),
    sqlite3.SQLITE_PERM: (LedgerUnusable, "the ledger {path} may not be opened; check its permissions."),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerUnusable,
        "the ledger {path} cannot be opened; check that its folder exists and is writable, or set BILLING_LEDGER_URL.",
    ),
    sqlite3.SQLITE_FULL: (
        LedgerFull,
        "no space is left for the ledger {path}; nothing is half-written. Free space and run again.",
    ),
    sqlite3.SQLITE_IOERR: (
        LedgerUnusable,
        "the disk under the ledger {path} failed to read or write; check it and run again.",
    ),
    sqlite3.SQLITE_CORRUPT: (LedgerUnusable, "the ledger {path} is damaged; restore it from a backup."),
    sqlite3.SQLITE_NOTADB: (LedgerUnusable, "the file {path} is not a ledger; set BILLING_LEDGER_URL to another file."),
}


class SqliteDatabase(Database):
    """One connection to a ledger file."""

    dialect = "sqlite"

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = self.name = path
        with self._errors():
            if path != ":memory:":
                _look_at(Path(path), read_only)
            address = f"{Path(path).absolute().as_uri()}?mode=ro" if read_only else path
            self._connection = sqlite3.connect(
                address, uri=read_only, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("pragma synchronous = full")
            self._connection.execute(f"pragma cache_size = -{CACHE_KIB}")
            self._connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._translate(error) from error
        except OSError as error:
            raise LedgerUnusable(f"the ledger {self.path} cannot be opened: {error.strerror}.") from error

    def _translate(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        kind, message = _ERRORS.get((code or 0) & 0xFF, (None, ""))
        return kind(message.format(path=self.path)) if kind else error

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            try:
                self._connection.execute("commit")
            except BaseException:
                self._roll_back()
                raise

    @contextlib.contextmanager
    def one_moment(self) -> Iterator[None]:
        """As Database.one_moment."""
        with self._errors():
            self._connection.execute("begin")
        try:
            # The moment is that of the first read.
            self._run("select 1 from sqlite_master", ())
            yield
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        # A full disk may have ended the transaction already; a second error would hide the first.
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def _run(self, sql: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def _run_plain(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._errors():
            cursor = self._connection.cursor()
            cursor.row_factory = None
            return cursor.execute(sql, values).fetchall()

    def stream(self, name: str, /, **values: Any) -> Iterator[sqlite3.Row]:
        """As Database.stream."""
        with self._errors():
            # Not `yield from`, which would close the cursor when it is dropped, perhaps after its connection.
            for row in self._connection.execute(numbered(name, self.dialect), self._bound(name, values)):  # noqa: UP028
                yield row

    def _change(self, sql: str, values: tuple[Any, ...]) -> int:
        with self._errors():
            return self._connection.execute(sql, values).rowcount

    def _change_each(self, sql: str, rows: Sequence[NamedRow]) -> None:
        with self._errors():
            self._connection.executemany(sql, rows)

    def tables(self) -> list[str]:
        """As Database.tables."""
        question = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
        return [row["name"] for row in self._run(question, ())]

    def columns_of(self, table: str) -> list[str]:
        """As Database.columns_of."""
        return [row["name"] for row in self._run("select name from pragma_table_info(?) order by cid", (table,))]

    def stream_table(self, table: str) -> Iterator[tuple[Any, ...]]:
        """As Database.stream_table."""
        with self._errors():
            # The table is one of `tables`, never text of a caller.
            for row in self._connection.execute(f"select {', '.join(self.columns_of(table))} from {table}"):  # noqa: S608
                yield tuple(row)

    def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """As Database.insert_rows."""
        places = ", ".join("?" * len(columns))
        with self._errors():
            self._connection.executemany(
                f"insert into {table} ({', '.join(columns)}) values ({places})",  # noqa: S608 - names of our own schema
                rows,
            )

    def copy_to(self, other: SqliteDatabase) -> None:
        """Copy the whole ledger, as one moment of it, into another database."""
        try:
            self._connection.backup(other._connection)
        except sqlite3.DatabaseError as error:
            # What is read may be damaged; all else that can go wrong is on the side that is written.
            damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            raise (self if damaged else other)._translate(error) from error

    def make_one_file(self) -> None:
        """Put what lies beside the file, in its log, into it: then the file alone is the ledger, and can be moved."""
        with self._errors():
            self._connection.execute("pragma journal_mode = delete")

    def damage(self) -> list[str]:
        """As Database.damage."""
        found = [row[0] for row in self._run(f"pragma integrity_check({DAMAGE_MAX})", ())]
        return [] if found == ["ok"] else found

    def changes_of_schema(self) -> list[str]:
        """As Database.changes_of_schema."""
        ours, theirs = _made_by_migrations(), self._made()
        wrong = [f"{what} is missing or was changed" for what, does in ours.items() if theirs.get(what) != does]
        return wrong + [f"{what} is none that tallymark makes" for what in theirs if what not in ours]

    def _made(self) -> dict[str, str]:
        """Tables, indexes and triggers by name; of a trigger, which refuses edits, also what it does."""
        question = "select type, name, sql from sqlite_master where name not like 'sqlite_%' order by type, name"
        return {f"the {kind} {name}": sql if kind == "trigger" else "" for kind, name, sql in self._run(question, ())}

    def migrate(self) -> None:
        """As Database.migrate."""
        found = self.version()
        with self._errors():
            # Only now: it writes, and a file of something else must stay as it is.
            self._connection.execute("pragma journal_mode = wal")
        if found == len(MIGRATIONS):
            return
        with self.transaction(Step.MIGRATE):
            for number in range(self.version(), len(MIGRATIONS)):
                self._run_script(migration(MIGRATIONS[number], self.dialect))
                if MIGRATIONS[number] in THEN:
                    THEN[MIGRATIONS[number]](self)
                self._connection.execute(f"pragma user_version = {number + 1}")

    def version(self) -> int:
        """How many migrations the file has seen. Raises LedgerNewer or LedgerUnusable."""
        with self._errors():
            # In this order: another process may be migrating, and its tables and version appear together.
            tables = self._connection.execute("select count(*) from sqlite_master").fetchone()[0]
            found: int = self._connection.execute("pragma user_version").fetchone()[0]
        if found > len(MIGRATIONS):
            raise LedgerNewer(
                f"the ledger {self.path} was written by a newer tallymark (schema {found}); upgrade tallymark."
            )
        if found == 0 and tables:
            raise LedgerUnusable(
                f"the file {self.path} is a database of something else; set BILLING_LEDGER_URL to another file."
            )
        return found

    def is_older(self) -> bool:
        """Whether an older tallymark made the schema. Raises as version does, and LedgerUnusable if there is none."""
        found = self.version()
        if found == 0:
            raise LedgerUnusable(f"the file {self.path} is empty and no ledger yet; `tallymark sync` makes it one.")
        return found < len(MIGRATIONS)

    def require_current(self) -> None:
        """As Database.require_current."""
        if self.is_older():
            raise LedgerUnusable(
                f"the ledger {self.path} was written by an older tallymark; `tallymark sync` brings it up to date."
            )

    def _run_script(self, script: str) -> None:
        # Not executescript: it would commit the transaction that holds the lock.
        for part in _split_script(script):
            self._connection.execute(part)

    def version_of_data(self) -> object:
        """As Database.version_of_data."""
        with self._errors():
            others: int = self._connection.execute("pragma data_version").fetchone()[0]
        return others, self._connection.total_changes

    def close(self) -> None:
        """As Database.close."""
        self._connection.close()


@cache
def _made_by_migrations() -> dict[str, str]:
    fresh = SqliteDatabase(":memory:")
    fresh.migrate()
    with contextlib.closing(fresh):
        return fresh._made()


def _split_script(script: str) -> Iterator[str]:
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""


def is_missing(path: Path) -> bool:
    """Whether nothing is there. What may not be looked at is no reason to believe that."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each for its owner only; mkdir by itself thinks of the last one alone."""
    if is_missing(folder):
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _look_at(path: Path, read_only: bool) -> None:
    """Create the ledger's file, readable by its owner only; refuse a pipe, for which SQLite would wait without end."""
    if is_missing(path):
        if read_only:
            raise LedgerMissing(
                f"there is no ledger at {path} yet; run `tallymark sync` first, or set BILLING_LEDGER_URL."
            )
        _make_folder(path.parent)
        path.touch(mode=0o600)
    elif not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
        raise LedgerUnusable(f"{path} is a pipe or a device and no ledger; set BILLING_LEDGER_URL to a file.")
