"""The rate limit of Langfuse Cloud: fixed windows of a minute (facts/langfuse.md section 7, golden 40)."""

from __future__ import annotations

from datetime import datetime

from tallymark.core.clock import MINUTE_US, SECOND_US, Clock, format_time, to_datetime
from tallymark.sandbox.wire import Response

from .answers import json_answer

# The two limits of one plan: legacy reads, and the other reads (facts/langfuse.md section 7.1).
_OTHER_READS = {15: 30, 30: 1000, 100: 1000}


class RateLimit:
    """Counts requests by project and bucket, "legacy" or "other"."""

    def __init__(self, clock: Clock, legacy_per_minute: int) -> None:
        self._clock = clock
        self._limits = {
            "legacy": legacy_per_minute,
            "other": _OTHER_READS.get(legacy_per_minute, 2 * legacy_per_minute),
        }
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}

    def refusal(self, project_id: str, bucket: str, request_line: str, advice: str) -> Response | None:
        """Count one request; the 429 if it is one too many. The last of the limit is refused already."""
        now_us = self._clock.now_us()
        ends_us, count = self._windows.get((project_id, bucket), (0, 0))
        if now_us >= ends_us:
            ends_us, count = now_us + MINUTE_US, 0
        self._windows[project_id, bucket] = (ends_us, count + 1)
        limit = self._limits[bucket]
        if limit - count - 1 >= 1:
            return None
        return _too_many(limit, ends_us, now_us, f"Rate limit exceeded for {request_line}.{advice}")


def _too_many(limit: int, ends_us: int, now_us: int, message: str) -> Response:
    seconds = -(-(ends_us - now_us) // SECOND_US)
    details = {"retryAfterSeconds": seconds, "limit": limit, "remaining": 0, "resetAt": format_time(ends_us)}
    headers = {
        "retry-after": str(seconds),
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": javascript_date(to_datetime(ends_us)),
    }
    return json_answer(429, {"message": message, "code": "rate_limited", "details": details}, headers)


def javascript_date(moment: datetime) -> str:
    """A date as JavaScript prints it: Mon Nov 23 2026 23:21:03 GMT+0000 (Coordinated Universal Time)."""
    return moment.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")
