"""A workload file becomes traces by a stated rule, and rates to what an independent computation of the rule says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tallymark.config import load
from tallymark.core.clock import HOUR_US, parse_time
from tallymark.core.credits import format_micros
from tallymark.core.types import Rated, Trace, Unit
from tallymark.errors import ConfigError
from tallymark.rating.rate import rate, total_micros
from tallymark.sandbox.workload import read_workload

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests" / "data" / "workload_small.csv"
NOW_US = 1_795_000_000_123_456


def credits_by_our_rating(path: Path, **rule: int) -> dict[str, str]:
    micros: Counter[str] = Counter()
    for trace, observations in read_workload(path, now_us=NOW_US, **rule):
        outcome = rate(as_read(trace, observations), load(None, {}).rate_card, default_ownership="platform")
        assert isinstance(outcome, Rated)
        micros[trace["metadata"]["customerId"]] += total_micros(outcome)
    return {customer: format_micros(amount) for customer, amount in sorted(micros.items())}


def as_read(trace: dict, observations: list[dict]) -> Trace:
    """The trace as a source would read it, numbers taken from the JSON text."""
    body = json.loads(json.dumps(observations[0]), parse_float=Decimal)
    duration_us = parse_time(body["endTime"]) - parse_time(body["startTime"])
    cost_usd = Decimal(body["costDetails"]["total"])
    unit = Unit("", cost_usd, Decimal(duration_us) / 1_000_000, body["usageDetails"]["total"])
    return Trace("project", trace["id"], parse_time(trace["timestamp"]), (unit,))


def independent_credits(path: Path, *arguments: str) -> dict:
    script = ROOT / "scripts" / "independent_credits.py"
    done = subprocess.run([sys.executable, "-I", script, path, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("customers", "seed"), [(50, 7), (3, 1)])
def test_our_rating_equals_the_independent_computation_to_the_micro_credit(customers, seed):
    independent = independent_credits(SMALL, "--customers", str(customers), "--seed", str(seed))

    assert credits_by_our_rating(SMALL, customers=customers, seed=seed) == independent["customers"]
    assert independent["traces"] == 10


def test_the_independent_computation_equals_a_row_done_by_hand(tmp_path):
    """374 and 44 tokens cost 0.001375 USD, 34.375 credits; 1.08 s of compute are 22.5 credits."""
    path = tmp_path / "one.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\r\n2025-03-01 10:00:00.1234567,374,44", encoding="utf-8")

    assert independent_credits(path, "--customers", "1")["customers"] == {"cus_workload_001": "56.875000"}


def test_the_last_row_lands_two_hours_ago_with_its_distances_kept():
    times_us = [parse_time(trace["timestamp"]) for trace, _ in read_workload(SMALL, now_us=NOW_US)]

    assert times_us[-1] == (NOW_US - 2 * HOUR_US) // 1000 * 1000
    assert times_us == sorted(times_us)
    assert abs(times_us[-1] - times_us[0] - 3_599_876_144) <= 1000


def test_a_row_is_a_trace_with_one_generation_in_the_shape_of_the_ingestion_api():
    trace, (generation,) = next(read_workload(SMALL, now_us=NOW_US))

    assert trace["id"] == generation["traceId"] == "workload_small-000000"
    assert sorted(trace) == ["id", "metadata", "name", "tags", "timestamp", "userId"]
    assert generation["usageDetails"] == {"input": 374, "output": 44, "total": 418}
    assert generation["costDetails"] == {"input": 0.000935, "output": 0.00044, "total": 0.001375}
    assert (generation["type"], generation["startTime"]) == ("GENERATION", trace["timestamp"])


def test_the_same_file_seed_and_moment_give_the_same_traces():
    assert list(read_workload(SMALL, now_us=NOW_US)) == list(read_workload(SMALL, now_us=NOW_US))


def test_few_customers_do_most_of_the_work(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2025-03-01 10:00:00,1,1\n" * 2000, encoding="utf-8")

    counts = Counter(trace["userId"] for trace, _ in read_workload(path, now_us=NOW_US))

    assert len(counts) > 40
    assert counts["user-001"] > 5 * counts["user-020"] > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n", "must begin with the line TIMESTAMP,ContextTokens,GeneratedTokens"),
        ("", "must begin with the line"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-03-01 10:00:00,1\n", "line 2"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2025-03-01 10:00:00,1,1\nyesterday,1,1\n",
            "line 3: 'yesterday,1,1'",
        ),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2025-03-01 10:00:00,1,-1\n", "line 2"),
    ],
)
def test_another_file_is_refused_with_its_name_and_line(tmp_path, text, words):
    path = tmp_path / "other.csv"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as refused:
        list(read_workload(path, now_us=NOW_US))

    assert str(path) in str(refused.value)
    assert words in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_workload(tmp_path / "none.csv", now_us=NOW_US))
