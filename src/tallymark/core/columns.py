"""Columns of tables that leave tallymark, and what their values are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the values of a column are; each may also be None.

    CREDITS: micro-credits, which leave as credits with six decimals. TIME: microseconds since 1970, UTC. AMOUNT: exact
    text of a number with twelve decimals at most.
    """

    TEXT = "text"
    INTEGER = "integer"
    CREDITS = "credits"
    TIME = "time"
    AMOUNT = "amount"


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name, and what its values are."""

    name: str
    kind: Kind
