"""Verify: recompute every digest and every sum of a ledger, and say of each row that does not hold which one it is.

A check is a statement and a judge. A judge takes the statement's rows one by one and yields, for each, what is wrong
with it or None. So memory stays as it is, however long the ledger (G6), and a judge can be tried on rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import ConfigError
from . import judges
from .chain import decision_content, decision_of, entry_content, entry_of
from .copies import Told
from .database import Database
from .guard import SIGNS_OF_DAMAGE
from .judges import Found, Head

FINDINGS_MAX = 20
PROGRESS_ROWS = 1000
ROUNDS = {"entries": 3, "decisions": 3, "meter_events": 3, "traces": 2}
"""How many checks read the rows of a table."""

CardDigest = Callable[[str], str]
"""The digest of a rate card, from its text."""

_COMPARE = "compare with a backup, by `tallymark ledger export` of both, and restore the newest backup that verifies"
_UNDO = "nothing in tallymark writes this: restore the newest backup that verifies, or report it as a bug"


class Check(NamedTuple):
    """Something that must hold: its name, the rows that show it, who judges them, and what to do if it does not."""

    name: str
    rows: Callable[[], Iterable[Any]]
    judge: Callable[[Iterable[Any]], Iterator[Found | None]]
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that does not hold."""

    check: str
    row: str
    detail: str
    remedy: str


@dataclass(slots=True)
class Counted:
    """What one check came to."""

    check: str
    rows: int = 0
    findings: int = 0


@dataclass(slots=True)
class Verified:
    """What verifying found. `findings` are the first of them; `checks` count all."""

    ledger_id: str = ""
    entries: str = ""
    decisions: str = ""
    checks: list[Counted] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class Noted:
    """Heads that somebody kept from an earlier verification; None where none was kept."""

    entries: Head | None = None
    decisions: Head | None = None


NOTHING_NOTED = Noted()


def parse_head(text: str) -> Head:
    """Read LENGTH:DIGEST, as verify prints it. Raises ConfigError."""
    length, colon, digest = text.partition(":")
    whole = not digest if length == "0" else len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    if not (colon and length.isdecimal() and whole):
        raise ConfigError(f"{text!r} is no head of a chain: write LENGTH:DIGEST, as `tallymark ledger verify` does.")
    return Head(int(length), digest)


def verify(db: Database, noted: Noted, card_digest: CardDigest, progress: Told) -> Verified:
    """Check one moment of the ledger, which the caller holds. Raises LedgerError if it cannot be read at all."""
    run = _Run(Verified(), progress)
    run.check(Check("database", db.damage, judges.words("the database"), _COMPARE))
    if run.verified.holds:  # Sums that are read through damaged pages prove nothing.
        _verify_rows(db, noted, card_digest, run)
    return run.verified


def _verify_rows(db: Database, noted: Noted, card_digest: CardDigest, run: _Run) -> None:
    run.total = _total(db)
    entries = judges.Chain("entry", entry_of, entry_content, _head(db, "entry"), noted.entries)
    decisions = judges.Chain("decision", decision_of, decision_content, _head(db, "decision"), noted.decisions)
    id_fact = _row(db, "get_fact", name="ledger_id")
    run.verified.ledger_id = id_fact["value"] if id_fact else ""
    for check in _checks(db, run.verified.ledger_id, card_digest, entries, decisions):
        run.check(check)
    run.verified.entries, run.verified.decisions = str(entries.head), str(decisions.head)


def _checks(
    db: Database, ledger_id: str, card_digest: CardDigest, entries: judges.Chain, decisions: judges.Chain
) -> Iterator[Check]:
    def rows(statement: str) -> Callable[[], Iterable[Any]]:
        return lambda: db.stream(statement)

    yield Check("schema", db.changes_of_schema, judges.words("the schema"), _UNDO)
    yield Check("rows", lambda: _read_all(db), judges.readable, _COMPARE)
    yield Check("chain of entries", rows("all_entries"), entries, _COMPARE)
    yield Check("chain of decisions", rows("all_decisions"), decisions, _COMPARE)
    yield Check("entries", rows("entry_places"), judges.entries, _UNDO)
    yield Check("meter events", rows("meter_event_sums"), judges.meter_events(ledger_id), _UNDO)
    yield Check("carries", rows("carries"), judges.carries, _UNDO)
    yield Check("balances", rows("balances"), judges.balances, _UNDO)
    yield Check("traces", rows("trace_sums"), judges.traces, _UNDO)
    yield Check("decisions", rows("decision_sums"), judges.decisions, _UNDO)
    yield Check("rate cards", rows("rate_cards"), judges.rate_cards(card_digest), _COMPARE)


def _read_all(db: Database) -> Iterator[str]:
    """Read every table to its end; for each row, or for the one that cannot be read, its table and number."""
    for table in db.tables():
        read = 0
        try:
            for _ in db.stream_table(table):
                read += 1
                yield ""
        except SIGNS_OF_DAMAGE as error:
            yield f"{table}, row {read + 1} ({type(error).__name__})"


def _head(db: Database, name: str) -> Head:
    row = _row(db, "chain_head", name=name)
    return Head(row["length"], row["digest"]) if row else Head(0, "")


def _total(db: Database) -> int:
    counts = _row(db, "row_counts")
    return sum(int(counts[table]) * rounds for table, rounds in ROUNDS.items()) if counts else 0


def _row(db: Database, name: str, /, **values: str) -> Any:
    """A row, if it is there. A table that is gone is told by the check of the schema."""
    try:
        return db.row(name, **values)
    except SIGNS_OF_DAMAGE:
        return None


@dataclass(slots=True)
class _Run:
    verified: Verified
    progress: Told
    total: int = 0
    done: int = 0

    def check(self, check: Check) -> None:
        """Let a check judge all of its rows; one that cannot even be read ends it."""
        counted = Counted(check.name)
        self.verified.checks.append(counted)
        try:
            for found in check.judge(check.rows()):
                self._count(check, counted, found)
        except SIGNS_OF_DAMAGE as error:
            row = f"row {counted.rows + 1} of the check"
            self._count(check, counted, Found(row, f"it cannot be read, nor what follows ({type(error).__name__})"))

    def _count(self, check: Check, counted: Counted, found: Found | None) -> None:
        if found is None or not found.also:
            counted.rows += 1
            self._step()
        if found is not None:
            counted.findings += 1
            self._keep(check, found)

    def _keep(self, check: Check, found: Found) -> None:
        if len(self.verified.findings) < FINDINGS_MAX:
            self.verified.findings.append(Finding(check.name, found.row, found.detail, check.remedy))

    def _step(self) -> None:
        self.done += 1
        if self.done % PROGRESS_ROWS == 0:
            self.progress("verify", self.done, max(self.total, self.done))
