"""What becomes of one trace: pure branches over the trace, what the ledger knows of it, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from functools import reduce

import msgspec

from ..config import Config
from ..core.clock import SECOND_US
from ..core.credits import EXACT, round_to_micros
from ..core.decisions import (
    PROCESSED,
    Decision,
    Known,
    MarkState,
    NewEntry,
    Outcome,
    Ruling,
    TraceKey,
    attributes_text,
    key_of,
)
from ..core.readings import CONFLICT
from ..core.types import Customer, Rated, Reason, Trace, Unrated
from ..core.windows import bucket_of, is_future, is_too_old
from ..rating.cards import RateCard
from ..rating.customers import CUSTOMER_ATTRIBUTES, ORGANIZATION_ATTRIBUTES, NoCustomer, resolve
from ..rating.rate import PLATFORM, USER, rate
from ..rating.rules import AI, OWN_KEYS
from .cards import stored_card

CUSTOMER_KEYS = (*CUSTOMER_ATTRIBUTES, *ORGANIZATION_ATTRIBUTES)
PENDING_TAG = "billing:pending"
PROCESSED_TAG = "billing:processed"
# Langfuse shows a write only after 5 to 16 seconds (facts/langfuse-observed.md item 15): a mark that was written a
# moment ago and cannot be seen yet is not lost.
MARK_VISIBLE_AFTER_US = 30 * SECOND_US
_SHOWN = Context(prec=28)


@dataclass(slots=True)
class Decider:
    """Decides traces of one run. `shrunk` collects traces that now look cheaper than billed, to be confirmed.

    `ruling_of` is what a person said of a trace; it is asked only for those that the ledger knows as held.
    """

    config: Config
    run_id: str
    now_us: int
    billed_by_meter: Callable[[TraceKey], Mapping[str, int]]
    card_texts: Mapping[str, str]
    only_pending: bool = False
    marks_by_score: bool = False
    ruling_of: Callable[[TraceKey], Ruling | None] = lambda _key: None
    waived_by_meter: Callable[[TraceKey], Mapping[str, int]] = lambda _key: {}
    confirmed: set[TraceKey] = field(default_factory=set)
    shrunk: dict[TraceKey, Trace] = field(default_factory=dict)
    _cards: dict[str, RateCard] = field(default_factory=dict)

    def __call__(self, trace: Trace, known: Known | None) -> Decision:
        """Decide one trace. A second reading in one run never turns a better result into "already processed"."""
        decision = self._decide(trace, known)
        if known is None or known.last_run_id != self.run_id:
            return decision
        result = known.result if decision.worth_micros is None else decision.result
        return replace(decision, result_before=known.result, result=result, untagged=False, healed=False)

    def set_aside(self) -> None:
        """The last decision is not stored: its trace is decided again when all of it was read."""

    def _decide(self, trace: Trace, known: Known | None) -> Decision:
        if known is not None and known.outcome == Outcome.BILLED:
            return self._billed_before(trace, known)
        if known is not None and known.reason == Reason.WAIVED:
            return _ended(trace, known, Reason.WAIVED, known.detail)
        if trace.marked:
            return self._marked_elsewhere(trace, known)
        return self._unbilled(trace, known)

    def _unbilled(self, trace: Trace, known: Known | None) -> Decision:
        if is_future(trace.timestamp_us, self.now_us):
            return _ended(trace, known, Reason.FUTURE_TIMESTAMP, "its time lies ahead of now")
        ruling = self.ruling_of(key_of(trace)) if known is not None and known.outcome == Outcome.HELD else None
        assigned = ruling is not None and ruling.customer_id is not None
        conflict = trace.attributes.get(CONFLICT)
        if conflict is not None and not (assigned and conflict in CUSTOMER_KEYS):
            reason = Reason.NO_CUSTOMER if conflict in CUSTOMER_KEYS else Reason.UNRATED
            return _ended(trace, known, reason, f"its observations contradict each other about {conflict}")
        rated = rate(trace, self.config.rate_card, default_ownership=self.config.default_ai_ownership)
        if isinstance(rated, Unrated):
            return _ended(trace, known, rated.reason, rated.detail)
        if self.only_pending and ruling is None and PENDING_TAG not in trace.tags:
            return _ended(trace, known, Reason.FILTERED, "it has no tag billing:pending")
        return self._rated(trace, known, rated, ruling)

    def _rated(self, trace: Trace, known: Known | None, rated: Rated, ruling: Ruling | None) -> Decision:
        amounts = amounts_by_meter(rated, self.config)
        worth = sum(amounts.values())
        at_us = ruling.dated_at_us if ruling and ruling.dated_at_us is not None else trace.timestamp_us
        if is_too_old(at_us, self.now_us):
            return _ended(trace, known, Reason.TOO_OLD, "Stripe takes no usage older than 35 days", rated, worth)
        customer = self._customer(trace, ruling)
        if isinstance(customer, NoCustomer):
            return _ended(trace, known, Reason.NO_CUSTOMER, customer.detail, rated, worth)
        entries = self._entries(trace, at_us, customer.customer_id, rated, amounts, "charge")
        if ruling is not None:
            entries = tuple(replace(entry, decision_id=ruling.decision_id) for entry in entries)
        return self._charge(trace, customer, rated, entries)

    def _customer(self, trace: Trace, ruling: Ruling | None) -> Customer | NoCustomer:
        if ruling is not None and ruling.customer_id is not None:
            return Customer(ruling.customer_id, "decision")
        return customer_of(trace, self.config)

    def _charge(self, trace: Trace, customer: Customer, rated: Rated, entries: tuple[NewEntry, ...]) -> Decision:
        untagged = not trace.tags
        worth_micros = sum(entry.amount_micros for entry in entries)
        return Decision(
            trace,
            PROCESSED,
            Outcome.BILLED,
            MarkState.WAITING,
            customer=customer,
            rated=rated,
            worth_micros=worth_micros,
            billed_micros=worth_micros,
            components=entries[0].components,
            entries=entries,
            untagged=untagged,
            healed=untagged,
        )

    def _billed_before(self, trace: Trace, known: Known) -> Decision:
        """A trace that the ledger billed: usually nothing is new; a changed usage is an adjustment."""
        if CONFLICT in trace.attributes and attributes_text(trace) != known.attributes:
            # Whose the new part is cannot be known; what was billed stays, and the run says that something is held.
            return replace(self._unchanged_money(trace, known), result=Reason.NO_CUSTOMER)
        rated = self._rate_as_billed(trace, known)
        if rated is None:
            return self._unchanged_money(trace, known)
        if isinstance(rated, Unrated):
            return self._not_rated_again(trace, known, rated)
        amounts = amounts_by_meter(rated, self.config)
        if sum(amounts.values()) != known.billed_micros:
            amounts = laid_as_billed(rated, known, self.billed_by_meter(key_of(trace)), self.config)
        worth = sum(amounts.values())
        if worth == known.billed_micros and trace.generation != known.generation:
            return self._same_money(trace, known, rated)
        if worth == known.billed_micros or (worth < known.billed_micros and not self._may_shrink(trace, known)):
            return self._unchanged_money(trace, known)
        return self._adjust(trace, known, rated, amounts)

    def _rate_as_billed(self, trace: Trace, known: Known) -> Rated | Unrated | None:
        """Rate changed usage by the card and the ownership it was billed by: settings never change history.

        None if nothing that rating reads has changed.
        """
        unit = trace.units[0]
        same_usage = unit.cost_usd == known.cost_usd and unit.duration_s == known.duration_s and not trace.unpriced
        # Tokens are not kept of a trace that was read as a whole, so whether they changed must be rated.
        same_usage = same_usage and not unit.tokens
        if trace.generation == "traces" and same_usage and attributes_text(trace) == known.attributes:
            return None
        return self.rate_again(trace, known)

    def _not_rated_again(self, trace: Trace, known: Known, unrated: Unrated) -> Decision:
        """What was billed stays. That a part of it cannot be billed now is said by every run that reads it."""
        held = unrated.reason in (Reason.UNPRICED, Reason.UNRATED) and not unrated.lacks_tokens
        unchanged = self._unchanged_money(trace, known)
        return replace(unchanged, result=unrated.reason) if held else unchanged

    def rate_again(self, trace: Trace, known: Known) -> Rated | Unrated:
        """Rate a trace by the card and at the time it was billed by."""
        at_billing = replace(trace, timestamp_us=known.timestamp_us)
        ownership = ownership_as_billed(known.components, self.config.default_ai_ownership)
        return rate(at_billing, self._card(known), default_ownership=ownership)

    def _card(self, known: Known) -> RateCard:
        digest = known.card_digest or self.config.rate_card.digest
        if digest == self.config.rate_card.digest:
            return self.config.rate_card
        if digest not in self._cards:
            self._cards[digest] = stored_card(digest, self.card_texts[digest])
        return self._cards[digest]

    def _may_shrink(self, trace: Trace, known: Known) -> bool:
        """Whether a lower reading may lower the bill (docs/adr/0005).

        Observations: yes, what was read before is still counted, so only a newer version of one can be cheaper.
        The trace list: only a wide reading of the same row. Never a reading through the other generation.
        """
        key = key_of(trace)
        if trace.generation != known.generation:
            return False
        if trace.generation == "observations":
            return True
        if trace.timestamp_us != known.timestamp_us:
            return False
        if key not in self.confirmed:
            self.shrunk[key] = trace
        return key in self.confirmed

    def _adjust(self, trace: Trace, known: Known, rated: Rated, amounts: Mapping[str, int]) -> Decision:
        billed = self.billed_by_meter(key_of(trace))
        meters = {**dict.fromkeys(billed, 0), **amounts}
        deltas = {meter: amount - billed.get(meter, 0) for meter, amount in meters.items()}
        changed = {meter: delta for meter, delta in deltas.items() if delta}
        customer = known.customer or Customer("", "")
        entries = self._entries(trace, known.timestamp_us, customer.customer_id, rated, changed, "adjustment")
        if known.waived_micros:
            waived = ended_waivers(changed, self.waived_by_meter(key_of(trace)))
            entries += self._entries(trace, known.timestamp_us, customer.customer_id, rated, waived, "waiver")
        return Decision(
            replace(trace, timestamp_us=known.timestamp_us),
            PROCESSED,
            Outcome.BILLED,
            MarkState.WAITING,
            customer=customer,
            rated=rated,
            worth_micros=sum(amounts.values()),
            billed_micros=sum(amounts.values()),
            components=components_text(rated),
            entries=entries,
            adjusted=True,
        )

    def _entries(
        self,
        trace: Trace,
        at_us: int,
        customer_id: str,
        rated: Rated,
        amounts: Mapping[str, int],
        kind: str,
    ) -> tuple[NewEntry, ...]:
        components = components_text(rated)
        start_us, end_us = bucket_of(at_us, self.config.meter_bucket)
        bucket_key = f"{trace.project_id}/{trace.trace_id}" if self.config.meter_bucket == "trace" else ""
        return tuple(
            NewEntry(
                meter, kind, amount, customer_id, at_us, start_us, end_us, bucket_key, rated.card_digest, components
            )
            for meter, amount in amounts.items()
        )

    def _unchanged_money(self, trace: Trace, known: Known) -> Decision:
        """Nothing to bill. A mark that should be there and is not, is owed again."""
        waiting = known.mark_state == MarkState.WAITING
        lost = self._mark_is_lost(trace, known)
        return Decision(
            trace,
            PROCESSED if waiting else Reason.ALREADY_PROCESSED,
            Outcome.BILLED,
            MarkState.OWED if lost else MarkState(known.mark_state),
            untagged=lost and not trace.tags,
            healed=lost,
        )

    def _same_money(self, trace: Trace, known: Known, rated: Rated) -> Decision:
        """The same usage through the other generation: nothing to bill; from now on it is known through this one."""
        return replace(
            self._unchanged_money(trace, known),
            customer=known.customer,
            rated=rated,
            worth_micros=known.billed_micros,
            billed_micros=known.billed_micros,
            components=components_text(rated),
        )

    def _mark_is_lost(self, trace: Trace, known: Known) -> bool:
        if known.mark_state != MarkState.WRITTEN or self._is_marked_by_score(trace):
            return False
        seen = "tag" in trace.marked and "metadata" in trace.marked
        return not seen and self.now_us - (known.mark_written_at_us or 0) > MARK_VISIBLE_AFTER_US

    def _is_marked_by_score(self, trace: Trace) -> bool:
        return self.marks_by_score or trace.bookmarked or "score" in trace.marked

    def _marked_elsewhere(self, trace: Trace, known: Known | None) -> Decision:
        """Marked, but not billed by this ledger: it is processed. Half a mark is completed."""
        half = trace.marked in ("tag", "metadata") and not self._is_marked_by_score(trace)
        again = known is not None and known.reason == Reason.ALREADY_PROCESSED
        recent = known is not None and self.now_us - (known.mark_written_at_us or 0) <= MARK_VISIBLE_AFTER_US
        owed = half and not (again and recent)
        state = MarkState.OWED if owed else MarkState.NONE
        detail = f"marked as processed by {trace.marked.replace(',', ' and ')}, and not billed by this ledger"
        return replace(
            _ended(trace, known, Reason.ALREADY_PROCESSED, detail),
            mark_state=state,
            healed=owed,
            untagged=owed and not trace.tags,
            adopted=known is None,
        )


def customer_of(trace: Trace, config: Config) -> Customer | NoCustomer:
    """Whom a trace is billed to. What nobody says is taken from the default only when the root had its say."""
    customer = resolve(trace, config.customers)
    if not trace.root_seen and isinstance(customer, Customer) and customer.found_by == "default":
        return NoCustomer("its root observation, which may name the customer, has not arrived")
    return customer


def ended_waivers(deltas: Mapping[str, int], waived: Mapping[str, int]) -> dict[str, int]:
    """By meter, how much of a waiver ends when usage comes to less: nobody is given what was never paid."""
    ended = {meter: min(waived.get(meter, 0), -delta) for meter, delta in deltas.items()}
    return {meter: micros for meter, micros in ended.items() if micros > 0}


def amounts_by_meter(rated: Rated, config: Config) -> dict[str, int]:
    """Micro-credits for each meter: components added exactly, rounded once per meter. Never empty."""
    if not config.meters:
        return {config.meter_event_name: round_to_micros(rated.credits)}
    return _by_meter([(component.name, component.credits) for component in rated.components], config)


def _by_meter(credits: Sequence[tuple[str, Decimal]], config: Config) -> dict[str, int]:
    """Micro-credits for each meter, of components by name and exact credits."""
    exact: dict[str, Decimal] = {}
    for component, amount in credits:
        meter = config.meter_for(component)
        exact[meter] = EXACT.add(exact.get(meter, Decimal(0)), amount)
    return {meter: round_to_micros(amount) for meter, amount in exact.items()} or {config.meter_event_name: 0}


def laid_as_billed(rated: Rated, known: Known, billed: Mapping[str, int], config: Config) -> dict[str, int]:
    """By meter, what a billed trace comes to now. Meters that were set since it was billed move nothing of it.

    `billed` is its sum on each meter. If today's settings would have laid that otherwise, all of the difference goes
    to the meter that has most of it.
    """
    parts = msgspec.json.decode(known.components).get("parts", [])
    before = [(part["name"], Decimal(part["credits"])) for part in parts]
    laid = _by_meter(before, config)
    rounding = len(laid) + len(billed)
    if _without_zeros(laid) == _without_zeros(billed) or abs(sum(laid.values()) - sum(billed.values())) > rounding:
        return amounts_by_meter(rated, config)
    before_micros = round_to_micros(reduce(EXACT.add, (credits for _, credits in before), Decimal(0)))
    delta = round_to_micros(rated.credits) - before_micros
    largest = max(billed, key=lambda meter: (billed[meter], meter))
    return {**billed, largest: billed[largest] + delta}


def _without_zeros(amounts: Mapping[str, int]) -> dict[str, int]:
    return {meter: micros for meter, micros in amounts.items() if micros}


def components_text(rated: Rated) -> str:
    """The formula and exact amounts of a rating as JSON text, as the ledger keeps them."""
    # Written out, since it is done for every trace: no name, number or formula holds a character to escape.
    parts = [
        f'{{"name":"{c.name}","credits":"{_text(c.credits)}","cost_usd":"{_text(c.cost_usd)}","formula":"{c.formula}"}}'
        for c in rated.components
    ]
    return f'{{"margin":"{rated.margin}","parts":[{",".join(parts)}]}}'


def ownership_as_billed(components: str, default: str) -> str:
    """Whose AI credentials a stored rating (`components_text`) says were used; the default if it has no AI usage."""
    if OWN_KEYS in components:
        return USER
    return PLATFORM if f'"name":"{AI}"' in components else default


def _text(amount: Decimal) -> str:
    """An exact amount as text; a quotient without end (a duration in minutes) is cut to 28 digits for people."""
    text = str(amount)
    return text if len(text) <= _SHOWN.prec and "E" not in text else format(_SHOWN.plus(amount), "f")


def _ended(
    trace: Trace,
    known: Known | None,
    reason: Reason,
    detail: str,
    rated: Rated | None = None,
    worth_micros: int = 0,
) -> Decision:
    """A trace that is skipped or held, for one reason."""
    held = reason in (Reason.NO_CUSTOMER, Reason.TOO_OLD, Reason.UNRATED, Reason.UNPRICED)
    return Decision(
        trace,
        reason,
        Outcome.HELD if held else Outcome.SKIPPED,
        MarkState.NONE,
        reason=reason,
        detail=detail,
        rated=rated,
        worth_micros=worth_micros,
        components=components_text(rated) if rated else "{}",
    )
