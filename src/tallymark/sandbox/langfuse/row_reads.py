"""GET /v2/observations."""

from __future__ import annotations

from tallymark.sandbox.wire import Response

from .answers import json_answer
from .calls import Call
from .generations import is_version_4, only_in_version_4
from .row_query import cursor_after, find_rows, row_query
from .row_shapes import json_rows


def list_rows(call: Call) -> Response:
    """One page, newest first, with a cursor exactly when it is full (facts/langfuse.md section 2.2).

    A server of version 4 in legacy mode answers, but its tables are empty (facts/langfuse.md section 0.4).
    """
    settings = call.store.settings
    if settings.generation == "legacy" and not is_version_4(settings.version):
        raise only_in_version_4("observations")
    query = row_query(call.request.query)
    rows = find_rows(call.data, query, settings.resource_error_rows) if settings.generation != "legacy" else []
    full = 0 < len(rows) == query.limit
    shown = json_rows(rows, call.project_id, query.groups, query.expanded)
    return json_answer(200, {"data": shown, "meta": {"cursor": cursor_after(rows[-1])} if full else {}})
