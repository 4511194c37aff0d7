"""Rate cards: GET /rates, GET /rates/{digest}, POST /rates/simulate, which writes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.params import FromPath, JSONBody

from ...core.clock import DAY_US
from ...errors import ConfigError
from ...flows import rates
from ...flows.progress import quiet
from ...flows.ranges import check_range, moment_named
from ...flows.rules import with_rules
from ...flows.simulate import KEYS, simulate
from ...rating.cards import parse_card
from ..service import Service, TheService
from .common import reads, writes

DAYS = 30


class TokenRate(msgspec.Struct):
    """`credits` for every `per` tokens of models whose name matches `model`."""

    model: str
    per: int
    credits: str


class Rule(msgspec.Struct):
    """How usage becomes credits `from` a moment on ("beginning" for all time), up to `to`; null: until another rule."""

    from_: str = msgspec.field(name="from")
    to: str | None
    credit_price_usd: str
    margin: str
    ai: str
    compute_usd_per_minute: str
    storage_credits_per_gb_month: str
    tokens: list[TokenRate]


class Card(msgspec.Struct):
    """A rate card: dated rules. Two cards have the same digest if they say the same."""

    name: str
    digest: str
    rules: list[Rule]


class Remark(msgspec.Struct):
    """One thing that was checked: its `status` is ok or warning."""

    check: str
    status: str
    detail: str


class UsedCard(msgspec.Struct):
    """A card that the ledger used: what it billed, and from when on the card in force says something else of that."""

    digest: str
    name: str
    traces: int
    first: str | None
    last: str | None
    differs_from: str | None


class Rates(msgspec.Struct):
    """The card in force, what is to be looked at in it, and in `items` every card that the ledger used."""

    name: str
    digest: str
    rules: list[Rule]
    findings: list[Remark]
    items: list[UsedCard]
    next: str | None = None


class ToSimulate(msgspec.Struct):
    """A rate card as TOML text, and the range (30 days unless named) whose usage it is tried on, by customer or day."""

    card: str
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    by: str = "customer"


class NamedCard(msgspec.Struct):
    """A card by its name and digest."""

    name: str
    digest: str


class SimulatedRow(msgspec.Struct):
    """What traces were billed, and would have been; below zero in a difference is less. Null percent: nothing before.

    `traces` = rated + unrated + unpriced + not_simulated + held, which say how they end by the card.
    """

    key: str
    traces: int
    billed_credits: str
    simulated_credits: str
    difference_credits: str
    difference_percent: str | None
    billed_usd: str
    simulated_usd: str
    difference_usd: str
    rated: int
    unrated: int
    unpriced: int
    not_simulated: int
    held: int
    not_simulated_credits: str


class Why(msgspec.Struct):
    """Why traces would not be rated, or could not be simulated."""

    end: str
    detail: str
    traces: int


class Simulation(msgspec.Struct):
    """What a card would have billed, against what was billed: by customer or day, and in total."""

    card: NamedCard
    from_: str = msgspec.field(name="from")
    to: str
    by: str
    rows: list[SimulatedRow]
    total: SimulatedRow
    why: list[Why]


def rates_of(service: Service) -> Rates:
    """The card in force, checked against the ledger."""
    with service.reading() as ledger:
        checked = rates.check(service.config.rate_card, ledger, service.clock.now_us())
    return msgspec.convert({**checked, "items": checked["history"]}, Rates)


def card_of(service: Service, digest: str) -> Card:
    """A card that the ledger used, or the one in force. Raises NotFound."""
    if digest == service.config.rate_card.digest:
        return msgspec.convert(rates.describe(service.config.rate_card), Card)
    with service.reading() as ledger:
        return msgspec.convert(rates.describe(rates.used_card(ledger, digest)), Card)


def simulation_of(service: Service, wanted: ToSimulate) -> Simulation:
    """What a card would have billed. Raises ConfigError for what is no card, or no range."""
    if wanted.by not in KEYS:
        raise ConfigError(f"by={wanted.by!r:.60} is nothing to add up by; name customer or day.")
    card = parse_card(wanted.card)
    from_us, to_us = moment_named(wanted.from_), moment_named(wanted.to)
    until_us = to_us if to_us is not None else service.clock.now_us()
    since_us = from_us if from_us is not None else until_us - DAYS * DAY_US
    check_range(since_us, until_us)
    with service.reading() as ledger:
        config = with_rules(service.config, ledger)
        found: dict[str, Any] = simulate(config, card, ledger, since_us, until_us, wanted.by, quiet)
    return msgspec.convert(found, Simulation)


@reads("/rates", tags=["rates"])
def get_rates(service: TheService) -> Rates:
    """The rate card in force with its rules and what is to be looked at, and every card that billed something."""
    return rates_of(service)


@reads("/rates/{digest:str}", tags=["rates"])
def get_rate_card(service: TheService, digest: FromPath[str]) -> Card:
    """A rate card by its digest: the one in force, or one that the ledger used."""
    return card_of(service, digest)


@writes("/rates/simulate", tags=["rates"])
def simulate_rates(service: TheService, data: JSONBody[ToSimulate]) -> Simulation:
    """What a rate card would have billed, against what was billed. It writes nothing."""
    return simulation_of(service, data)


HANDLERS = [get_rates, get_rate_card, simulate_rates]
