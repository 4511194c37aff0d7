"""The routes of the sandbox Langfuse: what answers, under which limit, and where it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tallymark.sandbox.wire import Response

from . import ingestion, metrics, otlp, reads, row_metrics, row_reads, score_writes, scores
from .calls import Call

API = "/api/public"
INGESTION = f"{API}/ingestion"
SCORES = f"{API}/scores"

Handler = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method on a path. `bucket` is its rate limit: "legacy", "other" or none.

    `legacy_only`: events_only answers 404 before it looks at the key (facts/langfuse.md section 0.2).
    """

    method: str
    path: str
    handler: Handler
    bucket: str | None = None
    reads_json: bool = False
    advice: str = ""
    legacy_only: bool = False


_ADVICE = " Use GET /api/public/v2/observations?{}fromStartTime=<from>&toStartTime=<to> for high-volume reads."
_TRACE_ADVICE = _ADVICE.format("traceId={traceId}&")
ROUTES = (
    Route("GET", f"{API}/projects", reads.list_projects),
    Route("GET", f"{API}/traces", reads.list_traces, "legacy", advice=_ADVICE.format(""), legacy_only=True),
    Route(
        "GET",
        f"{API}/traces/{{traceId}}",
        reads.get_trace,
        "legacy",
        advice=_ADVICE.format("traceId={traceId}&"),
        legacy_only=True,
    ),
    Route("POST", f"{API}/traces", ingestion.create_trace, reads_json=True, legacy_only=True),
    Route("DELETE", f"{API}/traces", ingestion.delete_traces, reads_json=True),
    Route("DELETE", f"{API}/traces/{{traceId}}", ingestion.delete_trace),
    Route("GET", f"{API}/observations", reads.list_observations, "legacy", advice=_ADVICE.format(""), legacy_only=True),
    Route("GET", f"{API}/observations/{{observationId}}", reads.get_observation, "legacy", legacy_only=True),
    Route("GET", f"{API}/sessions", reads.list_sessions, "legacy", legacy_only=True),
    Route("GET", f"{API}/sessions/{{sessionId}}", reads.get_session, "legacy", legacy_only=True),
    Route("POST", INGESTION, ingestion.ingest, reads_json=True),
    Route("POST", f"{API}/otel/v1/traces", otlp.export_traces),
    Route("POST", SCORES, score_writes.create_score, "other", reads_json=True),
    Route("GET", SCORES, scores.list_scores_v1, "legacy", legacy_only=True),
    Route("GET", f"{API}/scores/{{scoreId}}", scores.get_score, "legacy", legacy_only=True),
    Route("DELETE", f"{API}/scores/{{scoreId}}", score_writes.delete_score),
    Route("GET", f"{API}/v2/scores", scores.list_scores_v2, "other", legacy_only=True),
    Route("GET", f"{API}/v2/scores/{{scoreId}}", scores.get_score, "other", legacy_only=True),
    Route("GET", f"{API}/v3/scores", scores.list_scores_v3, "other"),
    Route("GET", f"{API}/metrics", metrics.metrics_v1, legacy_only=True),
    Route("GET", f"{API}/metrics/daily", metrics.daily, legacy_only=True),
    Route("GET", f"{API}/v2/metrics", row_metrics.metrics_v2),
    Route("GET", f"{API}/v2/observations", row_reads.list_rows, "other"),
)


def by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """Routes by path, then by method; "{}" stands for the id at the end of a path."""
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        head, _, last = route.path.rpartition("/")
        key = f"{head}/{{}}" if last.startswith("{") else route.path
        table.setdefault(key, {})[route.method] = route
    return table
