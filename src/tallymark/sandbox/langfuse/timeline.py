"""Traces in the order of their timestamps, so that a window and a page of it are found by bisection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from operator import attrgetter

from .ordered import Ordered
from .records import Trace


class Timeline:
    """All traces of a project, oldest first; equal timestamps in the order they came."""

    def __init__(self) -> None:
        self._traces: Ordered[Trace] = Ordered(attrgetter("timestamp_us"))

    def add(self, row: Trace) -> None:
        """Take in a new row."""
        self._traces.add(row)

    def remove(self, row: Trace) -> None:
        """Drop a row."""
        self._traces.remove(row)

    def window(self, from_us: int | None, to_us: int | None) -> tuple[int, int]:
        """Positions of the first row at or after `from_us` and of the first at or after `to_us`."""
        start = 0 if from_us is None else self._traces.position(from_us)
        end = len(self._traces.records()) if to_us is None else self._traces.position(to_us)
        return start, max(start, end)

    def rows(self, start: int, end: int) -> list[Trace]:
        """The rows of these positions, oldest first."""
        return self._traces.records()[start:end]


def with_ties_shuffled(rows: Sequence[Trace], start: int, end: int, seed: str) -> list[Trace]:
    """Rows `start` to `end` when every group of equal timestamps is shuffled by the seed.

    A group that lies across the page's edge is shuffled as a whole, so that pages asked with other seeds repeat or
    miss rows of it, as on the real server (facts/langfuse-observed.md item 10).
    """
    if start >= len(rows):
        return []
    first = _tie_edge(rows, start, -1)
    last = _tie_edge(rows, min(end, len(rows)) - 1, 1)
    shuffled: list[Trace] = []
    for group in _tie_groups(rows[first : last + 1]):
        random.Random(f"{seed} {group[0].timestamp_us}").shuffle(group)  # noqa: S311  repeatable, not secret
        shuffled.extend(group)
    return shuffled[start - first : end - first]


def _tie_edge(rows: Sequence[Trace], position: int, step: int) -> int:
    timestamp_us = rows[position].timestamp_us
    while 0 <= position + step < len(rows) and rows[position + step].timestamp_us == timestamp_us:
        position += step
    return position


def _tie_groups(rows: Sequence[Trace]) -> list[list[Trace]]:
    groups: list[list[Trace]] = []
    for row in rows:
        if groups and groups[-1][0].timestamp_us == row.timestamp_us:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
