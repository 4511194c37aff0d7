"""The reads of scores: three versions of one list (golden 12 and 30, facts/langfuse.md section 5.4)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec

from tallymark.sandbox.wire import Response

from .answers import invalid_data, invalid_request, json_answer, not_found, page_not_found
from .calls import Call
from .generations import has_scores_v3
from .issues import Issue
from .parameters import Pairs, Parameters
from .records import Score, Trace
from .shapes import score_row_v1, score_row_v2, score_row_v3, score_value

_FILTERS: dict[str, Callable[[Score], str | None]] = {
    "id": lambda score: score.id,
    "scoreIds": lambda score: score.id,
    "name": lambda score: score.name,
    "source": lambda score: score.source,
    "dataType": lambda score: score.data_type,
    "environment": lambda score: score.environment,
    "traceId": lambda score: score.trace_id,
    "observationId": lambda score: score.observation_id,
    "sessionId": lambda score: score.session_id,
    "configId": lambda score: None,
    "queueId": lambda score: None,
}
_GROUPS_V3 = {"core", "details", "subject", "annotation"}
_KNOWN_V3 = {*_FILTERS, "limit", "cursor", "fields", "value", "valueMin", "valueMax", "fromTimestamp", "toTimestamp"}
_KNOWN_V3 -= {"scoreIds"}

Shape = Callable[[Score, str, Trace | None], dict[str, Any]]


def list_scores_v1(call: Call) -> Response:
    """GET /scores."""
    return _list(call, score_row_v1)


def list_scores_v2(call: Call) -> Response:
    """GET /v2/scores."""
    return _list(call, score_row_v2)


def get_score(call: Call) -> Response:
    """GET /scores/{id} and /v2/scores/{id}."""
    score = next((one for one in call.data.scores.values() if one.id == call.path_id), None)
    if score is None:
        raise not_found("Score not found within authorized project")
    return json_answer(200, score_row_v2(score, call.project_id, call.data.traces.get(score.trace_id or "")))


def _list(call: Call, shape: Shape) -> Response:
    given = Parameters(call.request.query)
    page = given.page()
    user_id = given.one("userId")
    scores = _found(call, given)
    given.refuse_if_wrong()
    traces = call.data.traces
    rows = [shape(one, call.project_id, traces.get(one.trace_id or "")) for one in scores]
    rows = [row for row in rows if user_id is None or (row["trace"] or {}).get("userId") == user_id]
    return json_answer(200, {"data": rows[page.start : page.start + page.limit], "meta": page.meta(len(rows))})


def list_scores_v3(call: Call) -> Response:
    """GET /v3/scores: pages by cursor; no cursor in `meta` on the last one."""
    if not has_scores_v3(call.store.settings.version):
        return page_not_found()
    query = call.request.query
    _refuse_unknown(query)
    given = Parameters(query)
    limit, groups = given.page().limit, _groups(given)
    scores = _with_values(given, _found(call, given))
    given.refuse_if_wrong()
    scores = _after_cursor(scores, given.one("cursor"))
    meta: dict[str, Any] = {"limit": limit}
    if len(scores) > limit:
        meta["cursor"] = _cursor(scores[limit - 1])
    return json_answer(
        200, {"data": [score_row_v3(one, call.project_id, groups) for one in scores[:limit]], "meta": meta}
    )


def _found(call: Call, given: Parameters) -> list[Score]:
    """The scores that the plain parameters select, newest first."""
    wanted = {name: frozenset(values) for name in _FILTERS if (values := _items(given, name))}
    from_us, to_us = given.time_us("fromTimestamp"), given.time_us("toTimestamp")
    scores = [one for one in _pool(call, wanted) if all(_FILTERS[name](one) in wanted[name] for name in wanted)]
    scores = [one for one in scores if from_us is None or one.timestamp_us >= from_us]
    scores = [one for one in scores if to_us is None or one.timestamp_us < to_us]
    return sorted(scores, key=_position, reverse=True)


def _pool(call: Call, wanted: dict[str, frozenset[str]]) -> list[Score]:
    if "traceId" not in wanted:
        return list(call.data.scores.values())
    return [score for trace_id in wanted["traceId"] for score in call.data.children(trace_id).scores]


def _items(given: Parameters, name: str) -> list[str]:
    return [text for text in given.items(name) if text]


def _position(score: Score) -> tuple[int, str]:
    return score.timestamp_us, score.id


def _refuse_unknown(query: Pairs) -> None:
    unknown = sorted({name for name, _ in query} - _KNOWN_V3)
    if unknown:
        issue: Issue = {"code": "unrecognized_keys", "keys": unknown, "path": [], "message": "Unrecognized keys"}
        raise invalid_data([issue])


def _groups(given: Parameters) -> frozenset[str]:
    groups = frozenset(_items(given, "fields"))
    if unknown := groups - _GROUPS_V3:
        raise invalid_request(f"Unknown field group: {', '.join(sorted(unknown))}")
    return groups


def _with_values(given: Parameters, scores: list[Score]) -> list[Score]:
    values = frozenset(_items(given, "value"))
    lower, upper = given.one("valueMin"), given.one("valueMax")
    if (values or lower or upper) and len(_items(given, "dataType")) != 1:
        raise invalid_request("value, valueMin and valueMax require exactly one dataType")
    scores = [one for one in scores if not values or _value_text(one) in values]
    scores = [one for one in scores if lower is None or one.value >= float(lower)]
    return [one for one in scores if upper is None or one.value <= float(upper)]


def _value_text(score: Score) -> str:
    value = score_value(score)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cursor(score: Score) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_position(score))).decode()


def _after_cursor(scores: list[Score], cursor: str | None) -> list[Score]:
    if cursor is None:
        return scores
    try:
        position = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[int, str])
    except (ValueError, msgspec.MsgspecError):
        raise invalid_request("Invalid cursor") from None
    return [one for one in scores if _position(one) < position]
