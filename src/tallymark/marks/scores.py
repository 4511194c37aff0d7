"""Marks as scores, in whichever form the server takes: by ingestion, or POST /scores with a list, or with one object.

Facts: facts/langfuse.md section 5.4. Scores are the one mark that works in every mode; their id and time are
deterministic, so that writing one twice leaves one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import Refused, RemoteError
from ..remote.langfuse import LangfuseClient

# POST /scores refuses bodies of more than 1 MiB (facts/langfuse.md section 5.4).
LIST_BYTES_MAX = 1_000_000


class _ListAnswer(msgspec.Struct):
    """202 has a message only; 207 says how many were rejected, but not which."""

    rejected: int = 0
    errors: list[object] = []


_decode_list = msgspec.json.Decoder(_ListAnswer).decode


def post_scores(client: LangfuseClient, scores: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Write scores through POST /scores; returns why those that were refused were, by score id."""
    try:
        return _post_lists(client, scores)
    except Refused:
        # Servers up to 4.16 take one object only and refuse a list (facts/langfuse.md section 5.4).
        return _post_objects(client, scores)


def _post_lists(client: LangfuseClient, scores: Sequence[dict[str, Any]]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for chunk in _chunks(scores):
        refused |= _post_list(client, chunk)
    return refused


def _post_list(client: LangfuseClient, scores: Sequence[dict[str, Any]]) -> dict[str, str]:
    """One list. A 207 does not name what it rejected, so the list is halved until it is found."""
    answer = client.post("/api/public/scores", msgspec.json.encode(scores), _decode_list)
    if not answer.rejected:
        return {}
    if len(scores) == 1:
        return {scores[0]["id"]: client.told(f"refused: {answer.errors}")}
    middle = len(scores) // 2
    return _post_list(client, scores[:middle]) | _post_list(client, scores[middle:])


def _post_objects(client: LangfuseClient, scores: Sequence[dict[str, Any]]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for score in scores:
        # This form has no field for the time (facts/langfuse.md section 5.4).
        body = msgspec.json.encode({name: value for name, value in score.items() if name != "timestamp"})
        try:
            client.post("/api/public/scores", body, bytes)
        except RemoteError as error:
            refused[score["id"]] = str(error)
    return refused


def _chunks(scores: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    chunks: list[list[dict[str, Any]]] = [[]]
    size = 0
    for score in scores:
        length = len(msgspec.json.encode(score)) + 1
        if chunks[-1] and size + length > LIST_BYTES_MAX:
            chunks.append([])
            size = 0
        chunks[-1].append(score)
        size += length
    return chunks
