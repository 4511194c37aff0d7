"""What people see: progress, tables, plain lines; and JSON for those who script. Rich is only for terminals."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from .flows.progress import Progress, quiet

STAGES = {
    "estimate": "reading samples",
    "read": "reading traces",
    "send": "sending meter events",
    "mark": "writing marks",
    "windows": "reading windows",
    "shards": "sending by shards",
    "batches": "marking in batches",
    "simulate": "rating traces again",
    "verify": "checking lines",
    "copy": "copying rows",
    "export": "writing rows",
}
PLAIN_LINE_SECONDS = 10.0


def print_json(value: Any) -> None:
    """The one JSON object of a command, on standard output."""
    click.echo(msgspec.json.encode(value).decode())


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """A table: drawn on a terminal, aligned plain text elsewhere."""
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _print_rich(cells, columns, title)
        return
    if title:
        click.echo(title)
    widths = [max(len(line[place]) for line in [list(columns), *cells]) for place in range(len(columns))]
    for line in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Comma-separated values with a header."""
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows([[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _print_rich(cells: Sequence[Sequence[str]], columns: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    numeric = [bool(cells) and all(_is_number(line[place]) for line in cells) for place in range(len(columns))]
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdigit()


@contextmanager
def progress(wanted: bool) -> Iterator[Progress]:
    """A progress bar with rate and time left on a terminal, a line now and then elsewhere, nothing if not wanted."""
    if not wanted:
        yield quiet
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _PlainLines()


def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(STAGES.get(stage, stage), total=total, rate="")
            speed = bars.tasks[list(tasks).index(stage)].speed
            bars.update(tasks[stage], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield step


class _PlainLines:
    """Progress for logs: one line every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PLAIN_LINE_SECONDS

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Print a line if the last one is old enough."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_LINE_SECONDS
            of = f" of {total:,}" if total else ""
            click.echo(f"{STAGES.get(stage, stage)}: {done:,}{of}", err=True)
