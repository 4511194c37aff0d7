"""The JSON rows of answers, key by key as the real server gives them (golden 01, 07, 12 and 30)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from .parameters import ALL_GROUPS
from .prices import Price, cost_details, price_of
from .records import EVERYTHING, Observation, Scope, Score, Trace, seconds
from .values import as_javascript, number, read_metadata, shared_time_text, time_text

_NULL = msgspec.Raw(b"null")
# What a group that was not asked for leaves behind: never a cost (facts/langfuse-observed.md item 2).
_NOT_ASKED = -1


class TraceCore(msgspec.Struct, rename="camel", gc=False):
    """The keys that every form of a trace has."""

    id: str
    project_id: str
    name: str
    timestamp: str
    environment: str
    tags: tuple[str, ...]
    bookmarked: bool
    release: str | None
    version: str | None
    user_id: str | None
    session_id: str | None
    public: bool
    input: msgspec.Raw
    output: msgspec.Raw
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


class ListedTrace(TraceCore, kw_only=True, rename="camel", gc=False):
    """A trace in GET /traces."""

    observations: list[str]
    scores: list[str]
    total_cost: int | float
    latency: int | float
    html_path: str
    external_id: None = None


class SessionTrace(TraceCore, rename="camel"):
    """A trace in GET /sessions/{id}."""

    external_id: None = None


class ObservationRow(msgspec.Struct, rename="camel"):
    """An observation, in GET /observations and in the trace detail."""

    id: str
    trace_id: str
    start_time: str
    end_time: str | None
    project_id: str
    parent_observation_id: str | None
    type: str
    environment: str
    name: str
    level: str
    status_message: str | None
    version: str | None
    created_at: str
    updated_at: str
    input: msgspec.Raw
    output: msgspec.Raw
    metadata: dict[str, Any]
    model: str | None
    model_parameters: dict[str, Any] | None
    completion_start_time: str | None
    prompt_id: None
    prompt_name: None
    prompt_version: None
    latency: int | float | None
    time_to_first_token: int | float | None
    usage_details: dict[str, int]
    cost_details: dict[str, int | float]
    usage_pricing_tier_id: str | None
    usage_pricing_tier_name: str | None
    model_id: str | None
    input_price: int | float | None
    output_price: int | float | None
    total_price: int | float | None
    calculated_input_cost: int | float | None
    calculated_output_cost: int | float | None
    calculated_total_cost: int | float
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    usage: dict[str, Any]
    unit: str = "TOKENS"


class ScoreRow(msgspec.Struct, rename="camel"):
    """A score in the trace detail."""

    id: str
    project_id: str
    environment: str
    name: str
    value: int | float
    source: str
    author_user_id: None
    comment: str | None
    metadata: dict[str, Any]
    config_id: None
    queue_id: None
    execution_trace_id: None
    created_at: str
    updated_at: str
    timestamp: str
    trace_id: str | None
    observation_id: str | None
    string_value: str | None
    data_type: str


class TraceDetail(TraceCore, kw_only=True, rename="camel"):
    """The answer of GET /traces/{id}."""

    external_id: None = None
    scores: list[ScoreRow]
    latency: int | float
    observations: list[ObservationRow]
    html_path: str
    total_cost: int | float


def listed_trace(
    trace: Trace, project_id: str, groups: frozenset[str] = ALL_GROUPS, scope: Scope = EVERYTHING
) -> ListedTrace:
    """One row of the trace list, with the field groups that were asked for."""
    children = trace.children
    totals = children.totals(scope) if "metrics" in groups else None
    observations = scope.observations(children) if "observations" in groups and children.observations else ()
    scores = scope.scores(children) if "scores" in groups and children.scores else ()
    return ListedTrace(
        *_core(trace, project_id, groups),
        observations=[one.id for one in observations],
        scores=[one.id for one in scores],
        total_cost=totals.cost_usd if totals else _NOT_ASKED,
        latency=totals.latency_s if totals else _NOT_ASKED,
        html_path=_html_path(trace, project_id),
    )


def trace_detail(trace: Trace, project_id: str, groups: frozenset[str] = ALL_GROUPS) -> TraceDetail:
    """A single trace: observations from one hour before it (facts/langfuse.md section 1.5), all scores."""
    scope, children = Scope(trace.timestamp_us), trace.children
    totals = children.totals(scope) if "metrics" in groups else None
    observations = scope.observations(children) if "observations" in groups else ()
    scores = children.scores if "scores" in groups else ()
    return TraceDetail(
        *_core(trace, project_id, groups),
        scores=[score_row(one, project_id) for one in scores],
        latency=totals.latency_s if totals else _NOT_ASKED,
        observations=[observation_row(one, project_id, missing_price=0) for one in observations],
        html_path=_html_path(trace, project_id),
        total_cost=totals.cost_usd if totals else _NOT_ASKED,
    )


def session_trace(trace: Trace, project_id: str) -> SessionTrace:
    """A trace as a session shows it."""
    return SessionTrace(*_core(trace, project_id, ALL_GROUPS))


def _core(trace: Trace, project_id: str, groups: Iterable[str]) -> tuple[Any, ...]:
    """The values of `TraceCore`, in its order: one call a row, because pages of a hundred must be quick."""
    io = "io" in groups
    return (
        trace.id,
        project_id,
        trace.name or "",
        time_text(trace.timestamp_us),
        trace.environment,
        trace.tags,
        trace.bookmarked,
        trace.release,
        trace.version,
        trace.user_id,
        trace.session_id,
        trace.public,
        _raw(trace.input) if io else _NULL,
        _raw(trace.output) if io else _NULL,
        read_metadata(trace.metadata) if io else {},
        shared_time_text(trace.created_us),
        shared_time_text(trace.updated_us),
    )


def _raw(encoded: bytes | None) -> msgspec.Raw:
    return _NULL if encoded is None else msgspec.Raw(encoded)


def _html_path(trace: Trace, project_id: str) -> str:
    return f"/project/{project_id}/traces/{trace.id}"


def observation_row(one: Observation, project_id: str, missing_price: int | None) -> ObservationRow:
    """One observation. A missing price reads null in the list and 0 in the trace detail (golden 01)."""
    price = price_of(one.model)
    costs = {key: _usd(cost) for key, cost in cost_details(one.cost_usd, one.model, one.usage).items()}
    usage = one.usage or {}
    tokens = {kind: sum(n for key, n in usage.items() if key.startswith(kind)) for kind in ("input", "output")}
    tokens["total"] = usage.get("total", 0)
    return ObservationRow(
        id=one.id,
        trace_id=one.trace_id,
        start_time=time_text(one.start_us),
        end_time=_optional_time(one.end_us),
        project_id=project_id,
        parent_observation_id=one.parent_id,
        type=one.type,
        environment=one.environment,
        name=one.name or "",
        level=one.level,
        status_message=one.status_message,
        version=one.version,
        created_at=shared_time_text(one.created_us),
        updated_at=shared_time_text(one.updated_us),
        input=_raw(one.input),
        output=_raw(one.output),
        metadata=read_metadata(one.metadata),
        model=one.model,
        model_parameters=as_javascript(one.model_parameters),
        completion_start_time=_optional_time(one.completion_start_us),
        prompt_id=None,
        prompt_name=None,
        prompt_version=None,
        latency=None if one.end_us is None else seconds(one.start_us, one.end_us),
        time_to_first_token=None if one.completion_start_us is None else seconds(one.start_us, one.completion_start_us),
        usage_details=usage,
        cost_details=costs,
        usage_pricing_tier_id=price.tier_id if price and usage else None,
        usage_pricing_tier_name=price.tier_name if price and usage else None,
        model_id=price.model_id if price else None,
        input_price=_unit_price(price, "input", missing_price),
        output_price=_unit_price(price, "output", missing_price),
        total_price=missing_price,
        calculated_input_cost=costs.get("input"),
        calculated_output_cost=costs.get("output"),
        calculated_total_cost=costs.get("total", 0),
        prompt_tokens=tokens["input"],
        completion_tokens=tokens["output"],
        total_tokens=tokens["total"],
        usage={"unit": "TOKENS", **tokens},
    )


def _usd(amount: Decimal) -> int | float:
    return number(float(amount))


def _unit_price(price: Price | None, kind: str, missing: int | None) -> int | float | None:
    return float(price.usd_per_unit[kind]) if price else missing


def _optional_time(moment_us: int | None) -> str | None:
    return None if moment_us is None else time_text(moment_us)


def score_row(score: Score, project_id: str) -> ScoreRow:
    """One score."""
    return ScoreRow(
        id=score.id,
        project_id=project_id,
        environment=score.environment,
        name=score.name,
        value=number(score.value),
        source=score.source,
        author_user_id=None,
        comment=score.comment,
        metadata=read_metadata(score.metadata),
        config_id=None,
        queue_id=None,
        execution_trace_id=None,
        created_at=time_text(score.created_us),
        updated_at=time_text(score.updated_us),
        timestamp=time_text(score.timestamp_us),
        trace_id=score.trace_id,
        observation_id=score.observation_id,
        string_value=score.string_value,
        data_type=score.data_type,
    )


def score_row_v1(score: Score, project_id: str, trace: Trace | None) -> dict[str, Any]:
    """A score in GET /scores, with a glance at its trace."""
    glance = None if trace is None else _glance(trace)
    return {**msgspec.to_builtins(score_row(score, project_id)), "trace": glance}


def score_row_v2(score: Score, project_id: str, trace: Trace | None) -> dict[str, Any]:
    """A score in GET /v2/scores."""
    glance = None if trace is None else {**_glance(trace), "sessionId": trace.session_id}
    row = msgspec.to_builtins(score_row(score, project_id))
    return {**row, "sessionId": score.session_id, "datasetRunId": None, "trace": glance}


def _glance(trace: Trace) -> dict[str, Any]:
    return {"userId": trace.user_id, "tags": trace.tags, "environment": trace.environment}


def score_row_v3(score: Score, project_id: str, groups: frozenset[str]) -> dict[str, Any]:
    """A score in GET /v3/scores: the core, and the groups details, subject and annotation when asked for."""
    row = score_row(score, project_id)
    shown: dict[str, Any] = {
        "id": row.id,
        "projectId": row.project_id,
        "name": row.name,
        "source": row.source,
        "timestamp": row.timestamp,
        "environment": row.environment,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
        "dataType": row.data_type,
        "value": score_value(score),
    }
    if "details" in groups:
        shown.update(comment=row.comment, metadata=row.metadata, configId=None)
    if "subject" in groups:
        shown.update(subject=_subject(score))
    if "annotation" in groups:
        shown.update(authorUserId=None, queueId=None)
    return shown


def _subject(score: Score) -> dict[str, Any]:
    if score.session_id is not None:
        return {"kind": "session", "id": score.session_id}
    if score.observation_id is not None:
        return {"kind": "observation", "id": score.observation_id, "traceId": score.trace_id}
    return {"kind": "trace", "id": score.trace_id}


def score_value(score: Score) -> Any:
    """The value of a score in its own type (facts/langfuse.md section 5.4)."""
    if score.data_type == "BOOLEAN":
        return score.value == 1
    return score.string_value if score.data_type != "NUMERIC" else number(score.value)
