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
from ..errors import RemoteError
from ..remote.langfuse import LangfuseClient

# Langfuse refuses bodies of more than 4.5 MB (facts/langfuse.md section 5.1); some room is left for the frame.
BODY_BYTES_MAX = 4_600_000
PROCESSED = "processed"
STATUS_NAME = "billing_status"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark to write. `details` become the metadata `billing_details`; None leaves that metadata alone."""

    project_id: str
    trace_id: str
    timestamp_us: int
    environment: str
    public: bool
    by_score: bool
    meter_event_id: str | None
    details: dict[str, Any] | None
    kept: dict[str, str] = field(default_factory=dict)
    """name, userId, sessionId, release and version as they were."""
    pending_only: bool = False
    """Backfill: add the tag billing:pending and nothing else."""


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
    successes: list[object]


_decode_answer = msgspec.json.Decoder(_IngestionAnswer).decode


class LangfuseMarks:
    """Writes marks to one project. A refusal of one mark is a value; an unusable server raises RemoteError."""

    def __init__(self, client: LangfuseClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def write(self, marks: Iterator[Mark]) -> Iterator[Written]:
        """Write marks, as many a request as fit; yields what became of each request.

        A 207 is looked into: what stands under `errors` was refused.
        """
        now = format_time(self._clock.now_us())
        for chunk in _chunks(marks, now):
            yield self._write_chunk(chunk)

    def _write_chunk(self, chunk: dict[str, tuple[Mark, bytes]]) -> Written:
        written = Written()
        body = b'{"batch":[' + b",".join(encoded for _, encoded in chunk.values()) + b"]}"
        try:
            answer = self._client.post("/api/public/ingestion", body, _decode_answer)
        except RemoteError as error:
            written.refused |= {_key(mark): str(error) for mark, _ in chunk.values()}
            return written
        problems = {error.id: f"{error.status} {error.message or ''}".strip() for error in answer.errors}
        for event_id, (mark, _) in chunk.items():
            if event_id in problems:
                written.refused[_key(mark)] = problems[event_id]
            else:
                written.taken.append(_key(mark))
        return written


def _key(mark: Mark) -> tuple[str, str]:
    return mark.project_id, mark.trace_id


def _chunks(marks: Iterator[Mark], now: str) -> Iterator[dict[str, tuple[Mark, bytes]]]:
    chunk: dict[str, tuple[Mark, bytes]] = {}
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
    return _event("score-create", format_time(mark.timestamp_us), body)


def _event(kind: str, timestamp: str, body: dict[str, Any]) -> dict[str, Any]:
    """The envelope. Its id comes from its content, so that a repeated request is the same ingestion event."""
    return {
        "id": digest(f"{kind} {timestamp} {_encode(body).decode()}", 24),
        "type": kind,
        "timestamp": timestamp,
        "body": body,
    }
