"""Rates: what a rate card says, and what should be known before it is used. Reads only the card and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..core.clock import DAY_US, format_time
from ..errors import NotFound
from ..ledger import Ledger
from ..rating.card_check import OK, WARNING, Remark, first_difference_us, moment_text, remarks, spans
from ..rating.cards import RateCard, rule_items, token_items
from ..rating.rules import AiBasis, Rule
from .cards import stored_card, stored_cards

MODELS_DAYS = 30
MODELS_SHOWN_MAX = 10


def check(card: RateCard, ledger: Ledger | None, now_us: int) -> dict[str, Any]:
    """What the card says, what looks wrong in it, and what it does to history. Without a ledger there is none."""
    findings = remarks(card, now_us)
    history: list[dict[str, Any]] = []
    if ledger is not None:
        history = list(_history(card, ledger))
        findings += [*_models(card, ledger, now_us), *_history_remarks(card, history)]
    return {**describe(card), "findings": [asdict(finding) for finding in findings], "history": history}


def status_of(checked: Mapping[str, Any]) -> int:
    """The exit status of a check: 1 if anything is to be looked at."""
    return int(any(finding["status"] == WARNING for finding in checked["findings"]))


def used_card(ledger: Ledger, digest: str) -> RateCard:
    """A card that the ledger used. Raises NotFound, naming those that it did."""
    texts = ledger.rate_cards()
    if digest not in texts:
        raise NotFound(f"the ledger used no rate card {digest!r}; it used {', '.join(texts) or 'none yet'}.")
    return stored_card(digest, texts[digest])


def describe(card: RateCard, at_us: int | None = None) -> dict[str, Any]:
    """Name, digest and rules of a card, numbers as text; with a moment, only the rule that holds then."""
    rules = [_rule(rule, to_us) for rule, to_us in spans(card) if at_us is None or rule is card.rule_at(at_us)]
    return {"name": card.name, "digest": card.digest, "rules": rules}


def _rule(rule: Rule, to_us: int | None) -> dict[str, Any]:
    tokens = [{"model": model, "per": int(per), "credits": credits} for model, per, credits in token_items(rule)]
    ends = {"from": moment_text(rule.from_us), "to": moment_text(to_us) if to_us is not None else None}
    return {**dict(rule_items(rule)), **ends, "tokens": tokens}


# ---- what the ledger knows


def _history(card: RateCard, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Each card that the ledger used: what it billed, and from when on this card says something else of that."""
    used = {row["card_digest"]: row for row in ledger.query("card_use")}
    for digest, other in stored_cards(ledger).items():
        yield {"digest": digest, "name": other.name, **_use(card, other, used.get(digest))}


def _use(card: RateCard, other: RateCard, row: Any) -> dict[str, Any]:
    if row is None:
        return {"traces": 0, "first": None, "last": None, "differs_from": None}
    differs_us = first_difference_us(card, other, row["first_us"], row["last_us"])
    return {
        "traces": row["traces"],
        "first": format_time(row["first_us"]),
        "last": format_time(row["last_us"]),
        "differs_from": format_time(differs_us) if differs_us is not None else None,
    }


def _history_remarks(card: RateCard, history: Sequence[Mapping[str, Any]]) -> Iterator[Remark]:
    """A card that the ledger used already is no news: what it changed was said when it came."""
    status = OK if any(used["digest"] == card.digest for used in history) else WARNING
    for used in (used for used in history if used["traces"]):
        billed = f"{used['digest']} ({used['name']}) billed {used['traces']:,} traces from {used['first']}"
        if used["differs_from"] is None:
            yield Remark("history", OK, f"{billed}, and this card says the same of all of them")
        else:
            yield Remark(
                "history",
                status,
                f"{billed}, and this card says something else from {used['differs_from']} on: usage already billed"
                f" keeps its card {used['digest']}; only usage read from now on is rated by this one",
            )


def _models(card: RateCard, ledger: Ledger, now_us: int) -> Iterator[Remark]:
    """Models of the last days that a rule which rates by tokens, and holds today or later, has no rate for."""
    rules = [rule for rule, to_us in spans(card) if rule.ai is AiBasis.TOKENS and (to_us is None or to_us > now_us)]
    if not rules:
        return
    since_us = now_us - MODELS_DAYS * DAY_US
    models = {row["model"]: row["observations"] for row in ledger.query("models_used", since_us=since_us)}
    for rule in rules:
        yield _model_remark(rule, models)
    for row in ledger.query("traces_read_whole", since_us=since_us):
        if row["traces"]:
            yield Remark("tokens", WARNING, _whole_text(row["traces"]))


def _model_remark(rule: Rule, models: Mapping[str | None, int]) -> Remark:
    missing = {model or "(no model)": uses for model, uses in models.items() if rule.token_rate(model) is None}
    where = f"the rule from {moment_text(rule.from_us)}"
    if not missing:
        return Remark("models", OK, f"{where} has a token rate for every model of the last {MODELS_DAYS} days")
    shown = ", ".join(f"{model} ({missing[model]:,})" for model in list(missing)[:MODELS_SHOWN_MAX])
    more = f" and {len(missing) - MODELS_SHOWN_MAX} more" if len(missing) > MODELS_SHOWN_MAX else ""
    return Remark(
        "models",
        WARNING,
        f"{where} has no token rate for {shown}{more}, by observations of the last {MODELS_DAYS} days;"
        " their traces would be held as unrated",
    )


def _whole_text(traces: int) -> str:
    return (
        f"{traces:,} traces of the last {MODELS_DAYS} days were read through Langfuse's trace list, which does not tell"
        " tokens: such traces with AI usage on platform credentials would be held as unrated"
    )
