"""The sandbox Langfuse of the legacy generation (v3): a function from request to response, and a way to fill it."""

from __future__ import annotations

import base64
import binascii
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec

from tallymark.core.clock import Clock, parse_time
from tallymark.sandbox.wire import Request, Response

from . import ingestion, metrics, otlp, reads, scores
from .answers import Refusal, json_answer, page_not_found, text_answer
from .calls import Call
from .limits import RateLimit
from .parameters import ALL_GROUPS
from .records import Project
from .shapes import listed_trace, score_row
from .state import Moment, ProjectData
from .store import Settings, Store

DEFAULT_PROJECT = Project("proj-sandbox", "pk-lf-sandbox", "sk-lf-sandbox", "sandbox")

# 4.5 MB as the server's framework counts it (facts/langfuse-observed.md item 19).
BODY_BYTES_MAX = 4_718_592
_LOG_LINES_MAX = 100_000
_LOG_LINES_SHOWN = 1_000

Handler = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method on a path. `bucket` is its rate limit: "legacy", "other" or none."""

    method: str
    path: str
    handler: Handler
    bucket: str | None = None
    reads_json: bool = False
    advice: str = ""


_ADVICE = " Use GET /api/public/v2/observations?{}fromStartTime=<from>&toStartTime=<to> for high-volume reads."
_API = "/api/public"
ROUTES = (
    Route("GET", f"{_API}/projects", reads.list_projects),
    Route("GET", f"{_API}/traces", reads.list_traces, "legacy", advice=_ADVICE.format("")),
    Route("GET", f"{_API}/traces/{{traceId}}", reads.get_trace, "legacy", advice=_ADVICE.format("traceId={traceId}&")),
    Route("POST", f"{_API}/traces", ingestion.create_trace, reads_json=True),
    Route("DELETE", f"{_API}/traces", ingestion.delete_traces, reads_json=True),
    Route("DELETE", f"{_API}/traces/{{traceId}}", ingestion.delete_trace),
    Route("GET", f"{_API}/observations", reads.list_observations, "legacy", advice=_ADVICE.format("")),
    Route("GET", f"{_API}/observations/{{observationId}}", reads.get_observation, "legacy"),
    Route("GET", f"{_API}/sessions", reads.list_sessions, "legacy"),
    Route("GET", f"{_API}/sessions/{{sessionId}}", reads.get_session, "legacy"),
    Route("POST", f"{_API}/ingestion", ingestion.ingest, reads_json=True),
    Route("POST", f"{_API}/otel/v1/traces", otlp.export_traces),
    Route("POST", f"{_API}/scores", ingestion.create_score, "other", reads_json=True),
    Route("GET", f"{_API}/scores", scores.list_scores_v1, "legacy"),
    Route("GET", f"{_API}/scores/{{scoreId}}", scores.get_score, "legacy"),
    Route("DELETE", f"{_API}/scores/{{scoreId}}", ingestion.delete_score),
    Route("GET", f"{_API}/v2/scores", scores.list_scores_v2, "other"),
    Route("GET", f"{_API}/v2/scores/{{scoreId}}", scores.get_score, "other"),
    Route("GET", f"{_API}/v3/scores", scores.list_scores_v3, "other"),
    Route("GET", f"{_API}/metrics", metrics.metrics_v1),
    Route("GET", f"{_API}/metrics/daily", metrics.daily),
    Route("GET", f"{_API}/v2/metrics", metrics.metrics_v2),
    Route("GET", f"{_API}/v2/observations", reads.observations_v2, "other"),
)
_INGESTION = f"{_API}/ingestion"
_OPEN = (f"{_API}/health", f"{_API}/ready")


def _by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """Routes by path, then by method; "{}" stands for the id at the end of a path."""
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        head, _, last = route.path.rpartition("/")
        key = f"{head}/{{}}" if last.startswith("{") else route.path
        table.setdefault(key, {})[route.method] = route
    return table


class SandboxLangfuse:
    """A Langfuse server of version 3 in memory. Implements `wire.Service`; safe to call from many threads.

    - `visibility_seconds`: a write is answered at once and seen only after this time of the clock.
    - `rate_limit_per_minute`: of the legacy reads (15, 30 or 100 on Cloud); None for no limit, as self-hosted.
    - `resource_error_rows`: a trace list whose window holds more rows is answered 422.
    - `overcount_total_items`: `meta.totalItems` counts row versions as the real server does before merging.
    - `unstable_ties_seed`: traces of one timestamp change places between calls, repeatably.
    - `reject_no_date_range`, `default_fields`: the server options of facts/langfuse-observed.md item 23.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        projects: Sequence[Project] = (DEFAULT_PROJECT,),
        version: str = "3.225.4",
        visibility_seconds: float = 0.0,
        rate_limit_per_minute: int | None = None,
        resource_error_rows: int | None = None,
        overcount_total_items: bool = False,
        unstable_ties_seed: int | None = None,
        reject_no_date_range: bool = False,
        default_fields: Iterable[str] = ALL_GROUPS,
    ) -> None:
        settings = Settings(
            version=version,
            visibility_seconds=visibility_seconds,
            resource_error_rows=resource_error_rows,
            overcount_total_items=overcount_total_items,
            unstable_ties_seed=unstable_ties_seed,
            reject_no_date_range=reject_no_date_range,
            default_fields=frozenset(default_fields),
        )
        self._store = Store(clock, projects, settings)
        self._limit = RateLimit(clock, rate_limit_per_minute) if rate_limit_per_minute is not None else None
        self._routes = _by_path(ROUTES)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._log: deque[tuple[str, str, str]] = deque(maxlen=_LOG_LINES_MAX)

    # HTTP

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        with self._lock:
            self._store.settle()
            if request.path.startswith("/sandbox/"):
                return self._admin(request)
            try:
                response = self._answer(request)
            except Refusal as refusal:
                response = refusal.response
            # A write may be visible at once.
            self._store.settle()
            return response

    def _answer(self, request: Request) -> Response:
        if request.path in _OPEN:
            self._record(request, request.path)
            return json_answer(200, {"status": "OK", "version": self._store.settings.version})
        methods, path_id = self._find(request.path)
        route = methods.get(request.method)
        self._record(request, next(iter(methods.values())).path if methods else request.path)
        if not methods:
            return page_not_found()
        if route is None:
            return json_answer(405, {"message": "Method not allowed", "error": "MethodNotAllowedError"})
        body = _decoded_body(request) if route.reads_json else None
        data = self._authenticated(request, route)
        self._refuse_too_many(data, route)
        return route.handler(Call(self._store, data, request, path_id, body))

    def _find(self, path: str) -> tuple[dict[str, Route], str]:
        if path in self._routes:
            return self._routes[path], ""
        head, _, last = path.rpartition("/")
        return self._routes.get(f"{head}/{{}}", {}), unquote(last)

    def _authenticated(self, request: Request, route: Route) -> ProjectData:
        header = request.headers.get("authorization")
        keys = {data.project.public_key: data for data in self._store.projects.values()}
        scheme, _, credentials = (header or "").partition(" ")
        if scheme == "Bearer" and credentials in keys:
            if (route.method, route.path) == ("POST", f"{_API}/scores"):
                return keys[credentials]
            raise Refusal(json_answer(403, {"message": "Access denied - insufficient permissions for this endpoint"}))
        # The server finds a key by its secret alone (facts/langfuse.md section 8).
        secret = _secret(credentials) if scheme == "Basic" else None
        for data in self._store.projects.values():
            if secret is not None and secret == data.project.secret_key:
                return data
        raise _unauthorized(header, scheme, secret, request.path)

    def _refuse_too_many(self, data: ProjectData, route: Route) -> None:
        if self._limit is None or route.bucket is None:
            return
        line = f"{route.method} {route.path}"
        if refusal := self._limit.refusal(data.project.project_id, route.bucket, line, route.advice):
            raise Refusal(refusal)

    # What was received

    def _record(self, request: Request, template: str) -> None:
        self._counts[f"{request.method} {template}"] += 1
        self._log.append((request.method, request.path, urlencode(request.query)))

    def requests(self) -> list[tuple[str, str, str]]:
        """The last requests, oldest first: method, path, query. Bodies and keys are not kept."""
        with self._lock:
            return list(self._log)

    def counts(self) -> dict[str, int]:
        """How many requests of each kind came, by "METHOD /path/{id}"."""
        with self._lock:
            return dict(self._counts)

    def clear_requests(self) -> None:
        """Forget what was received."""
        with self._lock:
            self._log.clear()
            self._counts.clear()

    def _admin(self, request: Request) -> Response:
        """For a person with curl: no key, not counted."""
        if request.path == "/sandbox/requests":
            lines = [" ".join(line).rstrip() for line in list(self._log)[-_LOG_LINES_SHOWN:]]
            return json_answer(200, {"counts": dict(self._counts), "requests": lines})
        trace_id = unquote(request.path.removeprefix("/sandbox/traces/"))
        rows = [_full_row(data, trace_id) for data in self._store.projects.values() if trace_id in data.traces]
        return json_answer(200, rows) if rows else page_not_found()

    # Filling and looking without HTTP

    def put_trace(
        self, project_id: str, trace: Mapping[str, Any], observations: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Write a trace with its observations, visible at once.

        The shapes are those of ingestion bodies: `id`, `timestamp`, `name`, `userId`, `tags`, `metadata`, ...; and
        `bookmarked`. Observations: `startTime`, `endTime`, `model`, `usageDetails`, `costDetails`, `type` (default
        GENERATION), ...; `id` is made up if missing. Nothing is checked. Raises KeyError for an unknown project.
        """
        with self._lock:
            data, now_us = self._store.data(project_id), self._store.clock.now_us()
            # As if it had been sent when it happened: whatever is written from now on is newer.
            sent_us = parse_time(trace["timestamp"]) if "timestamp" in trace else now_us
            moment = Moment(sent_us, now_us, now_us)
            row = data.write_trace(trace["id"], trace, moment)
            row.bookmarked = bool(trace.get("bookmarked"))
            for index, body in enumerate(observations):
                given = {**body, "traceId": trace["id"]}
                observation_id = body.get("id") or f"{trace['id']}-{index}"
                data.write_observation(observation_id, body.get("type", "GENERATION"), given, moment)

    def bookmark(self, project_id: str, trace_id: str, *, bookmarked: bool = True) -> None:
        """Bookmark a trace as a person does in the user interface. Raises KeyError if it does not exist."""
        with self._lock:
            self._store.data(project_id).traces[trace_id].bookmarked = bookmarked

    def set_public(self, project_id: str, trace_id: str, *, public: bool = True) -> None:
        """Share a trace as a person does in the user interface. Raises KeyError if it does not exist."""
        with self._lock:
            self._store.data(project_id).traces[trace_id].public = public

    def delete_trace(self, project_id: str, trace_id: str) -> None:
        """Remove a trace with what it holds, at once."""
        with self._lock:
            self._store.data(project_id).delete_traces([trace_id])

    def duplicate_trace(self, project_id: str, trace_id: str, timestamp: str) -> None:
        """Give a trace a second row at another time, as ClickHouse keeps one of another date for ever."""
        with self._lock:
            self._store.data(project_id).duplicate_trace(trace_id, parse_time(timestamp))

    def trace(self, project_id: str, trace_id: str) -> dict[str, Any]:
        """The row that the list gives with all fields. Raises KeyError if the trace is not (yet) visible."""
        with self._lock:
            self._store.settle()
            data = self._store.data(project_id)
            return _full_row(data, data.traces[trace_id].id)

    def traces(self, project_id: str) -> Iterator[dict[str, Any]]:
        """Every visible trace as `trace` gives it, in the order of creation."""
        with self._lock:
            self._store.settle()
            trace_ids = list(self._store.data(project_id).traces)
        return (self.trace(project_id, trace_id) for trace_id in trace_ids)

    def scores(self, project_id: str, trace_id: str) -> list[dict[str, Any]]:
        """The scores of a trace as its detail gives them."""
        with self._lock:
            self._store.settle()
            rows = [score_row(one, project_id) for one in self._store.data(project_id).children(trace_id).scores]
            return [msgspec.to_builtins(row) for row in rows]


def _full_row(data: ProjectData, trace_id: str) -> dict[str, Any]:
    row = listed_trace(data.traces[trace_id], data.project.project_id)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(row))
    return decoded


def _decoded_body(request: Request) -> Any:
    """The JSON body, refused as the server's framework does before any handler runs (golden 06)."""
    if len(request.body) > BODY_BYTES_MAX:
        raise Refusal(text_answer(413, "Body exceeded 4.5mb limit"))
    if not request.body:
        return None
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(text_answer(400, "Invalid JSON")) from None


def _secret(credentials: str) -> str | None:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _unauthorized(header: str | None, scheme: str, secret: str | None, path: str) -> Refusal:
    """The 401 with the words of golden 06."""
    if header is None:
        message = "No authorization header"
    elif scheme == "Bearer":
        message = "Invalid public key. Confirm that you've configured the correct host."
    elif scheme != "Basic":
        message = "Invalid authorization header"
    elif secret is None:
        message = "Invalid character. Confirm that you've configured the correct host."
    else:
        message = "Invalid credentials. Confirm that you've configured the correct host."
    error = {"error": "UnauthorizedError"} if path == _INGESTION else {}
    return Refusal(json_answer(401, {**error, "message": message}))
