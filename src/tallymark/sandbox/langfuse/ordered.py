"""Records in the order of a key, so that a window and a page of them are found by bisection."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Up to so many new records are inserted one by one; more are sorted in together.
_INSERTED_SINGLY_MAX = 64


class Ordered(Generic[T]):
    """Records, lowest key first; equal keys in the order they came. A record's key must not change while it is here."""

    def __init__(self, key: Callable[[T], Any]) -> None:
        self._key = key
        self._records: list[T] = []
        self._fresh: list[T] = []

    def add(self, record: T) -> None:
        """Take in a new record."""
        self._fresh.append(record)

    def remove(self, record: T) -> None:
        """Drop a record. Raises StopIteration if it is not here."""
        records = self.records()
        start = bisect_left(records, self._key(record), key=self._key)
        records.pop(next(index for index in range(start, len(records)) if records[index] is record))

    def position(self, key: Any) -> int:
        """The position of the first record whose key is not below `key`."""
        return bisect_left(self.records(), key, key=self._key)

    def records(self) -> list[T]:
        """All records in order: not a copy, not to be changed."""
        fresh, self._fresh = self._fresh, []
        if len(fresh) > _INSERTED_SINGLY_MAX:
            self._records.extend(fresh)
            self._records.sort(key=self._key)
        else:
            for record in fresh:
                insort(self._records, record, key=self._key)
        return self._records
