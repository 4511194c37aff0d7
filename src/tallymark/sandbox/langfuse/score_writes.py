"""The writes of scores: POST /scores in both its forms, and the score-create of an ingestion batch.

Source: facts/langfuse.md section 5.4.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from tallymark.core.clock import parse_time
from tallymark.sandbox.wire import Response

from .answers import Refusal, invalid_data, json_answer, text_answer
from .calls import Call
from .issues import (
    Check,
    Issue,
    body_issues,
    datetime_issues,
    id_issues,
    invalid_option,
    missing,
    string_issues,
    wrong_type,
)
from .issues import Path as IssuePath
from .records import Score
from .state import Moment, ProjectData, tidy_environment, whole_milliseconds

# The default of the server's framework, which this route does not raise (facts/langfuse.md section 5.4).
BODY_BYTES_MAX = 2**20
SCORE_TYPES = ["NUMERIC", "CATEGORICAL", "BOOLEAN", "TEXT", "CORRECTION"]


def _score_type_issues(path: IssuePath, value: Any) -> list[Issue]:
    return [] if value in SCORE_TYPES else [invalid_option(path, SCORE_TYPES)]


SCORE_CHECKS: dict[str, Check] = {
    "id": id_issues,
    "traceId": string_issues,
    "observationId": string_issues,
    "sessionId": string_issues,
    "environment": string_issues,
    "comment": string_issues,
    "dataType": _score_type_issues,
}

# Only a list's items may say when (facts/langfuse.md section 5.4).
_LISTED_CHECKS = {**SCORE_CHECKS, "timestamp": datetime_issues}


def create_score(call: Call) -> Response:
    """POST /scores: one object up to version 4.16, a list on newer servers; neither takes the other's form."""
    if len(call.request.body) > BODY_BYTES_MAX:
        raise Refusal(text_answer(413, "Body exceeded 1mb limit"))
    return _create_list(call) if call.store.settings.scores_api == "list" else _create_one(call)


def _create_one(call: Call) -> Response:
    if issues := _issues_of(call.body, SCORE_CHECKS):
        raise invalid_data(issues)
    return json_answer(200, {"id": write_score_later(call, call.body)})


def _create_list(call: Call) -> Response:
    """202 if all are accepted; else 207 with counts, and the good ones are written."""
    if not isinstance(call.body, list):
        raise invalid_data([wrong_type((), "array", call.body)])
    errors = []
    for item in call.body:
        if issues := _issues_of(item, _LISTED_CHECKS):
            errors.append({"message": issues[0]["message"]})
        else:
            write_score_later(call, item, _timestamp_us(item))
    if not errors:
        return json_answer(202, {"message": "Accepted"})
    counts = {"accepted": len(call.body) - len(errors), "rejected": len(errors)}
    return json_answer(207, {**counts, "errors": errors})


def _issues_of(item: Any, checks: Mapping[str, Check]) -> list[Issue]:
    if not isinstance(item, Mapping):
        return [wrong_type((), "object", item)]
    return body_issues((), item, checks) + score_issues((), item)


def _timestamp_us(item: Mapping[str, Any]) -> int | None:
    return parse_time(item["timestamp"]) if item.get("timestamp") else None


def score_issues(path: IssuePath, body: Mapping[str, Any]) -> list[Issue]:
    """What a score lacks."""
    issues = []
    if not isinstance(body.get("name"), str):
        issues.append(missing((*path, "name"), "string"))
    if not isinstance(body.get("value"), str | int | float):
        issues.append(missing((*path, "value"), "number"))
    return issues


def write_score_later(call: Call, body: Mapping[str, Any], envelope_us: int | None = None) -> str:
    """Queue a checked score; gives its id, made up if there is none. `envelope_us` becomes its timestamp."""
    score_id = body.get("id") or str(uuid.uuid4())
    call.store.write(partial(_write_score, call.data, body, score_id), envelope_us)
    return score_id


def _write_score(data: ProjectData, body: Mapping[str, Any], score_id: str, moment: Moment) -> None:
    data.write_score(score_of(body, score_id, moment))


def score_of(body: Mapping[str, Any], score_id: str, moment: Moment) -> Score:
    """A score as it will be stored. The envelope's time is its timestamp (facts/langfuse.md section 5.4)."""
    value = body["value"]
    is_text = isinstance(value, str)
    data_type = body.get("dataType") or ("CATEGORICAL" if is_text else "NUMERIC")
    boolean_text = str(value == 1) if data_type == "BOOLEAN" else None
    return Score(
        id=score_id,
        name=body["name"],
        timestamp_us=whole_milliseconds(moment.envelope_us),
        data_type=data_type,
        value=0 if is_text else value,
        string_value=value if is_text else boolean_text,
        trace_id=body.get("traceId"),
        observation_id=body.get("observationId"),
        session_id=body.get("sessionId"),
        comment=body.get("comment"),
        metadata=body.get("metadata") or {},
        environment=tidy_environment(body.get("environment")),
        created_us=moment.created_us,
        updated_us=moment.visible_us,
    )


def delete_score(call: Call) -> Response:
    """DELETE /scores/{id}: 202, the score goes later (facts/langfuse.md section 5.4)."""
    call.store.write(lambda _: call.data.delete_score(call.path_id))
    return json_answer(202, {"message": "Score deletion request received successfully"})
