"""Alerts: what people are told without having asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """What is looked for, in the order in which it is told."""

    LAG = "lag"
    FAILURES = "failures"
    DRIFT = "drift"
    IN_DOUBT = "in_doubt"
    LEAKAGE = "leakage"
    HELD = "held"
    USAGE_STOPPED = "usage_stopped"
    NEGATIVE_MARGIN = "negative_margin"
    SPEND = "spend"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule finds now. `subject` is a job, a reason or a customer; "" for the whole ledger.

    `text` is a sentence for people; `value` and `limit` are exact numbers as text, in `unit`.
    """

    rule: Rule
    subject: str
    text: str
    value: str
    limit: str
    unit: str
