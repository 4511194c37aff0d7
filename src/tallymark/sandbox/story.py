"""The demo's traces: a seeded mix of everything a billing run meets, with what each should come to.

The expected credits are computed here on their own, in fractions, from the story's numbers and the default prices; the
rating code has no part in it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from ..core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time, parse_time

CREDIT_PRICE_USD = Fraction("0.00004")
COMPUTE_USD_PER_SECOND = Fraction("0.05") / 60
CUSTOMERS = 24
SPREAD_US = 3 * DAY_US
PROMPT = "The customer's secret prompt, which must never leave Langfuse. "

# How many of every 1,000 traces are of each kind; "plain" is a pending trace with usage, and the rest.
KINDS = {
    "untagged": 100,
    "processed by tag": 40,
    "processed by metadata": 40,
    "processed by both": 40,
    "without usage": 40,
    "user-owned keys": 60,
    "future": 10,
    "too old": 20,
    "no customer": 30,
    "unpriced": 2,
    "bookmarked": 10,
    "public": 20,
    "plain": 588,
}
RESULTS = {
    "processed by tag": "already_processed",
    "processed by metadata": "already_processed",
    "processed by both": "already_processed",
    "without usage": "no_billable_usage",
    "future": "future_timestamp",
    "too old": "too_old",
    "no customer": "no_customer",
    "unpriced": "unpriced",
}


@dataclass(slots=True)
class Expected:
    """What a correct run makes of the story: traces by result, and micro-credits by customer."""

    results: Counter[str] = field(default_factory=Counter)
    micros: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class StoryTrace:
    """One trace of the story in the shape of Langfuse's ingestion bodies, and what it should come to."""

    kind: str
    trace: dict[str, Any]
    observations: list[dict[str, Any]]
    customer: str

    @property
    def micros(self) -> int:
        """Its worth in micro-credits by the default prices; computed when asked, for filling a sandbox does not."""
        return _micros(self.kind, self.observations)

    @property
    def bookmarked(self) -> bool:
        """Whether a person bookmarked it."""
        return self.kind == "bookmarked"


def tell(traces: int, now_us: int, seed: int = 7, observations_per_trace: int | None = None) -> Iterator[StoryTrace]:
    """Yield the traces of a story, in no order of time.

    A trace with usage has one to three observations, or `observations_per_trace`.
    """
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
    for number in range(traces):
        kind = kinds[(number * 7919) % len(kinds)]
        yield _trace_of(kind, number, now_us, chance, observations_per_trace)


def expect(story: Iterator[StoryTrace]) -> Expected:
    """What the story should come to."""
    expected = Expected()
    for told in story:
        expected.kinds[told.kind] += 1
        result = RESULTS.get(told.kind, "processed")
        expected.results[result] += 1
        if result == "processed":
            expected.micros[told.customer] += told.micros
    return expected


def _trace_of(
    kind: str, number: int, now_us: int, chance: random.Random, observations_per_trace: int | None
) -> StoryTrace:
    start_us = _time_of(kind, now_us, chance)
    customer = f"cus_{int(CUSTOMERS * chance.random() ** 2) + 1:03d}"
    observations = []
    if kind != "without usage":
        parts = observations_per_trace or chance.randrange(1, 4)
        observations = _observations(kind, number, start_us, chance, parts)
    trace = {
        "id": f"trace-{number:06d}",
        "timestamp": format_time(start_us),
        "name": chance.choice(["chat", "agent", "summary"]),
        "userId": f"user-{chance.randrange(500)}",
        "sessionId": f"session-{chance.randrange(5000)}",
        "environment": "production",
        "public": kind == "public",
        "tags": _tags_of(kind),
        "metadata": _metadata_of(kind, customer),
        "input": {"messages": [{"role": "user", "content": _text(_tokens(observations[:1], "input"))}]},
        "output": _text(_tokens(observations[-1:], "output")),
    }
    return StoryTrace(kind, trace, observations, customer)


def _tokens(observations: list[dict[str, Any]], kind: str) -> int:
    return sum(observation["usageDetails"][kind] for observation in observations)


@cache
def _text(tokens: int) -> str:
    """A text of about so many tokens, four characters each; many traces share one, so that a story stays small."""
    return PROMPT * max(1, 4 * tokens // len(PROMPT))


def _time_of(kind: str, now_us: int, chance: random.Random) -> int:
    if kind == "future":
        moment = now_us + HOUR_US + chance.randrange(DAY_US)
    elif kind == "too old":
        moment = now_us - 36 * DAY_US - chance.randrange(2 * DAY_US)
    else:
        moment = now_us - 30 * MINUTE_US - chance.randrange(SPREAD_US)
    return moment - moment % 1000


def _tags_of(kind: str) -> list[str]:
    if kind in ("untagged", "processed by metadata"):
        return ["team:a"]
    if kind in ("processed by tag", "processed by both"):
        return ["billing:pending", "billing:processed"]
    return ["billing:pending", "team:a"]


def _metadata_of(kind: str, customer: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"customerId": customer, "tier": "gold"}
    if kind == "no customer":
        del metadata["customerId"]
    if kind == "user-owned keys":
        metadata["aiCredentialsOwnership"] = "user"
    if kind in ("processed by metadata", "processed by both"):
        metadata["billing_status"] = "processed"
    return metadata


def _observations(kind: str, number: int, start_us: int, chance: random.Random, parts: int) -> list[dict[str, Any]]:
    """A chain of generations, each with tokens and, unless unpriced, a cost of six decimals."""
    observations = []
    at_us = start_us
    for part in range(parts):
        end_us = at_us + chance.randrange(200, 9000) * 1000
        observation = {
            "id": f"observation-{number:06d}-{part}",
            "type": "GENERATION",
            "name": "llm",
            "startTime": format_time(at_us),
            "endTime": format_time(end_us),
            "model": "house-model",
            "usageDetails": {"input": chance.randrange(50, 4000), "output": chance.randrange(10, 900)},
        }
        cost_micro_usd = chance.randrange(100, 60_000)
        if kind != "unpriced":
            observation["costDetails"] = {"total": cost_micro_usd / 1_000_000}
        observations.append(observation)
        at_us = end_us
    return observations


def _micros(kind: str, observations: list[dict[str, Any]]) -> int:
    """Credits by the default prices in fractions, rounded half to even once: cost of the AI, and time."""
    if not observations:
        return 0
    cost_usd = sum((Fraction(repr(o.get("costDetails", {}).get("total", 0))) for o in observations), Fraction(0))
    seconds = _seconds(observations[-1]["endTime"]) - _seconds(observations[0]["startTime"])
    usd = (Fraction(0) if kind == "user-owned keys" else cost_usd) + seconds * COMPUTE_USD_PER_SECOND
    return round(usd / CREDIT_PRICE_USD * 1_000_000)


def _seconds(time: str) -> Fraction:
    return Fraction(parse_time(time), SECOND_US)
