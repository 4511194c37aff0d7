"""The rate cards that a ledger was billed by, read back from their texts."""

from __future__ import annotations

from functools import lru_cache

from ..errors import ConfigError, LedgerUnusable
from ..ledger import Ledger
from ..rating.cards import RateCard, parse_card

# A card is dated and never changes, and sums of usage ask for the same ones for every customer and day.
_parsed = lru_cache(maxsize=100)(parse_card)


def stored_cards(ledger: Ledger) -> dict[str, RateCard]:
    """Every rate card that the ledger used, by digest. Raises LedgerUnusable if one of them is damaged."""
    return {digest: stored_card(digest, text) for digest, text in ledger.rate_cards().items()}


def stored_card(digest: str, text: str) -> RateCard:
    """A rate card that a ledger used. Raises LedgerUnusable if its text is no rate card any more."""
    try:
        return _parsed(text)
    except ConfigError:
        raise LedgerUnusable(
            f"the ledger's rate card {digest} is damaged; `tallymark ledger verify` says what else is. Restore the "
            "newest backup that verifies."
        ) from None
