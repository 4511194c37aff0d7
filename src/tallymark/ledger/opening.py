"""From the address of a ledger to the ledger: which database it is in, and a copy of it for a dry run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError, LedgerMissing
from ..failpoints import Step
from .copies import copy_rows_txn
from .database import Database
from .ledger import Ledger
from .sqlite import SqliteDatabase, is_missing

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


def open_ledger(url: str, *, read_only: bool = False) -> Ledger:
    """Open the ledger that a URL names, and bring its schema up to date.

    Raises ConfigError for a URL of an unknown kind and LedgerError for a ledger that cannot be used.
    """
    database = open_database(url, read_only=read_only)
    with contextlib.ExitStack() as undo:
        undo.callback(database.close)
        ledger = Ledger(database, migrate=not read_only)
        undo.pop_all()
    return ledger


def open_database(url: str, *, read_only: bool = False) -> Database:
    """Connect to the ledger that a URL names, whatever its schema. Raises as open_ledger does."""
    if url.startswith(POSTGRES_SCHEMES):
        return _open_postgres(url, read_only)
    return SqliteDatabase(path_of(url), read_only=read_only)


def _open_postgres(url: str, read_only: bool) -> Database:
    try:
        from .postgres import PostgresDatabase
    except ImportError as error:
        raise ConfigError(
            f"BILLING_LEDGER_URL names a PostgreSQL server, and its driver is missing ({error}); install it with "
            "`pip install 'tallymark[postgres]'`."
        ) from error
    return PostgresDatabase(url, read_only=read_only)


def path_of(url: str) -> str:
    """The file that a sqlite URL names: sqlite:///relative, sqlite:////absolute, or sqlite:// for memory."""
    if not url.startswith("sqlite://"):
        raise ConfigError(
            f"BILLING_LEDGER_URL is {url.split(':')[0]}:…; a ledger is kept in sqlite:///FILE or postgresql://…."
        )
    return url.removeprefix("sqlite://").removeprefix("/") or ":memory:"


@contextlib.contextmanager
def dry_copy(url: str) -> Iterator[Ledger]:
    """A throw-away copy of the ledger, so that a dry run can go through the same steps and write nothing that stays.

    The copy is a file, whatever the ledger is in.
    """
    with tempfile.TemporaryDirectory(prefix="tallymark-dry-") as folder:
        copy = SqliteDatabase(str(Path(folder) / "ledger.sqlite3"))
        with contextlib.closing(copy):
            if url.startswith(POSTGRES_SCHEMES):
                _copy_rows(url, copy)
            else:
                _copy_file(path_of(url), copy)
            yield Ledger(copy)


def _copy_file(path: str, copy: SqliteDatabase) -> None:
    if path == ":memory:" or is_missing(Path(path)):
        return
    with contextlib.closing(SqliteDatabase(path, read_only=True)) as original:
        original.version()
        original.copy_to(copy)


def _copy_rows(url: str, copy: SqliteDatabase) -> None:
    copy.migrate()
    with contextlib.closing(open_database(url, read_only=True)) as original, contextlib.suppress(LedgerMissing):
        original.require_current()
        with original.one_moment(), copy.transaction(Step.RESTORE):
            copy_rows_txn(original, copy, lambda *_: None)
