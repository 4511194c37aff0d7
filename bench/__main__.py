"""Run every measurement, print the table, and keep figures and plot in `bench/results`."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from . import kept, machine
from .figures import Figure, as_json, table
from .plot import draw
from .suite import LONG, MEASURES, Bench
from .workloads import TARGETS_AT_TRACES


def main() -> None:
    """Measure, print, keep."""
    arguments = _arguments()
    about = machine.describe()
    print(", ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    figures: list[Figure] = []
    with Bench(arguments.traces, full=arguments.full) as bench:
        for name in wanted(arguments.only, full=arguments.full):
            figures += _measured(name, bench, partial(kept.keep, arguments.output, about, name))
    judged = [figure.met for figure in figures if figure.met is not None]
    print(f"\n{judged.count(False)} of {len(judged)} targets not met; figures are in {arguments.output}")
    if not arguments.only:
        _draw(arguments.output, about)


def wanted(only: Collection[str] | None, *, full: bool) -> list[str]:
    """The names of what is measured, in the order of MEASURES."""
    return [name for name in MEASURES if (name in only if only else full or name not in LONG)]


def _draw(output: Path, about: dict[str, str]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot: `pip install '.[bench]'` draws it next time")
        return
    draw(kept.measured(kept.read(output)), about, output.with_suffix(".png"))
    print(f"the plot is in {output.with_suffix('.png')}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--traces", type=int, default=TARGETS_AT_TRACES, help="how many traces the sandbox holds")
    parser.add_argument("--only", action="append", choices=MEASURES, help="measure only this; may be given again")
    parser.add_argument("--full", action="store_true", help="also what takes an hour: the memory of millions of traces")
    parser.add_argument("--output", type=Path, default=kept.LATEST, help="the file that keeps the figures")
    return parser.parse_args()


def _measured(name: str, bench: Bench, keep: Callable[[dict[str, Any]], None]) -> list[Figure]:
    """Measure one thing; print and keep each figure as soon as it is known: some take an hour."""
    about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0], "traces": bench.traces}
    figures: list[Figure] = []
    for figure in MEASURES[name](bench):
        print(table([figure], under=figures[-1].group if figures else ""), flush=True)
        figures.append(figure)
        bench.known[figure.key] = figure
        keep({**about, "figures": as_json(figures)})
    return figures


if __name__ == "__main__":
    main()
