"""Marks that stand on a server as scores: listed newest first by cursor, 100 a page.

Facts: facts/langfuse.md section 5.4, "Reading the marks". GET /v3/scores exists since 3.179, in all modes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..core.clock import format_time
from ..remote.langfuse import LangfuseClient
from .cursors import Cursors

PAGE_ROWS = 100
STATUS_NAME = "billing_status"
PROCESSED = "processed"


class _Subject(msgspec.Struct, frozen=True):
    kind: str = ""
    id: str = ""


class _ScoreRow(msgspec.Struct):
    projectId: str  # noqa: N815 - Langfuse's own name
    value: object = None
    subject: _Subject = _Subject()


class _Meta(msgspec.Struct):
    cursor: str | None = None


class _Page(msgspec.Struct):
    data: list[_ScoreRow]
    meta: _Meta


_decode = msgspec.json.Decoder(_Page).decode


def marked_traces(client: LangfuseClient, from_us: int) -> Iterator[list[tuple[str, str]]]:
    """(project id, trace id) of traces with a score billing_status = processed dated from_us or later, by page.

    Raises Garbled if the list never ends.
    """
    query = [
        ("name", STATUS_NAME),
        ("fromTimestamp", format_time(from_us)),
        ("fields", "subject"),
        ("limit", str(PAGE_ROWS)),
    ]
    cursor: str | None = None
    cursors = Cursors(client.base_url, "scores")
    while True:
        page = client.get("/api/public/v3/scores", [*query, *([("cursor", cursor)] if cursor else [])], _decode)
        yield [(row.projectId, row.subject.id) for row in page.data if _marks_a_trace(row)]
        if page.meta.cursor is None or not page.data:
            return
        cursor = cursors.follow(page.meta.cursor)


def _marks_a_trace(row: _ScoreRow) -> bool:
    return row.value == PROCESSED and row.subject.kind == "trace" and bool(row.subject.id)
