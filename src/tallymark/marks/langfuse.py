"""Marks on traces through POST /ingestion, in batches: tag and metadata, or a score.

An upsert of a trace adds to its tags and metadata, and resets `public` and `bookmarked`; so what is known is sent
again, and a bookmarked trace is marked by score (facts/langfuse.md section 5.2, facts/langfuse-observed.md items 6-8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..core.clock import Clock, format_time
from ..core.ids import digest, score_id
from ..errors import NotFound, Refused, RemoteError, WrongMode
from ..remote.langfuse import LangfuseClient
from .scores import post_scores

# Langfuse refuses bodies of more than 4.5 MB (facts/langfuse.md section 5.1); some room is left for the frame.
BODY_BYTES_MAX = 4_600_000
PROCESSED = "processed"
STATUS_NAME = "billing_status"
# What events_only servers say of ingestion events they no longer take (facts/langfuse.md section 5.1).
NOT_ACCEPTED = "not accepted"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark to write. `details`, JSON, become the metadata `billing_details`; None leaves that metadata alone."""

    project_id: str
    trace_id: str
    timestamp_us: int
    environment: str
    public: bool
    by_score: bool
    meter_event_id: str | None
    details: msgspec.Raw | dict[str, Any] | None
    kept: dict[str, str] = field(default_factory=dict)
    """name, userId, sessionId, release and version as they were."""
    pending_only: bool = False
    """Backfill: add the tag billing:pending and nothing else."""


Chunk = dict[str, tuple[Mark, bytes]]
"""The marks of one request, with their encoded ingestion events, by the id of each."""


@dataclass(slots=True)
class Written:
    """Which marks the server took, and which it refused and why, by (project_id, trace_id)."""

    taken: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)


class _IngestionError(msgspec.Struct):
    id: str
    status: int = 0
    message: str | None = None
    error: object = None


class _IngestionAnswer(msgspec.Struct):
    errors: list[_IngestionError]
    successes: msgspec.Raw


_decode_answer = msgspec.json.Decoder(_IngestionAnswer).decode


class LangfuseMarks:
    """Writes marks to one project. A refusal of one mark is a value; an unusable server raises RemoteError."""

    def __init__(self, client: LangfuseClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._scores_by_post = False

    def write(self, marks: Iterator[Mark]) -> Iterator[Written]:
        """Write marks, as many a request as fit; yields what became of each request.

        A 207 is looked into: what stands under `errors` was refused.
        """
        now = format_time(self._clock.now_us())
        for chunk in _chunks(marks, now):
            yield self._write_chunk(chunk)

    def _write_chunk(self, chunk: Chunk) -> Written:
        if self._scores_by_post and _only_scores(chunk):
            return self._post_scores(chunk)
        try:
            return self._ingest(chunk)
        except (NotFound, Refused, WrongMode, _ScoresRefused) as error:
            if not _only_scores(chunk):
                return Written(refused={_key(mark): str(error) for mark, _ in chunk.values()})
            # This server takes no scores by ingestion; it is asked the other way from now on.
            self._scores_by_post = True
            return self._post_scores(chunk)
        except RemoteError as error:
            return Written(refused={_key(mark): str(error) for mark, _ in chunk.values()})

    def _ingest(self, chunk: Chunk) -> Written:
        body = b'{"batch":[' + b",".join(encoded for _, encoded in chunk.values()) + b"]}"
        answer = self._client.post("/api/public/ingestion", body, _decode_answer)
        problems = {error.id: self._client.told(f"{error.status} {error.message or ''}") for error in answer.errors}
        if len(problems) == len(chunk) and all(NOT_ACCEPTED in problem for problem in problems.values()):
            raise _ScoresRefused(next(iter(problems.values())))
        written = Written()
        for event_id, (mark, _) in chunk.items():
            if event_id in problems:
                written.refused[_key(mark)] = problems[event_id]
            else:
                written.taken.append(_key(mark))
        return written

    def _post_scores(self, chunk: Chunk) -> Written:
        try:
            refused = post_scores(self._client, [_score_of(mark) for mark, _ in chunk.values()])
        except (RemoteError, NotFound) as error:
            return Written(refused={_key(mark): str(error) for mark, _ in chunk.values()})
        written = Written()
        for mark, _ in chunk.values():
            if (problem := refused.get(score_id(*_key(mark)))) is not None:
                written.refused[_key(mark)] = problem
            else:
                written.taken.append(_key(mark))
        return written


class _ScoresRefused(Exception):
    """The server took the batch, and refused every score in it for its kind."""


def _only_scores(chunk: Chunk) -> bool:
    return all(mark.by_score for mark, _ in chunk.values())


def _score_of(mark: Mark) -> dict[str, Any]:
    """A score as POST /scores takes it: the time stands inside."""
    return {**_score_body(mark), "timestamp": format_time(mark.timestamp_us)}


def _key(mark: Mark) -> tuple[str, str]:
    return mark.project_id, mark.trace_id


def _chunks(marks: Iterator[Mark], now: str) -> Iterator[Chunk]:
    chunk: Chunk = {}
    size = 0
    for mark in marks:
        event = _score_create(mark) if mark.by_score else _trace_create(mark, now)
        encoded = _encode(event)
        if chunk and size + len(encoded) + 1 > BODY_BYTES_MAX:
            yield chunk
            chunk, size = {}, 0
        chunk[event["id"]] = (mark, encoded)
        size += len(encoded) + 1
    if chunk:
        yield chunk


def _trace_create(mark: Mark, now: str) -> dict[str, Any]:
    """An upsert of the trace; its envelope is dated now, so that it is merged after what is there already."""
    body: dict[str, Any] = {
        "id": mark.trace_id,
        "timestamp": format_time(mark.timestamp_us),
        "environment": mark.environment,
        **mark.kept,
    }
    if mark.public:
        body["public"] = True
    if mark.pending_only:
        return _event("trace-create", now, {**body, "tags": ["billing:pending"]})
    metadata: dict[str, Any] = {STATUS_NAME: PROCESSED}
    if mark.details is not None:
        metadata |= {"meter_event_id": mark.meter_event_id, "billing_details": mark.details}
    return _event("trace-create", now, {**body, "tags": ["billing:processed"], "metadata": metadata})


def _score_create(mark: Mark) -> dict[str, Any]:
    """A score with a deterministic id, dated like its trace: writing it twice leaves one (facts/langfuse.md 5.4)."""
    return _event("score-create", format_time(mark.timestamp_us), _score_body(mark))


def _score_body(mark: Mark) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": score_id(mark.project_id, mark.trace_id),
        "traceId": mark.trace_id,
        "name": STATUS_NAME,
        "dataType": "CATEGORICAL",
        "value": PROCESSED,
        "environment": mark.environment,
    }
    if mark.details is not None:
        body["metadata"] = {"meter_event_id": mark.meter_event_id, "billing_details": mark.details}
    return body


def _event(kind: str, timestamp: str, body: dict[str, Any]) -> dict[str, Any]:
    """The envelope. Its id comes from its content, so that a repeated request is the same ingestion event."""
    return {
        "id": digest(f"{kind} {timestamp} {_encode(body).decode()}", 24),
        "type": kind,
        "timestamp": timestamp,
        "body": body,
    }
