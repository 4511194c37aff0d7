"""The file that keeps what was measured: the machine, and by the name of each measure when, of how much, and what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from . import scale
from .figures import Figure, from_json

LATEST = Path(__file__).parent / "results" / "latest.json"
Results = Mapping[str, Any]


def read(path: Path) -> Results:
    """What a file keeps; nothing if there is none."""
    found: Results = json.loads(path.read_text()) if path.exists() else {}
    return found


def keep(path: Path, machine: Mapping[str, str], name: str, measured: Mapping[str, Any]) -> None:
    """Put what was measured beside what is known of this machine already."""
    before = read(path)
    others = before.get("measures", {}) if before.get("machine") == machine else {}
    path.parent.mkdir(exist_ok=True)
    write(path, {"machine": machine, "measures": {**others, name: measured}})


def write(path: Path, content: Results) -> None:
    """Write such a file."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def measured(content: Results) -> dict[str, Figure]:
    """Every figure that has a key, by it, and the load of the machine under which the measures began."""
    measures = content["measures"].values()
    load = Figure("Machine", "load", median(one["load"] for one in measures), key="load")
    return {"load": load, **by_key(figure for one in measures for figure in from_json(one["figures"]))}


def quotable(content: Results) -> dict[str, Figure]:
    """The same, and the figures that follow from them. Raises KeyError if something is missing for those."""
    found = measured(content)
    return {**found, **by_key(scale.derived(found))}


def by_key(figures: Iterable[Figure]) -> dict[str, Figure]:
    """Figures by their keys, without those that have none."""
    return {figure.key: figure for figure in figures if figure.key}
