"""The three ways a Langfuse server keeps its data, and what each answers (facts/langfuse.md section 0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .answers import Refusal, json_answer, not_found

Generation = Literal["legacy", "dual", "events_only"]
ScoresApi = Literal["object", "list"]

DEFAULT_VERSIONS: dict[Generation, str] = {"legacy": "3.225.4", "dual": "4.16.0", "events_only": "4.16.0"}

# The only ingestion items that events_only takes (facts/langfuse.md section 5.1).
_STILL_TAKEN = ("score-create", "sdk-log")
_MODE = "LANGFUSE_MIGRATION_V4_WRITE_MODE"
_UPGRADE_GUIDE = "https://langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4"


def is_version_4(version: str) -> bool:
    """Whether a server of this version can have the tables of version 4."""
    return _numbers(version) >= (4,)


def has_scores_v3(version: str) -> bool:
    """Whether a server of this version has GET /v3/scores (facts/langfuse.md section 0.5)."""
    return _numbers(version) >= (3, 179)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def gone_in_events_only() -> Refusal:
    """404 for a legacy route: no `error` key tells it from a missing trace (facts/langfuse.md section 0.2)."""
    message = (
        "This endpoint is not available on deployments running in Langfuse v4 events_only mode. "
        "Learn more about Langfuse v4 at: https://langfuse.com/docs/v4"
    )
    return Refusal(json_answer(404, {"message": message}))


def only_in_version_4(name: str) -> Refusal:
    """404 for a route that needs the tables of version 4 (facts/langfuse-observed.md item 28)."""
    return not_found(
        f"The {name} v2 API is only available in a Langfuse v4 write mode. Learn more at: https://langfuse.com/docs/v4"
    )


def is_taken(item: Any, generation: Generation) -> bool:
    """Whether a server of this generation takes an ingestion item of this type at all."""
    kind = item.get("type") if isinstance(item, Mapping) else None
    return generation != "events_only" or kind in _STILL_TAKEN


def not_taken(item: Any) -> dict[str, Any]:
    """What the 207 says of an ingestion item that events_only does not take (golden v4.16.0-events-only 31)."""
    given: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
    detail = (
        f'Event type "{given.get("type")}" is not accepted by /api/public/ingestion when {_MODE} is events_only. '
        "This endpoint only accepts score and log events. Upgrade the client or integration to a v4-compatible SDK or "
        f"OTLP ingestion path. As a temporary migration bridge, set {_MODE}=dual on both the web and worker services "
        f"and redeploy. Docs: {_UPGRADE_GUIDE}"
    )
    return {"id": given.get("id", "unknown"), "status": 400, "message": "Event type not accepted", "error": detail}
