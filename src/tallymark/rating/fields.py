"""Values read out of TOML tables, refused with words that say what to do. Shared by rate cards and settings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tallymark.errors import ConfigError

# Twelve digits before and after the point: the product of two such amounts is still exact in `credits.EXACT`.
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def parse_amount(text: str) -> Decimal:
    """Read a plain number from 0, of at most 12 digits before and 12 after the point.

    Raises ValueError for anything else: signs, exponents, NaN.
    """
    if not _AMOUNT.fullmatch(text.strip()):
        raise ValueError("must be a plain number from 0 such as 0.05, of at most 12 digits before and after the point")
    return Decimal(text.strip())


def amount_of(value: object) -> Decimal:
    """Read an amount from a TOML value: text or an integer. Raises ValueError for anything else."""
    if isinstance(value, float):
        raise ValueError('must be in quotes, such as "0.05": TOML floats are binary and not exact')
    if type(value) not in (int, str):
        raise ValueError('must be a number in quotes, such as "0.05", or an integer')
    return parse_amount(str(value))


def text_of(value: object) -> str:
    """Read text from a TOML value: not blank, printable, without blanks around it. Raises ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return parse_text(value)


def parse_text(text: str) -> str:
    """Read text that is not blank, printable and at most 500 characters. Raises ValueError otherwise."""
    stripped = text.strip()
    if not stripped or not stripped.isprintable() or len(stripped) > 500:
        raise ValueError("must be 1 to 500 printable characters")
    return stripped


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises ConfigError that says where the text is wrong."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"this is not TOML: {problem}; mend it there") from None


def table_of(value: object, where: str) -> dict[str, Any]:
    """The value as a TOML table. Raises ConfigError if it is none."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table; write it as {where} on a line of its own, with keys below")
    return value


def refuse_unknown(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for the first name that is not known, with the nearest one that is."""
    known = sorted(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{where} does not know {name!r}; {_suggestion(name, known)}")


def _suggestion(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only when something is wrong: importing it takes time

    nearest = get_close_matches(name, known, 1, 0.5) or get_close_matches(name.lower(), known, 1, 0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(known)}"
