"""Figures with their targets, as a table for people and as JSON for the next run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `target` is None for a figure that only informs.

    Otherwise the value should be at most that, or with `at_least` at least that. `key` names a figure that pages quote.
    `points` are (x, y) of a curve that the figure sums up.
    """

    group: str
    name: str
    value: float
    unit: str = ""
    target: float | None = None
    at_least: bool = False
    key: str = ""
    points: tuple[tuple[float, float], ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def text(self) -> str:
        """The value with its unit."""
        return f"{number(self.value)} {self.unit}".rstrip()


def table(figures: Sequence[Figure], under: str = "") -> str:
    """The figures as lines of text; `under` is the group whose title stands above already."""
    lines = []
    for figure in figures:
        if figure.group != under:
            under = figure.group
            lines += ["", under]
        lines.append(_line(figure))
    return "\n".join(lines)


def _line(figure: Figure) -> str:
    if figure.target is None:
        return f"  {figure.name:<60} {figure.text:>14}"
    limit = f"{'at least' if figure.at_least else 'at most'} {number(figure.target)}"
    return f"  {figure.name:<60} {figure.text:>14}   {limit}: {'met' if figure.met else 'NOT MET'}"


def number(value: float) -> str:
    """A number for people: whole numbers as they are, others to two or three digits that count."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 0.1 or not value:
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
    return f"{value:.2g}"


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as JSON objects."""
    return [{**asdict(figure), "met": figure.met} for figure in figures]


def from_json(objects: Sequence[dict[str, Any]]) -> list[Figure]:
    """The figures that `as_json` wrote."""
    return [_from_json(each) for each in objects]


def _from_json(each: dict[str, Any]) -> Figure:
    fields = {name: value for name, value in each.items() if name != "met"}
    return Figure(**{**fields, "points": tuple((x, y) for x, y in each["points"])})
