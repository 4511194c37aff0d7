"""Rows a batch at a time (itertools has this from Python 3.12 on)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows; the last one may be shorter, and none is empty."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch
