"""How a flow tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told after each step of a stage: "read", "send" or "mark", how many are done, and of how many, if known."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note."""
        ...


def quiet(stage: str, done: int, total: int | None) -> None:
    """Nobody listens."""
