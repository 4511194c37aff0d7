"""What a damaged ledger does to whoever reads it: an error with a sentence, and no traceback.

A file may open, and yet hold what tallymark never wrote there: a flipped byte in a number, a table that is gone. It
shows as an error of the database, or of the code that believes what it reads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import LedgerUnusable
from .ledger import Ledger
from .opening import open_ledger

SIGNS_OF_DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError, msgspec.MsgspecError, sqlite3.Error)
PACKAGE = str(Path(__file__).parents[1])


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn an error that a damaged ledger causes into LedgerUnusable, which says where it showed but no value."""
    try:
        yield
    except SIGNS_OF_DAMAGE as error:
        raise LedgerUnusable(
            f"the ledger holds something that cannot be used ({_place(error)}). Run `tallymark ledger verify`: if it "
            "finds damage, restore the newest backup that verifies; if it finds none, report this as a bug."
        ) from error


def _place(error: BaseException) -> str:
    """Where an error came from, in our own code: its message may hold what nobody should read in a log."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    return f"{type(error).__name__} in {Path(frames[-1].filename).relative_to(PACKAGE)}, line {frames[-1].lineno}"


@contextlib.contextmanager
def using_ledger(url: str, *, read_only: bool = False) -> Iterator[Ledger]:
    """Open a ledger, guard what is done with it, and close it. Raises as open_ledger does, and LedgerUnusable."""
    with guarded():
        ledger = open_ledger(url, read_only=read_only)
        with contextlib.closing(ledger):
            yield ledger
