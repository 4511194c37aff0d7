"""The sandbox Langfuse: a function from request to response, and a way to fill it."""

from __future__ import annotations

import base64
import binascii
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec

from tallymark.core.clock import SECOND_US, Clock, parse_time
from tallymark.sandbox.wire import Request, Response

from .answers import Refusal, json_answer, page_not_found, text_answer
from .calls import Call
from .filling import AttributesOn, put_trace
from .generations import DEFAULT_VERSIONS, Generation, ScoresApi, gone_in_events_only
from .limits import RateLimit
from .parameters import ALL_GROUPS
from .propagation import backfill
from .records import Project
from .routes import API, INGESTION, ROUTES, SCORES, Route, by_path
from .row_shapes import all_groups
from .shapes import listed_trace, score_row
from .state import ProjectData
from .store import Settings, Store

DEFAULT_PROJECT = Project("proj-sandbox", "pk-lf-sandbox", "sk-lf-sandbox", "sandbox")

# 4.5 MB as the server's framework counts it (facts/langfuse-observed.md item 19).
BODY_BYTES_MAX = 4_718_592
_LOG_LINES_MAX = 100_000
_LOG_LINES_SHOWN = 1_000

_OPEN = (f"{API}/health", f"{API}/ready")


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /sandbox/generation."""

    generation: Generation
    version: str | None = None


class SandboxLangfuse:
    """A Langfuse server in memory. Implements `wire.Service`; safe to call from many threads.

    - `generation`: "legacy" (version 3, or 4 in that mode), "dual" or "events_only" (version 4); `set_generation`
      changes it. `version`: what health tells; 3.225.4 for legacy and 4.16.0 for the others if not given.
    - `scores_api`: what POST /scores takes: one "object", or a "list" as newer servers do.
    - `visibility_seconds`: a write is answered at once and seen only after this time of the clock.
    - `propagation_seconds`: in `dual`, until v2/observations shows what came by the ingestion API.
    - `unmerged_seconds`: a row of v2/observations that was written again stands there twice for this time.
    - `rate_limit_per_minute`: of the legacy reads (15, 30 or 100 on Cloud); None for no limit, as self-hosted.
    - `resource_error_rows`: a list of traces or observations whose window holds more rows is answered 422.
    - `overcount_total_items`: `meta.totalItems` counts row versions as the real server does before merging.
    - `unstable_ties_seed`: traces of one timestamp change places between calls, repeatably.
    - `reject_no_date_range`, `default_fields`: the server options of facts/langfuse-observed.md item 23.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        projects: Sequence[Project] = (DEFAULT_PROJECT,),
        generation: Generation = "legacy",
        version: str | None = None,
        scores_api: ScoresApi = "object",
        visibility_seconds: float = 0.0,
        propagation_seconds: float = 660.0,
        unmerged_seconds: float = 0.0,
        rate_limit_per_minute: int | None = None,
        resource_error_rows: int | None = None,
        overcount_total_items: bool = False,
        unstable_ties_seed: int | None = None,
        reject_no_date_range: bool = False,
        default_fields: Iterable[str] = ALL_GROUPS,
    ) -> None:
        settings = Settings(
            version=version or DEFAULT_VERSIONS[generation],
            generation=generation,
            scores_api=scores_api,
            visibility_seconds=visibility_seconds,
            propagation_seconds=propagation_seconds,
            unmerged_seconds=unmerged_seconds,
            resource_error_rows=resource_error_rows,
            overcount_total_items=overcount_total_items,
            unstable_ties_seed=unstable_ties_seed,
            reject_no_date_range=reject_no_date_range,
            default_fields=frozenset(default_fields),
        )
        self._clock = clock
        self._store = Store(clock, projects, settings)
        self._limit = RateLimit(clock, rate_limit_per_minute) if rate_limit_per_minute is not None else None
        self._routes = by_path(ROUTES)
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
            # As any HTTP server does, by its own clock.
            return replace(response, headers={**response.headers, "date": self._http_date()})

    def _http_date(self) -> str:
        return formatdate(self._clock.now_us() // SECOND_US, usegmt=True)

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
        if route.legacy_only and self._store.settings.generation == "events_only":
            raise gone_in_events_only()
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
            if (route.method, route.path) == ("POST", SCORES):
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
        if request.method == "POST" and request.path == "/sandbox/generation":
            return self._changed(request)
        if request.path == "/sandbox/requests":
            lines = [" ".join(line).rstrip() for line in list(self._log)[-_LOG_LINES_SHOWN:]]
            return json_answer(200, {"counts": dict(self._counts), "requests": lines})
        trace_id = unquote(request.path.removeprefix("/sandbox/traces/"))
        rows = [_full_row(data, trace_id) for data in self._store.projects.values() if trace_id in data.traces]
        return json_answer(200, rows) if rows else page_not_found()

    # Changing the server

    def set_generation(self, generation: Generation, version: str | None = None) -> None:
        """Make it a server of another generation, with the same data. `version` as in the constructor.

        Coming from legacy, everything that has no row in the v4 tables yet gets one, below a synthetic `t-` row.
        """
        with self._lock:
            self._change(generation, version)

    def _change(self, generation: Generation, version: str | None) -> None:
        self._store.settle()
        before = self._store.settings
        version = version or DEFAULT_VERSIONS[generation]
        self._store.settings = replace(before, generation=generation, version=version)
        if before.generation == "legacy" and generation != "legacy":
            for data in self._store.projects.values():
                backfill(self._store, data)

    def _changed(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(request.body, type=_Change)
        except msgspec.MsgspecError as problem:
            return json_answer(400, {"message": str(problem)})
        self._change(wanted.generation, wanted.version)
        return json_answer(200, {"generation": wanted.generation, "version": self._store.settings.version})

    # Filling and looking without HTTP

    def put_trace(
        self,
        project_id: str,
        trace: Mapping[str, Any],
        observations: Iterable[Mapping[str, Any]] = (),
        *,
        attributes_on: AttributesOn = "every",
    ) -> None:
        """Write a trace with its observations, visible at once.

        The shapes are those of ingestion bodies: `id`, `timestamp`, `name`, `userId`, `tags`, `metadata`, ...; and
        `bookmarked`. Observations: `startTime`, `endTime`, `model`, `usageDetails`, `costDetails`, `type` (default
        GENERATION), ...; `id` is made up if missing. Nothing is checked. Raises KeyError for an unknown project.

        In dual and events_only the observations are rows of v2/observations too, with user, session, tags and metadata
        of the trace on "every" row, as SDK 4 and 5 send them, or on the "root" rows, those without a
        `parentObservationId`, as SDK 3 does. A trace without observations has only its synthetic row there.
        """
        with self._lock:
            put_trace(self._store, self._store.data(project_id), trace, observations, attributes_on)

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

    def rows(self, project_id: str, trace_id: str) -> list[dict[str, Any]]:
        """The rows of a trace in the v4 tables with all fields, in the order they came; whatever the generation."""
        with self._lock:
            self._store.settle()
            rows = self._store.data(project_id).children(trace_id).rows
            decoded: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(all_groups(rows, project_id)))
            return decoded

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
    error = {"error": "UnauthorizedError"} if path == INGESTION else {}
    return Refusal(json_answer(401, {**error, "message": message}))
