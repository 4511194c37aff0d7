"""Verify, back up and restore a ledger: what is proved of it, and what keeps it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..ledger.backups import Check, back_up, fill, removed_unless_filled, verified_backup
from ..ledger.database import Database
from ..ledger.guard import guarded, using_ledger
from ..ledger.opening import open_database
from ..ledger.verify import NOTHING_NOTED, Noted, Verified, verify
from ..rating.cards import parse_card
from .progress import Progress


def verify_ledger(url: str, noted: Noted, progress: Progress) -> Verified:
    """Check one moment of a ledger against itself, and against heads that were noted earlier."""
    with using_ledger(url, read_only=True) as ledger, ledger.one_moment() as db:
        return verify(db, noted, _card_digest, progress)


def backup_ledger(url: str, file: Path, progress: Progress) -> Verified:
    """Copy a ledger into a new file while others use it, and verify the copy."""
    with guarded(), contextlib.closing(open_database(url, read_only=True)) as source:
        return back_up(source, file, _check(progress), progress)


def restore_ledger(url: str, file: Path, progress: Progress) -> Verified:
    """Fill the empty ledger that a URL names with a backup, and verify both. The backup stays as it is."""
    check = _check(progress)
    with guarded(), verified_backup(file, check) as source, removed_unless_filled(url), using_ledger(url) as ledger:
        return fill(ledger, source, check, progress)


def _check(progress: Progress) -> Check:
    def check(db: Database) -> Verified:
        return verify(db, NOTHING_NOTED, _card_digest, progress)

    return check


def _card_digest(text: str) -> str:
    return parse_card(text).digest
