"""Sends a recording to the sandbox Langfuse and says where its answers differ from the real server's.

Compared are status, the headers that mean something, and the body: keys, JSON types and values. What only a clock or a
database of the real server could have decided is listed in `UNCOMPARED`, with the reason.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from otlp_encoding import export_request

from tallymark.core.clock import parse_time
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import Project, SandboxLangfuse
from tallymark.sandbox.wire import Request, Response

RECORDINGS = Path(__file__).parents[1] / "golden" / "langfuse" / "v3.225.4"
START_US = parse_time("2026-11-23T23:00:00Z")
# As the recorded server: about 6 s until a write is seen, and the recorder waited 9 (facts, observed item 15).
VISIBILITY_SECONDS = 6.0

# Cases that update traces and then list them without a filter (facts, observed item 9).
OVERCOUNTED = (
    *("07-late-observation", "08-update-fields", "08b-update-other-day", "30-otel-json"),
    *("20-sdk-2.60.10", "20-sdk-3.15.0", "20-sdk-4.18.0"),
)
# case, step or None for all, path in the answer, reason. The JSON type is compared all the same.
UNCOMPARED: list[tuple[str, int | None, str, str]] = [
    *((case, None, "body.meta.totalItems", "row versions count until ClickHouse merges them") for case in OVERCOUNTED),
    ("*", None, "*.pattern", "the text of a regular expression in the server's validation library"),
    ("06-errors", 33, "body.timestamp", "POST /traces without a timestamp: the server's own clock"),
    ("11-delete", 2, "body.meta.totalItems", "the busy server had flushed one of three rows"),
    ("11-delete", 2, "body.data", "the busy server had flushed one of three rows when the recorder looked"),
    ("30-otel-json", 26, "body.id", "POST /scores without an id: a random one"),
    *(("30-otel-json", step, "body.data.0.id", "the same random id") for step in (28, 29, 30)),
    *(("30-otel-json", step, "body.data.0.timestamp", "when the score was posted") for step in (28, 29, 30)),
    *(("30-otel-json", step, "body.data.0.trace.tags", "joined with an unmerged row version") for step in (28, 29)),
    ("40-rate-limit", None, "headers.retry-after", "when the recorder's minute began"),
    ("40-rate-limit", None, "headers.x-ratelimit-reset", "when the recorder's minute began"),
    ("40-rate-limit", None, "body.details.retryAfterSeconds", "when the recorder's minute began"),
    ("40-rate-limit", None, "body.details.resetAt", "when the recorder's minute began"),
]

SETTINGS: dict[str, dict[str, Any]] = {
    "40-rate-limit": {"rate_limit_per_minute": 15},
    "41-server-options": {"reject_no_date_range": True, "default_fields": ("core",)},
}
# Lists whose order the real server does not define: it depends on how ClickHouse read its parts.
UNORDERED = ("observations", "scores", "successes", "usage")
TIME_KEYS = ("createdAt", "updatedAt")
IDS_ONLY = "data (ids only; shortened by the recorder)"
FIVE_MEBIBYTES = "(one trace-create with an input of 5 MiB)"
PROTOBUF = "(OTLP protobuf, decoded by the recorder)"


@dataclass
class Moments:
    """Turns createdAt and updatedAt into "the n-th one seen for this id", so that only their changes are compared."""

    seen: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def name(self, row_id: str, key: str, text: str) -> str:
        """The name of a moment; the text itself if it is not written as Langfuse writes times."""
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text):
            return text
        moments = self.seen.setdefault((row_id, key), [])
        if text not in moments:
            moments.append(text)
        return f"{key} number {moments.index(text)}"


class Replay:
    """One recording against one sandbox."""

    def __init__(self, name: str) -> None:
        self.name = name
        text = (RECORDINGS / f"{name}.json").read_text(encoding="utf-8")
        self.steps = json.loads(text)["steps"]
        self.project = _project(text, name)
        self.clock = VirtualClock(START_US)
        self.sandbox = SandboxLangfuse(
            clock=self.clock,
            projects=[self.project],
            visibility_seconds=VISIBILITY_SECONDS,
            **SETTINGS.get(name, {}),
        )
        self.recorded_moments, self.answered_moments = Moments(), Moments()

    def differences(self) -> list[str]:
        """Every difference, told with its step and path."""
        return [text for number, step in enumerate(self.steps) for text in self._play(number, step)]

    def _play(self, number: int, step: dict[str, Any]) -> list[str]:
        if "request" not in step:
            self.clock.advance(float(re.findall(r"\d+", step["note"])[0]))
            return []
        self.clock.advance(0.1)
        response = self.sandbox.handle(request_of(step["request"], self.project))
        recorded = normalised(step["response"], self.recorded_moments)
        answered = normalised(_as_recorded(response, step["response"]), self.answered_moments)
        return [
            f"step {number} ({step['note']}): {path}: {text}"
            for path, text in compared("", recorded, answered)
            if not self._is_uncompared(number, path, text)
        ]

    def _is_uncompared(self, number: int, path: str, text: str) -> bool:
        return text.startswith("value") and any(
            fnmatchcase(self.name, case) and step in (None, number) and fnmatchcase(path, pattern)
            for case, step, pattern, _ in UNCOMPARED
        )


def _project(text: str, name: str) -> Project:
    found = re.search(r'"projectId":"proj-([^"]+)"', text) or re.search(r'"id":"proj-([^"]+)"', text)
    suffix = found[1] if found else name
    return Project(f"proj-{suffix}", f"pk-lf-{suffix}", f"sk-lf-{suffix}", suffix)


def request_of(recorded: dict[str, Any], project: Project) -> Request:
    """A recorded request, with the key of our project where it carried its own."""
    auth, headers = recorded.get("auth"), {"content-type": recorded.get("content_type", "application/json")}
    if auth == "Basic pk:sk of the project":
        auth = "Basic " + base64.b64encode(f"{project.public_key}:{project.secret_key}".encode()).decode()
    if auth is not None:
        headers["authorization"] = auth
    query = recorded.get("query", {})
    pairs = query.items() if isinstance(query, dict) else query
    return Request(
        recorded["method"],
        recorded["path"],
        tuple((name, str(value)) for name, value in pairs),
        headers,
        _body_of(recorded.get("body")),
    )


def _body_of(body: Any) -> bytes:
    if body is None:
        return b""
    if body == FIVE_MEBIBYTES:
        return json.dumps({"batch": [], "input": "x" * 5 * 2**20}).encode()
    if isinstance(body, str):
        return body.encode()
    return export_request(body[PROTOBUF]) if PROTOBUF in body else json.dumps(body).encode()


def _as_recorded(response: Response, recorded: dict[str, Any]) -> dict[str, Any]:
    """Our response in the form of the recording: the same headers, the body decoded, shortened where it was."""
    is_json = "application/json" in response.headers.get("content-type", "")
    body = json.loads(response.body) if is_json else response.body.decode()
    if isinstance(recorded["body"], dict) and IDS_ONLY in recorded["body"]:
        body = {IDS_ONLY: [row["id"] for row in body["data"]], "meta": body["meta"]}
    if recorded["body"] == {"name": "otel-ingestion-job"}:
        body = {"name": body["name"]}
    headers = {name: value for name, value in response.headers.items() if name != "cache-control"}
    return {"status": response.status, "headers": headers, "body": body}


def normalised(value: Any, moments: Moments) -> Any:
    """The value with times named, unordered lists sorted and embedded JSON decoded."""
    if isinstance(value, list):
        return [normalised(item, moments) for item in value]
    if not isinstance(value, dict):
        return _shortened(value)
    return {key: _normalised_item(value, key, moments) for key in value}


def _shortened(value: Any) -> Any:
    return "(a page of HTML)" if isinstance(value, str) and value.startswith("<!DOCTYPE html>") else value


def _normalised_item(row: dict[str, Any], key: str, moments: Moments) -> Any:
    value = row[key]
    if key in TIME_KEYS and isinstance(value, str):
        return moments.name(row["id"], key, value)
    if key == "error" and isinstance(value, str) and value.startswith("["):
        return normalised(json.loads(value), moments)
    if key == IDS_ONLY:
        # Two traces share each timestamp and may change places: pNNN has the timestamp NNN // 2.
        return [int(trace_id[1:]) // 2 for trace_id in value]
    items = normalised(value, moments)
    return sorted(items, key=json.dumps) if key in UNORDERED and isinstance(items, list) else items


def compared(path: str, recorded: Any, answered: Any) -> Iterator[tuple[str, str]]:
    """Where two values differ: in their JSON type, in their keys or length, or in value."""
    if _type(recorded) != _type(answered):
        yield path, f"type: recorded {recorded!r}, answered {answered!r}"
    elif isinstance(recorded, dict):
        if recorded.keys() != answered.keys():
            yield path, f"keys: recorded {sorted(recorded)}, answered {sorted(answered)}"
        for key in recorded.keys() & answered.keys():
            yield from compared(f"{path}.{key}" if path else key, recorded[key], answered[key])
    elif isinstance(recorded, list) and len(recorded) == len(answered):
        for index, (one, other) in enumerate(zip(recorded, answered, strict=True)):
            yield from compared(f"{path}.{index}", one, other)
    elif recorded != answered:
        yield path, f"value: recorded {recorded!r}, answered {answered!r}"


def _type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__
