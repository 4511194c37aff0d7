"""What arrives at Langfuse, or goes, while a story is told: sent as an application would send it."""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.batches import batched
from ..core.clock import format_time
from .stage import Stage

BATCH = 100


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a trace, new or told again, with its cost in USD as text."""

    observation_id: str
    trace_id: str
    start_us: int
    end_us: int
    cost_usd: str


def report(stage: Stage, generations: Sequence[Generation], now_us: int) -> None:
    """Report generations: by ingestion, or by OpenTelemetry to a v4 server."""
    for batch in batched(generations, BATCH):
        if stage.generation == "observations":
            spans = {"resourceSpans": [{"scopeSpans": [{"spans": [_span(one) for one in batch]}]}]}
            _ask(stage, "POST", "/api/public/otel/v1/traces", spans)
        else:
            events = [_event(one, now_us) for one in batch]
            _ask(stage, "POST", "/api/public/ingestion", {"batch": events})


def delete(stage: Stage, trace_ids: Sequence[str]) -> None:
    """Delete traces."""
    for batch in batched(trace_ids, BATCH):
        _ask(stage, "DELETE", "/api/public/traces", {"traceIds": batch})


def _event(one: Generation, now_us: int) -> dict[str, Any]:
    body = {
        "id": one.observation_id,
        "traceId": one.trace_id,
        "type": "GENERATION",
        "startTime": format_time(one.start_us),
        "endTime": format_time(one.end_us),
        "costDetails": {"total": msgspec.Raw(one.cost_usd.encode())},
    }
    event_id = f"{one.observation_id} {one.cost_usd}"
    return {"id": event_id, "type": "generation-create", "timestamp": format_time(now_us), "body": body}


def _span(one: Generation) -> dict[str, Any]:
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.cost_details": f'{{"total":{one.cost_usd}}}',
    }
    return {
        "traceId": one.trace_id,
        "spanId": one.observation_id,
        "parentSpanId": "an-earlier-span",
        "name": "llm",
        "startTimeUnixNano": str(one.start_us * 1000),
        "endTimeUnixNano": str(one.end_us * 1000),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }


def _ask(stage: Stage, method: str, path: str, body: Any) -> None:
    project = stage.config.projects[0]
    keys = f"{project.public_key}:{project.secret_key}".encode()
    headers = {"authorization": f"Basic {base64.b64encode(keys).decode()}", "content-type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 - the sandbox on loopback
        project.base_url + path, msgspec.json.encode(body), headers, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        response.read()
