"""What people are told of alerts: a line in the log, and JSON that Slack's incoming webhooks take and machines read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from ..core.clock import format_time
from ..ledger.database import Row

BEGAN, GOES_ON, OVER = "began", "goes on", "over"
# People read no more of one message; machines get all of it.
LINES_MAX = 20


class ToldAlert(msgspec.Struct):
    """One alert of a message. `status` is "began", "goes on" or "over"; the rest as in `GET /api/v1/alerts`."""

    status: str
    rule: str
    subject: str
    text: str
    value: str
    limit: str
    unit: str
    began_at: str
    over_at: str | None


class Told(msgspec.Struct):
    """A message: `text` for people, `alerts` for machines."""

    text: str
    source: str
    at: str
    alerts: list[ToldAlert]


def message(rows: Sequence[Row], now_us: int) -> Told:
    """What is told of some alerts."""
    counts = Counter(_status(row) for row in rows)
    head = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    lines = [_line(row) for row in rows[:LINES_MAX]]
    if len(rows) > LINES_MAX:
        lines.append(f"and {len(rows) - LINES_MAX:,} more: GET /api/v1/alerts")
    text = "\n".join([f"tallymark: {head}", *(f"• {_escaped(line)}" for line in lines)])
    return Told(text, "tallymark", format_time(now_us), [_told(row) for row in rows])


def log_line(row: Row) -> str:
    """One alert for the log."""
    return f"alert {_line(row)}"


def _line(row: Row) -> str:
    since = f" (since {format_time(row['began_at_us'])})" if _status(row) != BEGAN else ""
    return f"{_status(row)}: {row['rule']}: {row['text']}{since}"


def _status(row: Row) -> str:
    if row["over_at_us"] is not None:
        return OVER
    return BEGAN if row["told_at_us"] is None else GOES_ON


def _told(row: Row) -> ToldAlert:
    over_at_us = row["over_at_us"]
    return ToldAlert(
        _status(row),
        row["rule"],
        row["subject"],
        row["text"],
        row["value"],
        row["bound"],
        row["unit"],
        format_time(row["began_at_us"]),
        format_time(over_at_us) if over_at_us is not None else None,
    )


def _escaped(line: str) -> str:
    """Slack's three characters: an id of a customer comes from a trace, and must not call a whole channel."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
