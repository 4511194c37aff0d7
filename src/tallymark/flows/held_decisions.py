"""Held decisions: carry out a person's word on held traces and waiting meter events. Each is a line of the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import machine
from ..clock import SystemClock
from ..config import Config, require_stripe
from ..core.batches import batched
from ..core.choices import DELETED, OF_TRACE, Choice
from ..core.clock import Clock
from ..core.credits import format_micros
from ..core.windows import bucket_of
from ..errors import ConfigError
from ..ledger import Ledger, open_ledger, rulings
from ..ledger.corrections import Place
from ..ledger.deletions import decide_deleted
from ..ledger.held import Word, decide_meter_events, meter_event_choices
from ..ledger.rows import RunRef
from ..ledger.rulings import CustomerRule, rule_traces
from ..meter.stripe_events import StripeMeter
from ..rating.cards import card_text
from .invoice_items import Draft, Prices, bill_by_invoice_item, draft
from .stations import open_meter
from .subjects import Subject, find_all

BATCH = 500
WHY_LENGTH_MAX = 1000
RULES = ("user", "organization", "session")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be decided. `items` are the invoice items, by meter event."""

    choice: Choice
    subjects: Sequence[Subject]
    items: Mapping[str, Draft] = field(default_factory=dict)

    @property
    def amount_micros(self) -> int:
        """What all of it is worth."""
        return sum(subject.amount_micros for subject in self.subjects)


Confirm = Callable[[Plan], bool]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What carrying out needs."""

    config: Config
    ledger: Ledger
    run: RunRef
    stripe: StripeMeter | None


def release(
    config: Config,
    ids: Sequence[str],
    choice: str,
    *,
    why: str,
    by: str,
    customer_id: str | None = None,
    reason: str | None = None,
    confirm: Confirm | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Let held traces and meter events go, by a choice of `core.choices.Choice`; `reason` instead of ids is all of it.

    What is released is billed by the next sync; an invoice item is made at once. Returns the decisions, none if
    `confirm` says no. Raises ConfigError for what is not open to the choice, NotFound, LedgerError; with an invoice
    item also RemoteError: then nothing is lost, and the same call goes on where it was.
    """
    word = _choice(choice)
    _check(word, ids, why, by, customer_id, reason)
    # Where there is no ledger none is made: nothing can be held in it.
    open_ledger(config.ledger_url, read_only=True).close()
    with _open(config, clock, needs_stripe=word is Choice.INVOICE_ITEM) as desk:
        subjects = find_all(desk.ledger, ids, reason)
        for subject in subjects:
            _check_open(desk, subject, word)
        plan = Plan(word, subjects, _drafts(desk, word, subjects))
        if confirm is not None and not confirm(plan):
            return _answer(plan, [])
        return _answer(plan, _carry_out(desk, plan, why, by, customer_id))


def waive(
    config: Config,
    ids: Sequence[str],
    *,
    why: str,
    by: str,
    reason: str | None = None,
    confirm: Confirm | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Bill held traces and meter events to nobody; of a billed trace that is deleted, give back what it was billed."""
    return release(config, ids, Choice.WAIVE, why=why, by=by, reason=reason, confirm=confirm, clock=clock)


def add_customer_rules(
    config: Config, rules: Sequence[tuple[str, str]], customer_id: str, *, why: str, by: str, clock: Clock | None = None
) -> dict[str, Any]:
    """Bill a customer for all traces of users, organizations or sessions, each ("user", id) and so on, from now on.

    Mappings of the settings come first. Traces that are held for want of a customer are billed by the next sync.
    """
    _check_words(why, by, customer_id, *(value for _, value in rules))
    wrong = [kind for kind, value in rules if kind not in RULES or not value.strip()]
    if wrong or not rules or not customer_id.strip():
        raise ConfigError("a rule needs a user, organization or session, and a customer; none of them blank.")
    with _open(config, clock) as desk:
        numbers = rulings.put_customer_rules(desk.ledger, desk.run, by, why, rules, customer_id)
        return {
            "decisions": [
                {"decision": number, "subject": f"{k} {v}"} for number, (k, v) in zip(numbers, rules, strict=True)
            ]
        }


def remove_customer_rule(
    config: Config, kind: str, value: str, *, why: str, by: str, clock: Clock | None = None
) -> dict[str, Any]:
    """Withdraw a rule. Raises ConfigError if there is none."""
    _check_words(why, by, value)
    with _open(config, clock) as desk:
        number = rulings.remove_customer_rule(desk.ledger, desk.run, by, why, kind, value)
        return {"decisions": [{"decision": number, "subject": f"{kind} {value}"}]}


def customer_rules(config: Config) -> list[CustomerRule]:
    """Every rule on whom to bill."""
    with contextlib.closing(open_ledger(config.ledger_url, read_only=True)) as ledger:
        return rulings.customer_rules(ledger)


# ---- checks


def _choice(choice: str) -> Choice:
    try:
        return Choice(choice)
    except ValueError:
        raise ConfigError(f"{choice!r} is no choice; one is any of {', '.join(Choice)}.") from None


def _check(choice: Choice, ids: Sequence[str], why: str, by: str, customer_id: str | None, reason: str | None) -> None:
    _check_words(why, by, customer_id or "")
    if bool(ids) == (reason is not None):
        raise ConfigError("name what is to be decided: some ids, or a whole reason (with --all); one of the two.")
    if choice is Choice.ASSIGN and not (customer_id or "").strip():
        raise ConfigError("whom to bill is not said; name a customer (--customer).")
    if customer_id is not None and choice not in (Choice.ASSIGN, Choice.BILL_NOW):
        raise ConfigError(f"a customer cannot be named together with --{choice}.")


def _check_words(why: str, by: str, *others: str) -> None:
    if not why.strip() or len(why) > WHY_LENGTH_MAX:
        raise ConfigError(f"say why, in at most {WHY_LENGTH_MAX} characters (--why): it is kept with the decision.")
    if not by.strip():
        raise ConfigError("say who decides (--by): it is kept with the decision.")
    # PostgreSQL keeps no NUL, and a decision is proved by the text that was said.
    if any("\0" in text for text in (why, by, *others)):
        raise ConfigError("what is kept with a decision cannot hold a NUL character.")


def _check_open(desk: _Desk, subject: Subject, choice: Choice) -> None:
    """Raise ConfigError unless the choice is open for this subject."""
    open_to = _open_to(desk, subject)
    if not open_to:
        raise ConfigError(f"{subject.identity} does not wait for a decision.{_hint(desk, subject)}")
    if choice not in open_to:
        words = ", ".join(open_to)
        raise ConfigError(
            f"{subject.identity} waits as {subject.reason}, where {choice} makes no sense; it is open to: {words}. "
            f"`tallymark held show {subject.identity}` says what each does."
        )


def _open_to(desk: _Desk, subject: Subject) -> Sequence[Choice]:
    if subject.kind == "trace":
        return OF_TRACE.get(subject.reason, ())
    event = next(iter(desk.ledger.query("meter_event", meter_event_id=subject.identity)))
    return meter_event_choices(desk.ledger, event, desk.run.now_us)


def _hint(desk: _Desk, subject: Subject) -> str:
    """A billed trace's money may wait in a meter event."""
    if subject.key is None:
        return ""
    project_id, trace_id = subject.key
    rows = desk.ledger.query("open_meter_events_of", project_id=project_id, trace_id=trace_id)
    names = " and ".join(row["meter_event_id"] for row in rows)
    return f" Its money waits in {names}: decide about that." if names else ""


# ---- carrying out


@contextlib.contextmanager
def _open(config: Config, clock: Clock | None, *, needs_stripe: bool = False) -> Iterator[_Desk]:
    if needs_stripe:
        require_stripe(config)
    clock = clock or SystemClock()
    with contextlib.closing(open_ledger(config.ledger_url)) as ledger:
        run = RunRef(machine.current().random_hex(32), clock.now_us(), config.decision_digest)
        stripe = open_meter(config, clock) if needs_stripe else None
        yield _Desk(config, ledger, run, stripe)


def _drafts(desk: _Desk, choice: Choice, subjects: Sequence[Subject]) -> dict[str, Draft]:
    if choice is not Choice.INVOICE_ITEM or desk.stripe is None:
        return {}
    prices = Prices(desk.stripe)
    return {subject.identity: draft(desk.ledger, prices, subject.identity) for subject in subjects}


def _carry_out(desk: _Desk, plan: Plan, why: str, by: str, customer_id: str | None) -> list[tuple[Subject, int]]:
    ledger, run, config = desk.ledger, desk.run, desk.config
    ledger.start_run(run.run_id, "held", run.now_us, config.rate_card.digest, card_text(config.rate_card))
    word = Word(plan.choice, by, why, _place(desk, plan.choice, customer_id))
    made = [one for kind in (_traces, _deleted, _meter_events) for one in kind(desk, plan, word)]
    ledger.finish_run(run.run_id, msgspec.json.encode(_answer(plan, made)), run.now_us)
    return made


def _place(desk: _Desk, choice: Choice, customer_id: str | None) -> Place:
    if choice is not Choice.BILL_NOW:
        return Place(customer_id=customer_id)
    now_us = desk.run.now_us
    return Place(now_us, *bucket_of(now_us, desk.config.meter_bucket), customer_id=customer_id)


def _traces(desk: _Desk, plan: Plan, word: Word) -> Iterator[tuple[Subject, int]]:
    held = [one for one in plan.subjects if one.kind == "trace" and one.reason != DELETED]
    for batch in batched(held, BATCH):
        yield from zip(batch, rule_traces(desk.ledger, desk.run, word, [_key(one) for one in batch]), strict=True)


def _deleted(desk: _Desk, plan: Plan, word: Word) -> Iterator[tuple[Subject, int]]:
    gone = [one for one in plan.subjects if one.reason == DELETED]
    for batch in batched(gone, BATCH):
        keys = [_key(one) for one in batch]
        yield from zip(batch, decide_deleted(desk.ledger, desk.run, word, keys, desk.config.meter_bucket), strict=True)


def _meter_events(desk: _Desk, plan: Plan, word: Word) -> Iterator[tuple[Subject, int]]:
    waiting = [one for one in plan.subjects if one.kind == "meter_event"]
    if desk.stripe is not None:
        for one in waiting:
            item = plan.items[one.identity]
            yield one, bill_by_invoice_item(desk.ledger, desk.stripe, desk.run, word, one.identity, item)
        return
    for batch in batched(waiting, BATCH):
        ids = [one.identity for one in batch]
        yield from zip(batch, decide_meter_events(desk.ledger, desk.run, word, ids), strict=True)


def _key(subject: Subject) -> tuple[str, str]:
    assert subject.key is not None
    return subject.key


def _answer(plan: Plan, made: Sequence[tuple[Subject, int]]) -> dict[str, Any]:
    return {
        "choice": str(plan.choice),
        "credits": format_micros(plan.amount_micros),
        "decisions": [
            {"decision": number, "subject": one.identity, "credits": format_micros(one.amount_micros)}
            for one, number in made
        ],
        "invoice_items": [
            {"meter_event": identity, "customer": item.customer, "amount": item.amount, "currency": item.currency}
            for identity, item in plan.items.items()
        ],
    }
