"""What a sync says of its progress, with how much memory its processes have at that moment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

MEGABYTE = 1_000_000


class Point(NamedTuple):
    """A moment of a sync: what it does, how much of it is done, and the memory that is resident then.

    `reading_megabytes` is that of the processes that it has started.
    """

    stage: str
    done: int
    megabytes: float
    reading_megabytes: float


class Timeline:
    """A progress that remembers. Memory is known on Linux only, and 0 elsewhere."""

    def __init__(self) -> None:
        """Begin now."""
        self.points: list[Point] = []
        self.last_seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note, as `flows.progress.Progress` is told."""
        self.last_seconds[stage] = time.perf_counter() - self._began
        children = sum(_resident_megabytes(pid) for pid in _children())
        self.points.append(Point(stage, done, _resident_megabytes("self"), children))


def _resident_megabytes(pid: str) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        # It has ended since, or this is no Linux.
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def _children() -> list[str]:
    """Processes that any thread of this one has started."""
    listed = Path("/proc/self/task").glob("*/children")
    return [pid for children in listed for pid in children.read_text().split()]
