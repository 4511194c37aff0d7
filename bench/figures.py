"""Figures with their targets, as a table for people and as JSON for the next run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `target` is None for a figure that only informs; otherwise the value should be at most that."""

    group: str
    name: str
    value: float
    unit: str = ""
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        return None if self.target is None else self.value <= self.target


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text."""
    lines = []
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines += ["", group]
        lines.append(_line(figure))
    return "\n".join(lines)


def _line(figure: Figure) -> str:
    value = f"{_number(figure.value)} {figure.unit}".rstrip()
    if figure.target is None:
        return f"  {figure.name:<50} {value:>14}"
    verdict = "met" if figure.met else "NOT MET"
    return f"  {figure.name:<50} {value:>14}   at most {_number(figure.target)}: {verdict}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as JSON objects."""
    return [{**asdict(figure), "met": figure.met} for figure in figures]
