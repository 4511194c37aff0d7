"""POST /otel/v1/traces: spans are written into the legacy tables, merged, and into the v4 tables, as they are."""

from __future__ import annotations

import uuid
from functools import partial

from tallymark.core.clock import format_time
from tallymark.sandbox.wire import Response

from .answers import json_answer
from .calls import Call
from .otlp_rows import row_of
from .spans import Span, observation_body, observation_type, read_spans, trace_body
from .state import Moment, ProjectData
from .store import Store


def export_traces(call: Call) -> Response:
    """Accept an export in JSON or protobuf. A reply with a body is an internal job: nothing for clients (item 33)."""
    spans = read_spans(call.request)
    if not spans:
        return json_answer(200, {})
    call.store.write(partial(_write_spans, call.store, call.data, spans))
    job = {"id": str(uuid.uuid4()), "timestamp": format_time(call.store.clock.now_us()), "name": "otel-ingestion-job"}
    return json_answer(200, {"name": "otel-ingestion-job", "data": job})


def _write_spans(store: Store, data: ProjectData, spans: list[Span], moment: Moment) -> None:
    """Write the spans of one export, oldest first: the first one gives a new trace its time.

    The legacy tables are written in every generation, so that a server can go back to them in a test.
    """
    for span in sorted(spans, key=lambda one: one.start_us):
        _write_legacy(data, span, moment)
        if store.settings.generation != "legacy":
            store.publish(data, row_of(span, moment))


def _write_legacy(data: ProjectData, span: Span, moment: Moment) -> None:
    span_moment = Moment(span.start_us, moment.posted_us, moment.visible_us)
    body = trace_body(span)
    if body or span.trace_id not in data.traces:
        # A span without trace attributes still makes the trace appear, with nothing but its time.
        given = {**body, "timestamp": format_time(span.start_us), "environment": span.environment}
        data.write_trace(span.trace_id, given, span_moment)
    data.write_observation(span.span_id, observation_type(span), observation_body(span), span_moment)
