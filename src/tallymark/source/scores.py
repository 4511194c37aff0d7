"""Marks that stand on a server as scores: listed newest first by cursor, 100 a page.

Facts: facts/langfuse.md section 5.4, "Reading the marks". GET /v3/scores exists since 3.179, in all modes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..core.clock import format_time
from ..remote.langfuse import LangfuseClient

PAGE_ROWS = 100
STATUS_NAME = "billing_status"
PROCESSED = "processed"


class _Subject(msgspec.Struct):
    kind: str = ""
    id: str = ""


class _ScoreRow(msgspec.Struct):
    value: object = None
    subject: _Subject | None = None


class _Meta(msgspec.Struct):
    cursor: str | None = None


class _Page(msgspec.Struct):
    data: list[_ScoreRow]
    meta: _Meta


_decode = msgspec.json.Decoder(_Page).decode


def marked_traces(client: LangfuseClient, from_us: int) -> Iterator[list[str]]:
    """Ids of traces with a score billing_status = processed that is dated from_us or later, page by page."""
    query = [("name", STATUS_NAME), ("fromTimestamp", format_time(from_us)), ("fields", "subject"), ("limit", str(PAGE_ROWS))]
    cursor: str | None = None
    while True:
        page = client.get("/api/public/v3/scores", [*query, *([("cursor", cursor)] if cursor else [])], _decode)
        yield [trace_id for row in page.data if (trace_id := _trace_id_of(row)) and row.value == PROCESSED]
        if page.meta.cursor is None or page.meta.cursor == cursor or not page.data:
            return
        cursor = page.meta.cursor


def _trace_id_of(row: _ScoreRow) -> str | None:
    """The trace that a score is on, if it is on a trace."""
    return row.subject.id if row.subject is not None and row.subject.kind == "trace" else None
