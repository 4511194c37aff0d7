"""The data of one project: writes are merged into it as the server's worker would, reads find their rows in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tallymark.core.clock import DAY_US, SECOND_US, parse_time

from .ordered import Ordered
from .records import Children, Observation, Project, Score, Trace, assign
from .rows import position
from .selection import Selections
from .timeline import Timeline
from .values import as_metadata, merged, stored_json

_TRACE_TEXTS = {
    "name": "name",
    "userId": "user_id",
    "sessionId": "session_id",
    "release": "release",
    "version": "version",
}
_OBSERVATION_TEXTS = {
    "name": "name",
    "parentObservationId": "parent_id",
    "model": "model",
    "modelParameters": "model_parameters",
    "statusMessage": "status_message",
    "version": "version",
}
_OBSERVATION_TIMES = {"startTime": "start_us", "endTime": "end_us", "completionStartTime": "completion_start_us"}
_USAGE_NAMES = {
    "promptTokens": "input",
    "completionTokens": "output",
    "totalTokens": "total",
    "prompt_tokens": "input",
    "completion_tokens": "output",
    "total_tokens": "total",
}
_USAGE_COSTS = {"inputCost": "input", "outputCost": "output", "totalCost": "total"}


@dataclass(frozen=True, slots=True)
class Moment:
    """The times of one write: what its envelope says, when it was posted, when it becomes visible."""

    envelope_us: int
    posted_us: int
    visible_us: int

    @property
    def created_us(self) -> int:
        """What createdAt shows: whole seconds (facts/langfuse-observed.md item 1)."""
        return self.posted_us - self.posted_us % SECOND_US


class ProjectData:
    """Traces, observations and scores of one project. `version` moves with every write."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.traces: dict[str, Trace] = {}
        self.observations: dict[str, Observation] = {}
        self.scores: dict[tuple[str, str, int], Score] = {}
        self.timeline = Timeline()
        self.rows: Ordered[Observation] = Ordered(position)
        self.selections = Selections()
        self.version = 0
        self._orphans: dict[str, Children] = {}
        self._duplicates: dict[str, list[Trace]] = {}

    # Writes

    def write_trace(self, trace_id: str, body: Mapping[str, Any], moment: Moment) -> Trace:
        """Create a trace or merge into it (facts/langfuse-observed.md items 6 to 8). A mark may so create a ghost."""
        trace = self.traces.get(trace_id) or self._new_trace(trace_id, body, moment)
        merge_trace(trace, body, moment)
        self.version += 1
        return trace

    def write_observation(self, observation_id: str, kind: str, body: Mapping[str, Any], moment: Moment) -> Observation:
        """Create an observation or merge into it. Its trace need not exist, and is not touched (item 16)."""
        known = self._to_be_merged(observation_id)
        observation = known or self._new_observation(observation_id, kind, body, moment)
        merge_observation(observation, body, moment)
        self._home(observation.trace_id).changed()
        self.version += 1
        return observation

    def write_row(self, row: Observation) -> tuple[Observation, ...]:
        """Add a row to the v4 tables. Gives back its earlier versions, which ClickHouse merges away some time later.

        Versions of another start time stay for ever (facts/langfuse.md section 5.3).
        """
        children = self._home(row.trace_id)
        older = tuple(one for one in children.rows if one.id == row.id and one.start_us == row.start_us)
        children.rows = (*children.rows, row)
        self.rows.add(row)
        return older

    def drop_rows(self, rows: Iterable[Observation]) -> None:
        """Remove rows of the v4 tables, as far as they are still there."""
        for row in rows:
            children = self._home(row.trace_id)
            if row in children.rows:
                children.rows = tuple(one for one in children.rows if one is not row)
                self.rows.remove(row)

    def write_score(self, score: Score) -> None:
        """Create or replace a score. The day, the name and the id make it one (facts/langfuse.md section 5.4)."""
        key = (score.id, score.name, score.timestamp_us // DAY_US)
        known = self.scores.get(key)
        if known is not None:
            score = replace(score, timestamp_us=known.timestamp_us, trace_id=known.trace_id)
            score = replace(score, environment=known.environment, created_us=known.created_us)
        self._drop_score(key)
        self.scores[key] = score
        if score.trace_id is not None:
            children = self._home(score.trace_id)
            children.scores = (*children.scores, score)
        self.version += 1

    def delete_traces(self, trace_ids: Iterable[str]) -> None:
        """Remove traces with what they hold; unknown ids do no harm (facts/langfuse-observed.md item 18)."""
        for trace_id in trace_ids:
            trace = self.traces.pop(trace_id, None)
            children = self._orphans.pop(trace_id, None) or (trace.children if trace else Children())
            for duplicate in [trace, *self._duplicates.pop(trace_id, [])] if trace else []:
                self.timeline.remove(duplicate)
            for observation in children.observations:
                self.observations.pop(observation.id, None)
            for row in children.rows:
                self.rows.remove(row)
            for score in children.scores:
                self.scores.pop((score.id, score.name, score.timestamp_us // DAY_US), None)
        self.version += 1

    def delete_score(self, score_id: str) -> None:
        """Remove every score of an id."""
        for key in [key for key in self.scores if key[0] == score_id]:
            self._drop_score(key)
        self.version += 1

    def duplicate_trace(self, trace_id: str, timestamp_us: int) -> None:
        """Add a second row of a trace id at another time, as ClickHouse keeps it (facts/langfuse.md section 1.6)."""
        duplicate = replace(self.traces[trace_id], timestamp_us=timestamp_us)
        self._duplicates.setdefault(trace_id, []).append(duplicate)
        self.timeline.add(duplicate)
        self.version += 1

    # Reads

    def children(self, trace_id: str) -> Children:
        """The observations and scores of a trace id, whether or not the trace exists."""
        trace = self.traces.get(trace_id)
        return trace.children if trace else self._orphans.get(trace_id) or Children()

    # Parts of the above

    def _home(self, trace_id: str) -> Children:
        """Where to put observations and scores of a trace id: in its trace, or aside until that comes."""
        trace = self.traces.get(trace_id)
        return trace.children if trace else self._orphans.setdefault(trace_id, Children())

    def _to_be_merged(self, observation_id: str) -> Observation | None:
        """The record to merge into; a copy takes the place of one that is a row of the v4 tables too."""
        known = self.observations.get(observation_id)
        if known is None or known.context is None:
            return known
        copy = replace(known, context=None)
        children = self._home(known.trace_id)
        children.observations = tuple(copy if one is known else one for one in children.observations)
        self.observations[observation_id] = copy
        return copy

    def _new_trace(self, trace_id: str, body: Mapping[str, Any], moment: Moment) -> Trace:
        given = body.get("timestamp")
        trace = Trace(
            id=trace_id,
            timestamp_us=whole_milliseconds(parse_time(given) if given else moment.envelope_us),
            children=self._orphans.pop(trace_id) if trace_id in self._orphans else Children(),
            environment=tidy_environment(body.get("environment")),
            created_us=moment.created_us,
        )
        self.traces[trace_id] = trace
        self.timeline.add(trace)
        return trace

    def _new_observation(self, observation_id: str, kind: str, body: Mapping[str, Any], moment: Moment) -> Observation:
        observation = Observation(
            id=observation_id,
            trace_id=body.get("traceId") or observation_id,
            start_us=whole_milliseconds(moment.envelope_us),
            type=kind,
            environment=tidy_environment(body.get("environment")),
            created_us=moment.created_us,
        )
        children = self._home(observation.trace_id)
        children.observations = (*children.observations, observation)
        self.observations[observation_id] = observation
        return observation

    def _drop_score(self, key: tuple[str, str, int]) -> None:
        score = self.scores.pop(key, None)
        if score is not None and score.trace_id is not None:
            children = self._home(score.trace_id)
            children.scores = tuple(one for one in children.scores if one is not score)


def merge_trace(trace: Trace, body: Mapping[str, Any], moment: Moment) -> None:
    """Merge one trace-create. Tags unite, metadata merges, timestamp and environment stay, the rest is newest wins."""
    older = trace.is_older(moment.envelope_us)
    changes = {field: body[key] for key, field in _TRACE_TEXTS.items() if key in body}
    changes.update((key, stored_json(body[key])) for key in ("input", "output") if body.get(key) is not None)
    assign(trace, changes, moment.envelope_us)
    if body.get("tags"):
        trace.tags = tuple(sorted({*trace.tags, *body["tags"]}, key=str.encode))
    trace.metadata = _merged_metadata(trace.metadata, body.get("metadata"), older=older)
    if not older:
        # Every upsert resets both (facts/langfuse.md section 5.2).
        trace.public, trace.bookmarked = bool(body.get("public")), False
    trace.updated_us = moment.visible_us
    trace.writes += 1


def merge_observation(observation: Observation, body: Mapping[str, Any], moment: Moment) -> None:
    """Merge one span, generation or EVENT observation; new usage is priced anew (observed item 17)."""
    older = moment.envelope_us < observation.envelope_us
    changes = {field: body[key] for key, field in _OBSERVATION_TEXTS.items() if key in body}
    changes.update((field, _time_us(body[key])) for key, field in _OBSERVATION_TIMES.items() if body.get(key))
    changes.update((key, stored_json(body[key])) for key in ("input", "output") if body.get(key) is not None)
    if body.get("level"):
        changes["level"] = body["level"]
    changes.update(_usage_and_cost(body))
    assign(observation, changes, moment.envelope_us)
    observation.metadata = _merged_metadata(observation.metadata, body.get("metadata"), older=older)
    observation.updated_us = moment.visible_us


def _merged_metadata(known: Mapping[str, Any], given: Any, *, older: bool) -> Mapping[str, Any]:
    new = as_metadata(given)
    if not new or not known:
        return new or known
    result: Mapping[str, Any] = merged(new, known) if older else merged(known, new)
    return result


def _usage_and_cost(body: Mapping[str, Any]) -> dict[str, Any]:
    """Usage and cost from the new names (usageDetails, costDetails) or the old one (usage)."""
    usage = body.get("usageDetails") or body.get("usage") or {}
    cost = body.get("costDetails") or {
        short: usage[key] for key, short in _USAGE_COSTS.items() if usage.get(key) is not None
    }
    units = {_USAGE_NAMES.get(key, key): value for key, value in usage.items() if _is_units(value)}
    units = {key: value for key, value in units.items() if key not in _USAGE_COSTS}
    changes: dict[str, Any] = {}
    if units:
        changes["usage"] = {**units, "total": units.get("total", sum(units.values()))}
    if given := {key: value for key, value in cost.items() if isinstance(value, int | float)}:
        changes["cost_usd"] = given
    return changes


def _is_units(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _time_us(text: str) -> int:
    return whole_milliseconds(parse_time(text))


def whole_milliseconds(moment_us: int) -> int:
    """A moment as ClickHouse keeps it, without its microseconds."""
    return moment_us - moment_us % 1000


@lru_cache(maxsize=1_024)
def tidy_environment(given: str | None) -> str:
    """The environment as the server rewrites it: lower case, without the reserved prefix (observed item 20)."""
    return re.sub("^langfuse-?", "", (given or "").lower()) or "default"
