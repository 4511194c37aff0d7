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
from itertools import groupby
from pathlib import Path
from typing import Any

from otlp_encoding import export_request

from tallymark.core.clock import parse_time
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import Project, SandboxLangfuse
from tallymark.sandbox.langfuse.generations import Generation
from tallymark.sandbox.wire import Request, Response

RECORDINGS = Path(__file__).parents[1] / "golden" / "langfuse"
START_US = parse_time("2026-11-23T23:00:00Z")
# As the recorded server: about 6 s until a write is seen, and the recorder waited 9 (facts, observed item 15).
VISIBILITY_SECONDS = 6.0
# More than the sandbox's own 660, so that everything has been propagated.
PROPAGATION_SECONDS = 700.0

LIMITED = "40-rate-limit"
MINUTE_BEGAN = (
    *("headers.retry-after", "headers.x-ratelimit-reset"),
    *("body.details.retryAfterSeconds", "body.details.resetAt"),
)
# Cases that update traces and then list them without a filter (facts, observed item 9).
OVERCOUNTED = (
    *("07-late-observation", "08-update-fields", "08b-update-other-day", "30-otel-json"),
    *("20-sdk-2.60.10", "20-sdk-3.15.0", "20-sdk-4.18.0", "20-sdk-5.0.4"),
)
# server/case, step or None for all, path in the answer, reason. The JSON type is compared all the same.
UNCOMPARED: list[tuple[str, int | None, str, str]] = [
    *((f"*/{case}", None, "body.meta.totalItems", "row versions count until merged") for case in OVERCOUNTED),
    ("*", None, "*.pattern", "the text of a regular expression in the server's validation library"),
    ("*/06-errors", 33, "body.timestamp", "POST /traces without a timestamp: the server's own clock"),
    ("v3*/11-delete", 2, "body.meta.totalItems", "the busy server had flushed one of three rows"),
    ("v3*/11-delete", 2, "body.data", "the busy server had flushed one of three rows when the recorder looked"),
    ("*/30-otel-json", 26, "body.id", "POST /scores without an id: a random one"),
    *(("*/30-otel-json", step, "body.data.0.id", "the same random id") for step in (28, 29, 30)),
    *(("*/30-otel-json", step, "body.data.0.timestamp", "when the score was posted") for step in (28, 29, 30)),
    *(("*/30-otel-json", step, "body.data.0.trace.tags", "joined with an unmerged row version") for step in (28, 29)),
    *((f"*/{LIMITED}", None, path, "when the recorder's minute began") for path in MINUTE_BEGAN),
]

GENERATIONS: dict[str, Generation] = {
    "v3.225.4": "legacy",
    "v4.16.0-dual": "dual",
    "v4.16.0-events-only": "events_only",
}
SETTINGS: dict[str, dict[str, Any]] = {
    LIMITED: {"rate_limit_per_minute": 15},
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
    """Turns createdAt and updatedAt into "the n-th one seen for this id", so that only their changes are compared.

    Each table has its own: an observation's row in the v4 tables is written at another moment.
    """

    table: str = "legacy"
    seen: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)

    def name(self, row_id: str, key: str, text: str) -> str:
        """The name of a moment; the text itself if it is not written as Langfuse writes times."""
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text):
            return text
        moments = self.seen.setdefault((self.table, row_id, key), [])
        if text not in moments:
            moments.append(text)
        return f"{key} number {moments.index(text)}"


class Replay:
    """One recording against one sandbox."""

    def __init__(self, name: str) -> None:
        self.name = name
        server, _, case = name.partition("/")
        text = (RECORDINGS / f"{name}.json").read_text(encoding="utf-8")
        self.steps = json.loads(text)["steps"]
        self.project = _project(text, case)
        self.clock = VirtualClock(START_US)
        self.sandbox = SandboxLangfuse(
            clock=self.clock,
            projects=[self.project],
            generation=GENERATIONS[server],
            visibility_seconds=VISIBILITY_SECONDS,
            **SETTINGS.get(case, {}),
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
        table = "v4" if step["request"]["path"].endswith("/v2/observations") else "legacy"
        self.recorded_moments.table = self.answered_moments.table = table
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


class Continued:
    """31b: a look at the projects of other cases when the server had propagated what they sent (observed item 27)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.server = name.partition("/")[0]
        self.steps = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["steps"]

    def differences(self) -> list[str]:
        """Every difference after the case of each project was played and the time had passed."""
        return [f"{case}: {text}" for case, steps in self._looks() for text in self._look(case, steps)]

    def _looks(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for first in range(0, len(self.steps), 2):
            steps = self.steps[first : first + 2]
            named = re.search(r"project (\S+)$", steps[0]["note"])
            yield named[1] if named else "31-legacy-ingestion", steps

    def _look(self, case: str, steps: list[dict[str, Any]]) -> list[str]:
        replay = Replay(f"{self.server}/{case}")
        replay.differences()
        replay.clock.advance(PROPAGATION_SECONDS)
        replay.name, replay.recorded_moments, replay.answered_moments = self.name, Moments(), Moments()
        replay.steps = steps
        return replay.differences()


# Of caching, and the moment of each answer.
NOT_RECORDED = ("cache-control", "date")


def replay_of(name: str) -> Replay | Continued:
    """The replay of a recording by its name, SERVER/CASE."""
    return Continued(name) if name.endswith("31b-dual-propagated") else Replay(name)


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
    headers = {name: value for name, value in response.headers.items() if name not in NOT_RECORDED}
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
    if key == "data" and isinstance(items, list):
        return _with_ties_sorted(items)
    return sorted(items, key=json.dumps) if key in UNORDERED and isinstance(items, list) else items


def _with_ties_sorted(rows: list[Any]) -> list[Any]:
    """Rows of equal times by id: real traces change places from call to call, and v4 orders them by a hash."""
    ties = groupby(rows, key=lambda row: (row.get("startTime"), row.get("timestamp")))
    return [row for _, tied in ties for row in sorted(tied, key=lambda row: row.get("id", ""))]


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
