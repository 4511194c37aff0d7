"""Copies of a ledger: a backup into a file of its own, and a restore into a ledger that is empty.

A copy is one moment of the ledger, whoever writes meanwhile. It is verified before it counts: a backup before it gets
its name, a restored ledger before it is committed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ConfigError, LedgerUnusable
from ..failpoints import Side, Step, reach
from .copies import Told, copy_rows_txn
from .database import Database
from .ledger import Ledger
from .opening import path_of
from .sqlite import SqliteDatabase, is_missing
from .verify import Verified

Check = Callable[[Database], Verified]
"""Verifies one moment of a ledger, which the caller holds."""


def back_up(source: Database, file: Path, check: Check, progress: Told) -> Verified:
    """Write a copy of the ledger into a new file, readable by its owner only, and verify it; what that found.

    Killed at any time, it leaves nothing under the final name. Raises ConfigError if the file is there already or
    cannot be made, and LedgerError if the ledger cannot be read, does not verify, or no space is left.
    """
    refuse_existing(file)
    with _partial(file) as partial:
        _copy_to_file(source, partial, progress)
        with current(SqliteDatabase(str(partial), read_only=True), file.parent) as copy:
            verified = _checked(copy, check, f"the ledger {source.name}")
        _publish(partial, file)
    return verified


@contextlib.contextmanager
def verified_backup(file: Path, check: Check) -> Iterator[Database]:
    """A backup in this version's schema that verifies. The file stays as it is: an older one is migrated on a copy.

    Raises ConfigError if it is not there, and LedgerError if it cannot be used or does not verify.
    """
    with current(_open_backup(file), None) as source:
        _checked(source, check, f"the backup {file}")
        yield source


def _open_backup(file: Path) -> SqliteDatabase:
    if is_missing(file):
        raise ConfigError(f"there is no file {file}; name a backup that `tallymark ledger backup` made.")
    try:
        with contextlib.ExitStack() as opened:
            backup = opened.enter_context(contextlib.closing(SqliteDatabase(str(file), read_only=True)))
            backup.is_older()
            opened.pop_all()
    except LedgerUnusable as error:
        raise LedgerUnusable(f"the backup {file} cannot be read, or is no ledger; use another one.") from error
    return backup


def fill(ledger: Ledger, source: Database, check: Check, progress: Told) -> Verified:
    """Copy a ledger into an empty one and verify that, in one transaction; what verifying found.

    Raises ConfigError if the ledger is not empty.
    """
    with ledger.transaction(Step.RESTORE) as target, source.one_moment():
        if target.row("is_used")["used"]:
            raise ConfigError(
                f"the ledger {target.name} is in use, and a backup is restored into an empty one only. Set "
                "BILLING_LEDGER_URL to a ledger that does not exist yet, or move this one away first."
            )
        copy_rows_txn(source, target, progress)
        return _refuse_findings(check(target), f"the restored ledger {target.name}")


@contextlib.contextmanager
def removed_unless_filled(url: str) -> Iterator[None]:
    """Leave no ledger file behind that was made only to be filled, if it could not be."""
    path = Path(path_of(url)) if url.startswith("sqlite:") else None
    is_new = path is not None and is_missing(path)
    try:
        yield
    except BaseException:
        if path is not None and is_new:
            _remove(path)
        raise


@contextlib.contextmanager
def current(database: Database, folder: Path | None) -> Iterator[Database]:
    """A database in this version's schema: itself, or a migrated throw-away copy in a folder. Closes it at the end."""
    with contextlib.closing(database):
        if not isinstance(database, SqliteDatabase) or not database.is_older():
            database.require_current()
            yield database
            return
        with tempfile.TemporaryDirectory(prefix="tallymark-", dir=folder) as scratch:
            copy = SqliteDatabase(str(Path(scratch) / "ledger.sqlite3"))
            with contextlib.closing(copy):
                database.copy_to(copy)
                Ledger(copy)
                yield copy


def refuse_existing(path: Path) -> None:
    """Raise ConfigError for a path where something is already."""
    if os.path.lexists(path):
        raise ConfigError(f"{path} is there already, and nothing is overwritten; name another, or move it away.")


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(database: Database, check: Check, name: str) -> Verified:
    with database.one_moment():
        return _refuse_findings(check(database), name)


def _refuse_findings(verified: Verified, name: str) -> Verified:
    if not verified.holds:
        first = verified.findings[0]
        count = sum(counted.findings for counted in verified.checks)
        raise LedgerUnusable(
            f"{name} does not verify, so nothing was written: {count} findings, the first at {first.row}: "
            f"{first.detail}. `tallymark ledger verify` lists them; {first.remedy}."
        )
    return verified


@contextlib.contextmanager
def _partial(file: Path) -> Iterator[Path]:
    """A private file beside the one to be made, which is gone at the end, with what SQLite puts beside it."""
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.touch(mode=0o600, exist_ok=False)
    except OSError as problem:
        raise ConfigError(f"{file} cannot be written: {problem.strerror}; name another file.") from problem
    try:
        yield partial
    finally:
        _remove(partial)


def _remove(file: Path) -> None:
    """Remove a ledger file, with what SQLite puts beside it."""
    for end in ("", "-wal", "-shm", "-journal"):
        file.with_name(file.name + end).unlink(missing_ok=True)


def _copy_to_file(source: Database, file: Path, progress: Told) -> None:
    target = SqliteDatabase(str(file))
    with contextlib.closing(target):
        if isinstance(source, SqliteDatabase):
            source.version()
            source.copy_to(target)
        else:
            source.require_current()
            target.migrate()
            with source.one_moment(), target.transaction(Step.RESTORE):
                copy_rows_txn(source, target, progress)
        target.make_one_file()


def _publish(partial: Path, file: Path) -> None:
    """Give a finished file its name, so that it is there whole or not at all."""
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    reach(Step.BACK_UP, Side.BEFORE)
    refuse_existing(file)
    partial.rename(file)
    _sync_folder(file.parent)
    reach(Step.BACK_UP, Side.AFTER)
