"""A client of the sandbox Langfuse without a socket, for the tests of what it does."""

from __future__ import annotations

import base64
import json
from typing import Any

from tallymark.core.clock import SECOND_US, parse_time
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.wire import Request, Response

PROJECT_ID = DEFAULT_PROJECT.project_id
KEYS = f"{DEFAULT_PROJECT.public_key}:{DEFAULT_PROJECT.secret_key}"
AUTH = {"authorization": "Basic " + base64.b64encode(KEYS.encode()).decode(), "content-type": "application/json"}
NOON = "2026-11-20T12:00:00.000Z"


class Client:
    """Sends requests to a sandbox without a socket."""

    def __init__(self, **settings: Any) -> None:
        self.clock = VirtualClock(parse_time("2026-11-24T00:00:00Z"))
        self.sandbox = SandboxLangfuse(clock=self.clock, **settings)

    def send(self, method: str, path: str, body: Any = None, **query: Any) -> Response:
        """One request with the project's key; the path is below /api/public."""
        content = b"" if body is None else json.dumps(body).encode()
        pairs = tuple((name, str(value)) for name, value in query.items())
        return self.sandbox.handle(Request(method, f"/api/public/{path}", pairs, AUTH, content))

    def get(self, path: str, **query: Any) -> Any:
        """The decoded answer of a GET that must succeed."""
        response = self.send("GET", path, **query)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def listed(self, **query: Any) -> list[str]:
        """The ids of one page of the trace list."""
        return [row["id"] for row in self.get("traces", **query)["data"]]

    def ingest(self, kind: str, **body: Any) -> None:
        """One ingestion item that must be accepted."""
        item = {"id": "item", "type": kind, "timestamp": "2026-11-24T00:00:00Z", "body": body}
        answer = self.send("POST", "ingestion", {"batch": [item]})
        assert json.loads(answer.body)["errors"] == []

    def put(self, trace_id: str, timestamp: str = NOON, **trace: Any) -> None:
        """A trace without observations."""
        self.sandbox.put_trace(PROJECT_ID, {"id": trace_id, "timestamp": timestamp, **trace})

    def rows(self, **query: Any) -> list[dict[str, Any]]:
        """One page of v2/observations with every group that a test looks at."""
        fields = "core,basic,time,usage,metadata,trace_context"
        data: list[dict[str, Any]] = self.get("v2/observations", **{"fields": fields, **query})["data"]
        return data

    def pages(self, **query: Any) -> list[list[str]]:
        """The row ids of every page of v2/observations, to the end."""
        pages, cursor = [], {}
        while True:
            answer = self.get("v2/observations", **query, **cursor)
            pages.append([row["id"] for row in answer["data"]])
            if "cursor" not in answer["meta"]:
                return pages
            cursor = {"cursor": answer["meta"]["cursor"]}

    def export(self, trace_id: str, span_id: str, start: str, *, seconds: int = 1, **attributes: Any) -> None:
        """One OpenTelemetry span in JSON. Attributes: "__" in a name stands for a dot; a `parent` is no attribute."""
        start_us, parent_id = parse_time(start), attributes.pop("parent", "")
        span = {
            "traceId": trace_id,
            "spanId": span_id,
            "parentSpanId": parent_id,
            "name": span_id,
            "startTimeUnixNano": str(start_us * 1000),
            "endTimeUnixNano": str((start_us + seconds * SECOND_US) * 1000),
            "attributes": [
                {"key": name.replace("__", "."), "value": _any(value)} for name, value in attributes.items()
            ],
        }
        export = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "app"}, "spans": [span]}]}]}
        assert self.send("POST", "otel/v1/traces", export).status == 200


def _any(value: Any) -> dict[str, Any]:
    """A value as OTLP's AnyValue."""
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": _any(item)} for key, item in value.items()]}}
    return {"stringValue": value}
