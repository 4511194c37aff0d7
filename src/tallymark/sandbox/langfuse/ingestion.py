"""POST /ingestion and its smaller kin: each item checked by itself, then queued (facts/langfuse.md section 5.1)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from tallymark.core.clock import parse_time
from tallymark.sandbox.wire import Response

from .answers import Refusal, invalid_data, json_answer
from .calls import Call
from .generations import is_taken, not_taken
from .issues import (
    Check,
    Issue,
    body_issues,
    boolean_issues,
    datetime_issues,
    id_issues,
    invalid_option,
    missing,
    no_discriminator,
    object_issues,
    string_issues,
    strings_issues,
    type_name,
    wrong_type,
)
from .issues import Path as IssuePath
from .propagation import propagate_observation_later, propagate_trace_later
from .score_writes import SCORE_CHECKS, score_issues, write_score_later

NAME_LENGTH_MAX = 1000
_KINDS = ("span", "generation", "event", "agent", "tool", "chain", "retriever", "evaluator", "embedding", "guardrail")
OBSERVATION_TYPES = {f"{kind}-create": kind.upper() for kind in _KINDS} | {
    "span-update": "SPAN",
    "generation-update": "GENERATION",
}
_LEVELS = ["DEBUG", "DEFAULT", "WARNING", "ERROR"]


def _level_issues(path: IssuePath, value: Any) -> list[Issue]:
    return [] if value in _LEVELS else [invalid_option(path, _LEVELS)]


_name_issues = partial(string_issues, length_max=NAME_LENGTH_MAX)
_TRACE_CHECKS: dict[str, Check] = {
    "id": id_issues,
    "timestamp": datetime_issues,
    "name": _name_issues,
    "sessionId": string_issues,
    "userId": string_issues,
    "environment": string_issues,
    "release": string_issues,
    "version": string_issues,
    "public": boolean_issues,
    "tags": strings_issues,
}
_OBSERVATION_CHECKS: dict[str, Check] = {
    "id": id_issues,
    "traceId": string_issues,
    "environment": string_issues,
    "name": string_issues,
    "startTime": datetime_issues,
    "level": _level_issues,
    "statusMessage": string_issues,
    "parentObservationId": string_issues,
    "version": string_issues,
    "endTime": datetime_issues,
    "completionStartTime": datetime_issues,
    "model": string_issues,
    "modelParameters": object_issues,
    "usage": object_issues,
    "usageDetails": object_issues,
    "costDetails": object_issues,
}


def ingest(call: Call) -> Response:
    """POST /ingestion: always 207, with one word for each item."""
    batch = call.body.get("batch") if isinstance(call.body, Mapping) else None
    if not isinstance(batch, list):
        present = isinstance(call.body, Mapping) and "batch" in call.body
        message = f"Invalid input: expected array, received {type_name(batch) if present else 'undefined'}"
        raise Refusal(json_answer(400, {"message": "Invalid request data", "errors": [message]}))
    successes, errors = [], []
    for item in batch:
        if not is_taken(item, call.store.settings.generation):
            errors.append(not_taken(item))
        elif issues := item_issues(item):
            errors.append(_error(item, issues))
        else:
            accept_item(call, item)
            successes.append({"id": item["id"], "status": 201})
    return json_answer(207, {"successes": successes, "errors": errors})


def _error(item: Any, issues: list[Issue]) -> dict[str, Any]:
    known = isinstance(item, Mapping) and isinstance(item.get("id"), str)
    detail = json.dumps(issues, indent=2, ensure_ascii=False)
    return {
        "id": item["id"] if known else "unknown",
        "status": 400,
        "message": "Invalid request data",
        "error": detail,
    }


def item_issues(item: Any) -> list[Issue]:
    """What is wrong with one item of a batch."""
    if not isinstance(item, Mapping):
        return [wrong_type((), "object", item)]
    kind = item.get("type")
    checks = _checks(kind) if isinstance(kind, str) else None
    if checks is None:
        return [no_discriminator(("type",))]
    issues = _required(item, "id", id_issues) + _required(item, "timestamp", datetime_issues)
    body = item.get("body")
    if not isinstance(body, Mapping):
        return [*issues, wrong_type(("body",), "object", body)]
    required = score_issues(("body",), body) if kind == "score-create" else []
    return issues + body_issues(("body",), body, checks) + required


def _checks(kind: str) -> dict[str, Check] | None:
    if kind in OBSERVATION_TYPES:
        return _OBSERVATION_CHECKS
    return {"trace-create": _TRACE_CHECKS, "score-create": SCORE_CHECKS, "sdk-log": {}}.get(kind)


def _required(item: Mapping[str, Any], name: str, check: Check) -> list[Issue]:
    return check((name,), item[name]) if name in item else [missing((name,), "string")]


def accept_item(call: Call, item: Mapping[str, Any]) -> None:
    """Queue one checked item. A trace or observation without an id is accepted and never seen (observed item 20)."""
    kind, body, envelope_us = item["type"], item["body"], parse_time(item["timestamp"])
    if kind == "score-create":
        write_score_later(call, body, envelope_us)
    elif kind == "trace-create" and body.get("id"):
        call.store.write(partial(call.data.write_trace, body["id"], body), envelope_us)
        propagate_trace_later(call.store, call.data, body["id"])
    elif kind in OBSERVATION_TYPES and body.get("id"):
        write = partial(call.data.write_observation, body["id"], OBSERVATION_TYPES[kind], body)
        call.store.write(write, envelope_us)
        propagate_observation_later(call.store, call.data, body["id"])


def create_trace(call: Call) -> Response:
    """POST /traces: one trace-create body."""
    if not isinstance(call.body, Mapping):
        raise invalid_data([wrong_type((), "object", call.body)])
    if issues := body_issues((), call.body, _TRACE_CHECKS):
        raise invalid_data(issues)
    trace_id = call.body.get("id") or str(uuid.uuid4())
    call.store.write(partial(call.data.write_trace, trace_id, call.body))
    propagate_trace_later(call.store, call.data, trace_id)
    return json_answer(200, {"id": trace_id})


def delete_trace(call: Call) -> Response:
    """DELETE /traces/{id}: 200 at once, also for an unknown id; the rows go later."""
    _delete_later(call, [call.path_id])
    return json_answer(200, {"message": "Trace deleted successfully"})


def delete_traces(call: Call) -> Response:
    """DELETE /traces."""
    trace_ids = call.body.get("traceIds") if isinstance(call.body, Mapping) else None
    if trace_ids == []:
        start = {"origin": "array", "code": "too_small", "minimum": 1, "inclusive": True}
        raise invalid_data([{**start, "path": ["traceIds"], "message": "At least 1 traceId is required."}])
    if issues := strings_issues(("traceIds",), trace_ids):
        raise invalid_data(issues)
    _delete_later(call, trace_ids or [])
    return json_answer(200, {"message": "Traces deleted successfully"})


def _delete_later(call: Call, trace_ids: list[str]) -> None:
    call.store.write(lambda _: call.data.delete_traces(trace_ids))
