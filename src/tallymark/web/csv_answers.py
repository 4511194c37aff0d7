"""A table as a CSV file for a browser, sent row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from litestar.response import Stream

from ..core.batches import batched

ROWS = 500
# A spreadsheet takes text that begins so for a formula, and names come from outside.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_answer(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Stream:
    """The file `name`.csv. Rows are read while they are sent: whatever they need stays open until then."""
    return Stream(
        _lines(columns, rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"},
    )


def _lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield _written([columns])
    for batch in batched(rows, ROWS):
        yield _written([[_safe(cell) for cell in row] for row in batch])


def _written(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _safe(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isascii() and text.removeprefix("-").replace(".", "", 1).isdigit()
