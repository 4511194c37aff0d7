"""SQLite under the ledger: opening, transactions, and its errors in our words. Nothing else differs by database."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, SupportsIndex

from ..errors import LedgerError, LedgerFull, LedgerLocked, LedgerNewer, LedgerUnusable

BUSY_TIMEOUT_SECONDS = 30.0
CACHE_KIB = 32_000
# A batch fills a thousand pages, SQLite's own measure: copying them to the file after each costs a tenth of collecting.
CHECKPOINT_PAGES = 4_000
MIGRATIONS = ("0001_first", "0002_rows_in_order")

# Fifty rows in one statement take less time than fifty statements, and other threads run meanwhile.
INSERT_ROWS = 50
_VALUES = re.compile(r"values (\([^;]*?\))(?=\s*(?:on conflict|$))")
_PARAMETER = re.compile(r"(?<![\w:]):([a-z_]+)")

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


class NamedRow(Protocol):
    """A named tuple of values to bind."""

    @property
    def _fields(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: SupportsIndex, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


@cache
def statement(name: str) -> str:
    """The SQL of a statement, one a file."""
    return resources.files("tallymark.ledger").joinpath("sql", f"{name}.sql").read_text("utf-8")


@cache
def _names(name: str) -> tuple[str, ...]:
    """The parameters of a statement, in the order of their first use."""
    return tuple(dict.fromkeys(_PARAMETER.findall(statement(name))))


@cache
def _numbered(name: str, rows: int) -> str:
    """A statement with its parameters numbered instead of named; an insert may take several rows at once."""
    names = _names(name)

    def numbered(sql: str, row: int) -> str:
        return _PARAMETER.sub(lambda found: f"?{row * len(names) + names.index(found[1]) + 1}", sql)

    values = _VALUES.search(statement(name))
    if values is None or rows == 1:
        return numbered(statement(name), 0)
    groups = ", ".join(numbered(values[1], row) for row in range(rows))
    return f"{statement(name)[: values.start(1)]}{groups}{statement(name)[values.end(1) :]}"


class SqliteDatabase:
    """One connection to a ledger file. Every write happens inside `transaction`."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = path
        with self._errors():
            if not read_only and path != ":memory:":
                _make_private(Path(path))
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
    def transaction(self) -> Iterator[None]:
        """Commit everything inside together or not at all. The write lock is taken at once: what is read stays true."""
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

    def _roll_back(self) -> None:
        # A full disk may have ended the transaction already; a second error would hide the first.
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def rows(self, name: str, /, **values: Any) -> list[sqlite3.Row]:
        """Run a statement and return all of its rows; only for results with a known bound."""
        with self._errors():
            return self._connection.execute(statement(name), values).fetchall()

    def stream(self, name: str, /, **values: Any) -> Iterator[sqlite3.Row]:
        """Run a statement and yield its rows one by one."""
        with self._errors():
            yield from self._connection.execute(statement(name), values)

    def row(self, name: str, /, **values: Any) -> sqlite3.Row | None:
        """Run a statement and return its first row, if any."""
        with self._errors():
            found: sqlite3.Row | None = self._connection.execute(statement(name), values).fetchone()
            return found

    def write(self, name: str, /, **values: Any) -> int:
        """Run a writing statement inside a transaction; how many rows it changed."""
        with self._errors():
            return self._connection.execute(statement(name), values).rowcount

    def write_many(self, name: str, rows: Sequence[NamedRow]) -> None:
        """Run a writing statement once for each row, inside a transaction. Raises TypeError for rows of another one."""
        if not rows:
            return
        if rows[0]._fields != _names(name):
            raise TypeError(f"{type(rows[0]).__name__} does not have the parameters of {name}: {_names(name)}")
        whole = len(rows) - len(rows) % INSERT_ROWS if _VALUES.search(statement(name)) else 0
        with self._errors():
            for at in range(0, whole, INSERT_ROWS):
                values = tuple(chain.from_iterable(rows[at : at + INSERT_ROWS]))
                self._connection.execute(_numbered(name, INSERT_ROWS), values)
            self._connection.executemany(_numbered(name, 1), rows[whole:])

    def copy_to(self, other: SqliteDatabase) -> None:
        """Copy the whole ledger, as one moment of it, into another database."""
        with self._errors():
            self._connection.backup(other._connection)

    def migrate(self) -> None:
        """Bring the schema to this version, under the write lock. Raises LedgerNewer for a schema from the future."""
        found = self.version()
        with self._errors():
            # Only now: it writes, and a file of something else must stay as it is.
            self._connection.execute("pragma journal_mode = wal")
        if found == len(MIGRATIONS):
            return
        with self.transaction():
            for number in range(self.version(), len(MIGRATIONS)):
                self._run_script(
                    resources.files("tallymark.ledger")
                    .joinpath("migrations", f"{MIGRATIONS[number]}.sqlite.sql")
                    .read_text()
                )
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

    def require_current(self) -> None:
        """Raise LedgerError unless the file has this version's schema: reading must not change it."""
        if self.version() < len(MIGRATIONS):
            raise LedgerUnusable(
                f"the ledger {self.path} was written by an older tallymark; `tallymark sync` brings it up to date."
            )

    def _run_script(self, script: str) -> None:
        # Not executescript: it would commit the transaction that holds the lock.
        for part in _split_script(script):
            self._connection.execute(part)

    def version_of_data(self) -> tuple[int, int]:
        """A stamp that changes with every write, by this connection or another."""
        with self._errors():
            others: int = self._connection.execute("pragma data_version").fetchone()[0]
        return others, self._connection.total_changes

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _split_script(script: str) -> Iterator[str]:
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""


def _make_private(path: Path) -> None:
    """Create the ledger's file readable by its owner only, before anything is in it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
