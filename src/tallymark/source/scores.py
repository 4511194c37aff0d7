"""Marks that stand on a server as scores: listed newest first by cursor, 100 a page.

Only a score on the trace itself marks it: one on an observation says nothing of the rest of its trace.
Facts: facts/langfuse.md section 5.4, "Reading the marks". GET /v3/scores exists since 3.179, in all modes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from ..core.clock import format_time
from ..errors import NotFound
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
    return _walk(client, ("fromTimestamp", format_time(from_us)))


def marked_among(client: LangfuseClient, trace_ids: Collection[str]) -> set[str]:
    """Which of some traces carry the mark themselves, where the trace list tells only that a score of theirs says so.

    Believed unseen: an id with a comma, which a list of ids cannot hold, and all of a server before 3.179, which
    cannot be asked. Better a bill too few than two for one trace. Raises Garbled if the list never ends.
    """
    asked = [trace_id for trace_id in trace_ids if "," not in trace_id]
    found = set(trace_ids).difference(asked)
    try:
        for keys in _walk(client, ("traceId", ",".join(asked))) if asked else ():
            found.update(trace_id for _, trace_id in keys)
    except NotFound:
        return set(trace_ids)
    return found


def _walk(client: LangfuseClient, narrowed: tuple[str, str]) -> Iterator[list[tuple[str, str]]]:
    query = [("name", STATUS_NAME), narrowed, ("fields", "subject"), ("limit", str(PAGE_ROWS))]
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
