"""An OpenTelemetry span as a row of the v4 tables: on its own, nothing merges into it (observed items 26 and 32)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .records import Observation, TraceContext
from .spans import OBSERVATION_METADATA, TRACE_METADATA, Span, observation_body, observation_type, trace_body
from .state import Moment, merge_observation, tidy_environment, whole_milliseconds

_IS_APP_ROOT = "langfuse.internal.is_app_root"


def row_of(span: Span, moment: Moment) -> Observation:
    """The row of a span; it carries what the span itself says about its trace, and nothing else."""
    row = Observation(
        id=span.span_id,
        trace_id=span.trace_id,
        start_us=whole_milliseconds(span.start_us),
        type=observation_type(span),
        environment=tidy_environment(span.environment),
        created_us=moment.visible_us,
        is_app_root=span.attributes.get(_IS_APP_ROOT) is True,
    )
    merge_observation(row, observation_body(span), moment)
    row.metadata = span_metadata(span)
    row.context = _context(span, is_root=span.parent_id is None or row.is_app_root)
    return row


def _context(span: Span, *, is_root: bool) -> TraceContext:
    body = trace_body(span)
    return TraceContext(
        name=span.attributes.get("langfuse.trace.name") or (span.name if is_root else None),
        user_id=body.get("userId"),
        session_id=body.get("sessionId"),
        release=body.get("release"),
        public=bool(body.get("public")),
        tags=tuple(body.get("tags", ())),
    )


def span_metadata(span: Span) -> dict[str, Any]:
    """Flat keys: objects become dotted paths, JSON in a text stays a text (facts/langfuse.md section 2.2)."""
    given = {
        name.removeprefix(prefix): value
        for prefix in (TRACE_METADATA, OBSERVATION_METADATA)
        for name, value in span.attributes.items()
        if name.startswith(prefix)
    }
    return dict(_flat("", {**given, **span.origin}))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, item in value.items():
        yield from _flat(f"{path}.{key}" if path else key, item)
