"""JSON values as Langfuse keeps and shows them: JavaScript numbers, text parsed on reading, deep merges."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from tallymark.core.clock import MINUTE_US, SECOND_US, to_datetime

_SAFE_INTEGER_MAX = 2**53
# Above this JavaScript writes a number with an exponent, which is what Python does with a float.
_PLAIN_NUMBER_MAX = 1e21
_JSON_STARTS = frozenset('{["-0123456789tfn \t\r\n')

encode = msgspec.json.encode


def as_javascript(value: Any) -> Any:
    """The same JSON value with its numbers as JavaScript would write them: 1 for 1.0, large integers rounded."""
    if isinstance(value, dict):
        return {key: as_javascript(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_javascript(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return value


def number(value: int | float) -> int | float:
    """A number as JavaScript writes it (facts/langfuse-observed.md item 7: 12345678901234567890 loses its end)."""
    if isinstance(value, int) and abs(value) <= _SAFE_INTEGER_MAX:
        return value
    double = float(value)
    if not double.is_integer() or abs(double) >= _PLAIN_NUMBER_MAX:
        return double
    return int(double) if abs(double) <= _SAFE_INTEGER_MAX else _shortest_digits(double)


def _shortest_digits(double: float) -> int:
    digits, _, exponent = f"{double!r}".partition("e+")
    whole, _, fraction = digits.partition(".")
    return int((whole + fraction).ljust(len(whole) + int(exponent or 0), "0")) if exponent else int(whole)


def parse_text(text: str) -> Any:
    """What reading gives for a stored text: its value if it is JSON, else itself (observed item 7)."""
    if not text or text[0] not in _JSON_STARTS:
        return text
    try:
        return as_javascript(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return text


def read_value(value: Any) -> Any:
    """What reading gives for a metadata value, which the server stores as text and parses."""
    return parse_text(value) if isinstance(value, str) else as_javascript(value)


def stored_text(value: Any) -> str:
    """The text the server stores for a metadata value: what a `stringObject` filter compares with."""
    return value if isinstance(value, str) else encode(as_javascript(value)).decode()


def stored_json(value: Any) -> bytes:
    """Input or output as it will be read, encoded."""
    return encode(read_value(value))


def as_metadata(value: Any) -> dict[str, Any]:
    """Metadata as an object: anything else comes back under the key "metadata" (facts/langfuse-observed.md item 7)."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"metadata": value}


def merged(below: Any, above: Any) -> Any:
    """Merge deeply: objects by key, arrays by index, everything else replaced (facts/langfuse-observed.md item 7)."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: merged(below[key], item) if key in below else item for key, item in above.items()}}
    if isinstance(below, list) and isinstance(above, list):
        return [merged(old, new) for old, new in zip(below, above, strict=False)] + longer_rest(below, above)
    return above


def longer_rest(below: list[Any], above: list[Any]) -> list[Any]:
    """What the longer of two lists has beyond the shorter."""
    return below[len(above) :] or above[len(below) :]


def read_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as an answer shows it."""
    return {key: read_value(value) for key, value in metadata.items()}


@lru_cache(maxsize=16_384)
def time_text(moment_us: int) -> str:
    """A moment as `core.clock.format_time` writes it, in a fraction of the time: a page has thousands."""
    minute, in_minute_us = divmod(moment_us, MINUTE_US)
    return f"{_minute_text(minute)}{in_minute_us // SECOND_US:02d}.{in_minute_us // 1000 % 1000:03d}Z"


@lru_cache(maxsize=16_384)
def _minute_text(minute: int) -> str:
    return to_datetime(minute * MINUTE_US).strftime("%Y-%m-%dT%H:%M:")
