"""The chain of digests over entries, and over decisions: an edited, inserted or removed line shows.

Each line's digest covers its content and the digest of the line before; lines are numbered without a gap. What a meter
event covers is set later, and is no part of it (docs/adr/0022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ..core.ids import link
from .database import Database
from .rows import AppendEntry, PutDecision

_encode = msgspec.json.Encoder().encode


class EntryChain:
    """The chain over entries, inside one transaction of the caller: entries are linked part by part."""

    def __init__(self, db: Database) -> None:
        head = db.row("chain_head", name="entry")
        self._db, self._number, self._digest = db, head["length"], head["digest"]

    def link(self, entries: Sequence[AppendEntry]) -> list[AppendEntry]:
        """Number entries and give each its digest; the caller appends them."""
        linked = []
        for entry in entries:
            self._number += 1
            # Not _replace, which is slower: this is done for every entry.
            entry = AppendEntry(self._number, *entry[1:])
            self._digest = link(self._digest, entry_content(entry))
            linked.append(AppendEntry(*entry[:-1], self._digest))
        return linked

    def put_head_txn(self) -> None:
        """Store where the chain ends now."""
        self._db.write("put_chain_head", name="entry", length=self._number, digest=self._digest)


def link_entries_txn(db: Database, entries: Sequence[AppendEntry]) -> list[AppendEntry]:
    """Number entries and give each its digest, inside the caller's transaction, which appends them."""
    if not entries:
        return []
    chain = EntryChain(db)
    linked = chain.link(entries)
    chain.put_head_txn()
    return linked


def entry_content(entry: AppendEntry) -> bytes:
    """What the digest of an entry covers: everything but the digest itself and what may be set later."""
    return _encode((*entry[:16], entry.decision_id))


def link_decision_txn(db: Database, decision: PutDecision) -> PutDecision:
    """Number a decision and give it its digest, inside the caller's transaction, which stores it."""
    head = db.row("chain_head", name="decision")
    numbered = decision._replace(decision_id=head["length"] + 1)
    linked = numbered._replace(digest=link(head["digest"], decision_content(numbered)))
    db.write("put_chain_head", name="decision", length=linked.decision_id, digest=linked.digest)
    return linked


def decision_content(decision: PutDecision) -> bytes:
    """What the digest of a decision covers: everything but the digest itself."""
    return _encode(decision[:-1])


def chain_older_entries_txn(db: Database) -> None:
    """Link entries of a ledger from before there was a chain, in the order in which they were appended."""
    number, digest = 0, ""
    for batch in _batches(db):
        linked = []
        for entry in batch:
            number += 1
            digest = link(digest, entry_content(entry))
            linked.append((digest, entry.entry_id))
        for one_digest, entry_id in linked:
            db.write("link_older_entry", digest=one_digest, entry_id=entry_id)
    db.write("put_chain_head", name="entry", length=number, digest=digest)


def _batches(db: Database) -> Iterable[list[AppendEntry]]:
    after = 0
    while rows := db.rows("entries_after", after_entry_id=after, limit=1000):
        yield [entry_of(row) for row in rows]
        after = rows[-1]["entry_id"]


def entry_of(row: object) -> AppendEntry:
    """An entry as it was appended, from its row."""
    return AppendEntry(*(row[name] for name in _COLUMNS))  # type: ignore[index]


def decision_of(row: object) -> PutDecision:
    """A decision as it was stored, from its row."""
    return PutDecision(*(row[name] for name in PutDecision._fields))  # type: ignore[index]


_COLUMNS = ["created_at_us" if name == "now_us" else name for name in AppendEntry._fields]
