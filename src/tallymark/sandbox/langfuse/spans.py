"""OpenTelemetry spans: read from an export, and mapped to what they say about a trace and an observation.

The mapping of attributes is the one of facts/langfuse.md section 9.2, checked by golden 20 and 30.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tallymark.core.clock import format_time
from tallymark.sandbox.wire import Request

from .answers import Refusal, json_answer
from .protobuf import read_export_request
from .values import parse_text

_USER = ("langfuse.user.id", "user.id", "ai.telemetry.metadata.userId")
_SESSION = ("langfuse.session.id", "session.id", "ai.telemetry.metadata.sessionId", "gen_ai.conversation.id")
_TAGS = ("langfuse.trace.tags", "langfuse.tags", "ai.telemetry.metadata.tags", "tag.tags")
_ENVIRONMENT = ("langfuse.environment", "deployment.environment.name", "deployment.environment")
_MODEL = ("langfuse.observation.model.name", "gen_ai.response.model", "gen_ai.request.model")
TRACE_METADATA = "langfuse.trace.metadata."
OBSERVATION_METADATA = "langfuse.observation.metadata."
_USAGE_ATTRIBUTES = {
    "gen_ai.usage.input_tokens": "input",
    "gen_ai.usage.prompt_tokens": "input",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One OpenTelemetry span with the attributes of its resource and scope. Times are microseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_us: int
    end_us: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    scope: Mapping[str, Any]

    @property
    def is_root(self) -> bool:
        """Whether its name, input and output are the trace's too."""
        return self.parent_id is None or self.attributes.get("langfuse.internal.as_root") is True

    def first(self, names: tuple[str, ...]) -> Any:
        """The first of these attributes that is there."""
        return next((self.attributes[name] for name in names if name in self.attributes), None)

    @property
    def environment(self) -> Any:
        """The environment of the span or of its resource."""
        given = self.first(_ENVIRONMENT)
        return given or next((self.resource[name] for name in _ENVIRONMENT if name in self.resource), None)

    @property
    def origin(self) -> dict[str, Any]:
        """What every observation's metadata says about where it came from (facts/langfuse-observed.md item 32)."""
        return {"resourceAttributes": dict(self.resource), "scope": dict(self.scope)}


def read_spans(request: Request) -> list[Span]:
    """The spans of an export. Raises Refusal for bad JSON; bad protobuf is taken without a word (observed item 33)."""
    content_type = request.headers.get("content-type", "")
    if "protobuf" in content_type:
        try:
            return list(_spans(read_export_request(request.body)))
        except (ValueError, RecursionError):
            return []
    if "json" not in content_type:
        raise Refusal(json_answer(400, {"error": "Invalid content type"}))
    try:
        return list(_spans(msgspec.json.decode(request.body)))
    except (ValueError, TypeError, RecursionError):
        raise Refusal(json_answer(400, {"error": "Failed to parse OTel JSON Trace"})) from None


def _spans(export: Any) -> Iterator[Span]:
    for resource_spans in _items(export, "resourceSpans"):
        resource = _attributes(resource_spans.get("resource"))
        for scope_spans in _items(resource_spans, "scopeSpans"):
            scope = _scope(scope_spans.get("scope"))
            spans = (_span(span, resource, scope) for span in _items(scope_spans, "spans"))
            yield from (span for span in spans if span.trace_id and span.span_id)


def _items(holder: Any, name: str) -> list[dict[str, Any]]:
    items = holder.get(name) if isinstance(holder, Mapping) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _scope(given: Any) -> dict[str, Any]:
    scope = given if isinstance(given, Mapping) else {}
    return {"name": scope.get("name"), "version": scope.get("version"), "attributes": _attributes(scope)}


def _span(span: Mapping[str, Any], resource: Mapping[str, Any], scope: Mapping[str, Any]) -> Span:
    return Span(
        trace_id=str(span.get("traceId", "")),
        span_id=str(span.get("spanId", "")),
        parent_id=str(span.get("parentSpanId") or "") or None,
        name=str(span.get("name", "")),
        start_us=int(span.get("startTimeUnixNano") or 0) // 1000,
        end_us=int(span.get("endTimeUnixNano") or 0) // 1000,
        attributes=_attributes(span),
        resource=resource,
        scope=scope,
    )


def _attributes(holder: Any) -> dict[str, Any]:
    return {str(item.get("key")): _plain(item.get("value")) for item in _items(holder, "attributes")}


def _plain(value: Any) -> Any:
    """An AnyValue as a JSON value."""
    if not isinstance(value, Mapping):
        return None
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_plain(item) for item in _items(value["arrayValue"], "values")]
    if "kvlistValue" in value:
        return {str(item.get("key")): _plain(item.get("value")) for item in _items(value["kvlistValue"], "values")}
    return next(iter(value.values()), None)


def trace_body(span: Span) -> dict[str, Any]:
    """What a span says about its trace, as a trace-create body; empty for a child without trace attributes."""
    attributes = span.attributes
    body = {
        "name": attributes.get("langfuse.trace.name") or (span.name if span.is_root else None),
        "userId": span.first(_USER),
        "sessionId": span.first(_SESSION),
        "tags": _tags(span.first(_TAGS)),
        "release": attributes.get("langfuse.release"),
        "version": attributes.get("langfuse.version"),
        "public": attributes.get("langfuse.trace.public"),
        "input": _trace_io(span, "input"),
        "output": _trace_io(span, "output"),
        "metadata": _trace_metadata(span) or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _trace_io(span: Span, side: str) -> Any:
    given = span.attributes.get(f"langfuse.trace.{side}")
    return given if given is not None or not span.is_root else span.attributes.get(f"langfuse.observation.{side}")


def _trace_metadata(span: Span) -> dict[str, Any]:
    own = _with_prefix(span, TRACE_METADATA)
    return {**own, **_with_prefix(span, OBSERVATION_METADATA), **span.origin} if span.is_root else own


def _with_prefix(span: Span, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): _as_json(value) for name, value in span.attributes.items() if name.startswith(prefix)
    }


def _as_json(value: Any) -> Any:
    return parse_text(value) if isinstance(value, str) else value


def _tags(given: Any) -> list[str] | None:
    """Tags as an array, a JSON array in a string, or a comma separated string (facts/langfuse.md section 3)."""
    value = parse_text(given) if isinstance(given, str) else given
    if isinstance(value, str):
        value = value.split(",")
    return [str(tag).strip() for tag in value] if isinstance(value, list) else None


def observation_type(span: Span) -> str:
    """The type of the observation: said, or GENERATION for a span that names a model."""
    said = span.attributes.get("langfuse.observation.type")
    return str(said).upper() if said else ("GENERATION" if span.first(_MODEL) else "SPAN")


def observation_body(span: Span) -> dict[str, Any]:
    """A span as the body of an observation."""
    attributes = span.attributes
    parameters = _as_json(attributes.get("langfuse.observation.model.parameters"))
    body = {
        "traceId": span.trace_id,
        "parentObservationId": span.parent_id,
        "name": span.name,
        "startTime": format_time(span.start_us),
        "endTime": format_time(span.end_us) if span.end_us else None,
        "completionStartTime": _as_json(attributes.get("langfuse.observation.completion_start_time")),
        "environment": span.environment,
        "model": span.first(_MODEL),
        "modelParameters": parameters or ({} if observation_type(span) == "GENERATION" else None),
        "level": attributes.get("langfuse.observation.level"),
        "statusMessage": attributes.get("langfuse.observation.status_message"),
        "version": attributes.get("langfuse.version"),
        "input": attributes.get("langfuse.observation.input"),
        "output": attributes.get("langfuse.observation.output"),
        "usageDetails": _usage(span),
        "costDetails": _cost(span),
        "metadata": {**_with_prefix(span, OBSERVATION_METADATA), **span.origin},
    }
    return {key: value for key, value in body.items() if value is not None}


def _usage(span: Span) -> dict[str, Any] | None:
    given = _as_json(span.attributes.get("langfuse.observation.usage_details"))
    if isinstance(given, dict):
        return given
    found = {short: span.attributes[name] for name, short in _USAGE_ATTRIBUTES.items() if name in span.attributes}
    return found or None


def _cost(span: Span) -> dict[str, Any] | None:
    given = _as_json(span.attributes.get("langfuse.observation.cost_details"))
    if isinstance(given, dict):
        return given
    total = span.attributes.get("gen_ai.usage.cost")
    return {"total": total} if total is not None else None
