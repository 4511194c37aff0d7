"""Lists in pages: where the next page begins is said in a cursor, which is opaque to who asks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import ConfigError

R = TypeVar("R")
T = TypeVar("T")
ROWS_DEFAULT, ROWS_MAX = 100, 1000
NO_CURSOR = "that is no cursor of this list; begin without one."


class Listing(msgspec.Struct, Generic[T]):
    """A page of a list. `next` is the cursor of the next page; null on the last one."""

    items: list[T]
    next: str | None


def listing(
    rows: Sequence[R], limit: int, item: Callable[[R], T], place: Callable[[R], tuple[str | int, ...]]
) -> Listing[T]:
    """A page of rows, of which one more than `limit` was asked for: `item` makes one of a row, `place` is where it
    stands in the order of the list."""
    shown = rows[:limit]
    more = write_cursor(*place(shown[-1])) if len(rows) > limit else None
    return Listing([item(row) for row in shown], more)


def every(read: Callable[[str | None], Listing[T]]) -> Iterator[T]:
    """Every item of a list, read page by page: `read` is given each page's cursor."""
    found = read(None)
    yield from found.items
    while found.next:
        found = read(found.next)
        yield from found.items


def write_cursor(*place: str | int) -> str:
    """A cursor for the place after a row: the values by which the list is ordered."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The values of a cursor. Raises ConfigError for one that `write_cursor` did not make of such kinds."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True))
        found: tuple[Any, ...] = msgspec.convert(place, tuple[kinds])  # type: ignore[valid-type]
    except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
        raise ConfigError(NO_CURSOR) from error
    if any("\0" in value if isinstance(value, str) else abs(value) >= 2**63 for value in found):
        raise ConfigError(NO_CURSOR)
    return found
