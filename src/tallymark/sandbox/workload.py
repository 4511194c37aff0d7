"""A recorded workload as Langfuse traces: the rows of a CSV of real LLM requests, with what such a file lacks made up.

The file has the columns TIMESTAMP,ContextTokens,GeneratedTokens (the form of the Azure LLM inference trace 2023).
The rule, which `scripts/independent_credits.py` states and computes on its own:

- Each row, counted from 0, is one trace with one generation.
- Customer k of `customers` (k from 1) has the weight 1,000,000 // k. The first 8 bytes of SHA-256 of "seed:row" are a
  big-endian integer; its remainder by the sum of the weights picks the customer. So few customers do most of the work.
- Cost in USD = context tokens × 0.0000025 + generated tokens × 0.00001.
- Duration in milliseconds = 200 + 20 × generated tokens.
- Times are moved together, so that the latest row starts two hours before now; milliseconds, the rest cut off.
"""

from __future__ import annotations

import csv
import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

from tallymark.core.clock import HOUR_US, format_time, from_datetime
from tallymark.errors import ConfigError

COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
USD_PER_TOKEN = {"input": Decimal("0.0000025"), "output": Decimal("0.00001")}
MODEL = "workload-model"
_LAST_ROW_AGE_US = 2 * HOUR_US
_HEAVIEST_WEIGHT = 1_000_000
_DURATION_MS, _DURATION_MS_PER_TOKEN = 200, 20
_MILLISECOND_US = 1000


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the file: its time in microseconds since 1970, read as UTC, and its tokens."""

    started_at_us: int
    context_tokens: int
    generated_tokens: int


def read_workload(
    path: Path, *, now_us: int, customers: int = 50, seed: int = 7
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each row as a trace and its observations, in the shape of Langfuse's ingestion bodies.

    Ids are made of the file's name and the row. Raises ConfigError that names the file and the line, if it is not
    such a file. The file is read twice and never held.
    """
    latest_us = max((row.started_at_us for row in _rows(path)), default=0)
    shift_us = now_us - _LAST_ROW_AGE_US - latest_us
    limits = list(accumulate(_HEAVIEST_WEIGHT // number for number in range(1, customers + 1)))
    for number, row in enumerate(_rows(path)):
        trace_id = f"{path.stem}-{number:06d}"
        customer_number = 1 + bisect_right(limits, _draw(seed, number) % limits[-1])
        started_at_us = (row.started_at_us + shift_us) // _MILLISECOND_US * _MILLISECOND_US
        yield _trace(trace_id, started_at_us, customer_number), [_generation(trace_id, started_at_us, row)]


def _draw(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8])


def _trace(trace_id: str, started_at_us: int, customer_number: int) -> dict[str, Any]:
    return {
        "id": trace_id,
        "timestamp": format_time(started_at_us),
        "name": "workload",
        "userId": f"user-{customer_number:03d}",
        "tags": ["billing:pending"],
        "metadata": {"customerId": f"cus_workload_{customer_number:03d}"},
    }


def _generation(trace_id: str, started_at_us: int, row: _Row) -> dict[str, Any]:
    tokens = {"input": row.context_tokens, "output": row.generated_tokens}
    costs = {side: count * USD_PER_TOKEN[side] for side, count in tokens.items()}
    duration_ms = _DURATION_MS + _DURATION_MS_PER_TOKEN * row.generated_tokens
    return {
        "id": f"{trace_id}-generation",
        "traceId": trace_id,
        "type": "GENERATION",
        "name": "llm",
        "startTime": format_time(started_at_us),
        "endTime": format_time(started_at_us + duration_ms * _MILLISECOND_US),
        "model": MODEL,
        "usageDetails": tokens | {"total": sum(tokens.values())},
        "costDetails": _json_numbers(costs | {"total": sum(costs.values(), Decimal(0))}),
    }


def _json_numbers(amounts: dict[str, Decimal]) -> dict[str, float]:
    # So few digits survive the way through a JSON number and back exactly, as they do in Langfuse.
    return {name: float(amount) for name, amount in amounts.items()}


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            yield from _parsed_rows(csv.reader(lines), path)
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"workload {path} cannot be read: {problem}; check its name and its rights") from None


def _parsed_rows(lines: Iterator[list[str]], path: Path) -> Iterator[_Row]:
    if next(lines, None) != COLUMNS:
        raise ConfigError(f"workload {path} must begin with the line {','.join(COLUMNS)}")
    for number, line in enumerate(lines, 2):
        if line:
            yield _parsed_row(line, f"workload {path}, line {number}")


def _parsed_row(line: list[str], where: str) -> _Row:
    try:
        time, context_tokens, generated_tokens = line
        started_at = datetime.fromisoformat(time).replace(tzinfo=UTC)
        return _Row(from_datetime(started_at), _count(context_tokens), _count(generated_tokens))
    except ValueError:
        raise ConfigError(
            f"{where}: {','.join(line)[:80]!r} is not a time and two token counts; mend the line"
        ) from None


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"{text} is not a token count")
    return int(text)
