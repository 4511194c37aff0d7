"""What a rate card makes of a trace that the ledger knows, as if it had been in force in the time of the trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from ..config import Config
from ..core.decisions import Outcome
from ..core.readings import CONFLICT
from ..core.types import Customer, Rated, Reason, Trace, Unrated
from ..ledger.history import Stored
from ..rating.cards import RateCard
from ..rating.rate import rate
from ..rating.rules import AiBasis
from .decide import amounts_by_meter, customer_of, ownership_as_billed

RATING_REASONS = (Reason.UNRATED, Reason.UNPRICED)
_NOT_ASKED = "whether it used tokens without a cost is not known: no rate card has asked"
_NO_TOKENS = "it was read as a whole, through Langfuse's trace list, which does not tell tokens"


class End(StrEnum):
    """How a trace ends by a card. NOT_SIMULATED: the ledger does not know what the card asks for.

    HELD: it waits for something else than a rate card, such as a customer.
    """

    RATED = "rated"
    UNRATED = "unrated"
    UNPRICED = "unpriced"
    NOT_SIMULATED = "not_simulated"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Rerated:
    """How a trace ends, its customer if it has one, what it would have been billed, and in a sentence why not."""

    end: End
    customer_id: str | None
    micros: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rerater:
    """Rates by `card`, with the customers, meters and default ownership of the settings; `cards` are those used so far.

    Whose AI credentials a billed trace used stays as it was when it was billed.
    """

    config: Config
    card: RateCard
    cards: Mapping[str, RateCard]

    def __call__(self, stored: Stored) -> Rerated | None:
        """What becomes of a trace; None if it is free by this card as it was before."""
        customer_id = self._customer_id(stored)
        if _waits_for_something_else(stored):
            return Rerated(End.HELD, customer_id)
        rated = self._rate(stored, stored.trace)
        if detail := self._lacks(stored, rated):
            return Rerated(End.NOT_SIMULATED, customer_id, detail=detail)
        if isinstance(rated, Rated):
            if customer_id is None:
                return Rerated(End.HELD, None)
            return Rerated(End.RATED, customer_id, self._micros(rated))
        if rated.reason in RATING_REASONS:
            return Rerated(End(rated.reason.value), customer_id, detail=rated.detail)
        return Rerated(End.RATED, customer_id) if stored.outcome == Outcome.BILLED else None

    def _customer_id(self, stored: Stored) -> str | None:
        if stored.customer_id is not None:
            return stored.customer_id
        customer = customer_of(stored.trace, self.config)
        return customer.customer_id if isinstance(customer, Customer) else None

    def _rate(self, stored: Stored, trace: Trace) -> Rated | Unrated:
        ownership = ownership_as_billed(stored.components, self.config.default_ai_ownership)
        return rate(trace, self.card, default_ownership=ownership)

    def _micros(self, rated: Rated) -> int:
        return sum(amounts_by_meter(rated, self.config).values())

    def _lacks(self, stored: Stored, rated: Rated | Unrated) -> str:
        """What the ledger does not know of a trace that was read as a whole, if the amount depends on it."""
        if stored.trace.generation != "traces":
            return ""
        if isinstance(rated, Unrated) and rated.lacks_tokens:
            return _NO_TOKENS
        if self._was_asked_for_tokens(stored):
            return ""
        other = self._rate(stored, replace(stored.trace, unpriced=True))
        return "" if self._amount(other) == self._amount(rated) else _NOT_ASKED

    def _amount(self, rated: Rated | Unrated) -> int | None:
        return self._micros(rated) if isinstance(rated, Rated) else None

    def _was_asked_for_tokens(self, stored: Stored) -> bool:
        """Whether it is known of a trace without a cost if it used tokens; no rule and a rule without AI do not ask."""
        if stored.trace.units[0].cost_usd != 0 or stored.reason not in ("", Reason.UNRATED):
            return True
        rule = self.cards[stored.card_digest].rule_at(stored.trace.timestamp_us) if stored.card_digest else None
        return rule is not None and rule.ai is not AiBasis.NONE


def _waits_for_something_else(stored: Stored) -> bool:
    by_rating = stored.reason in RATING_REASONS and CONFLICT not in stored.trace.attributes
    return stored.outcome == Outcome.HELD and not by_rating
