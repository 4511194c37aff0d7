"""The benchmarks' own arithmetic, and that what they measure against says what a Langfuse server says."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from bench import kept, memory, profile, publish, scale
from bench.__main__ import wanted
from bench.child import Measured
from bench.figures import Figure, as_json, from_json, number, table
from bench.generated import GeneratedLangfuse, Index, Options
from bench.kept import by_key

import tallymark
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, parse_time
from tallymark.core.readings import trace_of
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.http import serve
from tallymark.source.observations import ObservationsSource, WindowEnd, group
from tallymark.source.traces import TracesSource

NOW_US = parse_time("2026-11-30T20:00:00Z")


@pytest.mark.parametrize(
    ("value", "target", "at_least", "met"),
    [(2, None, False, None), (2, 2, False, True), (3, 2, False, False), (2, 2, True, True), (1, 2, True, False)],
)
def test_a_target_has_a_direction(value, target, at_least, met):
    """A figure is met at its target and on its good side, whichever that is; without a target nothing is said."""
    assert Figure("group", "name", value, "s", target, at_least).met is met


def test_a_table_says_each_group_once_and_what_was_missed():
    """A title stands above the first figure of its group; a line says the target, and whether it is met."""
    lines = table([Figure("A", "slow", 3.0, "s", 2), Figure("A", "fast", 500.0, "/s", 400, True)], under="A").split(
        "\n"
    )

    assert [" ".join(line.split()) for line in lines] == [
        "slow 3.00 s at most 2: NOT MET",
        "fast 500 /s at least 400: met",
    ]
    assert table([Figure("B", "plain", 1)], under="A").split("\n")[:2] == ["", "B"]


def test_numbers_keep_three_digits():
    """A figure is as exact as it was measured: two or three digits, and all of those before the point."""
    assert [number(value) for value in (0.00028, 0.123, 12.34, 123.4, 1234.5, 1234)] == [
        "0.00028",
        "0.12",
        "12.3",
        "123",
        "1,234",
        "1,234",
    ]


def test_figures_survive_their_file():
    """What a run kept is what the next one reads."""
    figures = [Figure("group", "name", 1.5, "s", 2, key="a.b"), Figure("group", "other", 3, "/s", 2, at_least=True)]

    assert from_json(as_json(figures)) == figures


def test_the_profile_names_files_that_exist():
    """A flow that is renamed must not vanish from the profile in silence."""
    root = Path(tallymark.__file__).parent

    assert [name for name in {**profile.PHASES, **profile.ACTIVITIES} if not (root / name).exists()] == []


@pytest.mark.parametrize(
    ("files", "stage"),
    [
        (["rating/rules.py", "flows/decide.py", "ledger/ledger.py", "flows/collect.py"], "collect: rate and decide"),
        (["core/ids.py", "ledger/chain.py", "ledger/ledger.py", "flows/collect.py"], "collect: ledger"),
        (["remote/langfuse.py", "marks/langfuse.py", "flows/mark.py", "flows/sync.py"], "mark: HTTP"),
        (["config.py"], "start: the rest"),
    ],
)
def test_a_stack_is_a_stage(files, stage):
    """The outermost flow says the phase, the innermost part of tallymark what it does."""
    assert profile.stage_of(files, "start") == stage


def test_shares_are_of_all_that_was_seen():
    """The stages add up to the whole: what is small is counted together and not left out."""
    seen = {"collect: ledger": 9.9, "send: HTTP": 0.05, "mark: HTTP": 0.05}

    found = [(figure.name, round(figure.value, 9)) for figure in profile.shares("group", seen, "key")]

    assert found == [("seconds", 10.0), ("collect: ledger", 99.0), ("everything else", 1.0)]


def test_the_profile_sees_a_thread_at_work():
    """What is seen is of the time that passed, and never more."""
    began = time.perf_counter()
    with profile.looking("work") as seen:
        while len(seen) == 0:
            pass

    assert list(seen) == ["work: the rest"]
    assert 0 < sum(seen.values()) <= time.perf_counter() - began


def read_generated(options: Options, *arrivals: int) -> dict[str, tuple]:
    """What the real sources make of the generated server, by trace id: customer, time, cost and duration."""
    index = Index(options, NOW_US)
    for traces in arrivals:
        index.add(traces)
    with serve(GeneratedLangfuse(index)) as server:
        client = LangfuseClient(server.url, "pk", "sk", SystemClock())
        window = NOW_US - 31 * DAY_US, NOW_US
        found = _by_list(client, window) if options.generation == "legacy" else _by_observations(client, window)
        client.close()
    ids = [trace.trace_id for trace in found]
    assert sorted(ids) == sorted(set(ids)), "a trace came twice"
    return {trace.trace_id: _said(trace) for trace in found}


def _by_list(client, window):
    return [trace for page in TracesSource(client).read(*window) for trace in page.traces]


def _by_observations(client, window):
    source = ObservationsSource(client)
    pages = [page for page in source.read(source.windows(*window)) if not isinstance(page, WindowEnd)]
    return [trace_of(reading, reading.units) for reading in group(r for page in pages for r in page.readings)]


def _said(trace):
    unit_costs = sum((unit.cost_usd for unit in trace.units if unit.cost_usd), Decimal(0))
    durations = sum((unit.duration_s for unit in trace.units if unit.duration_s), Decimal(0))
    return trace.attributes["customerId"], trace.timestamp_us, unit_costs, durations


@pytest.mark.parametrize("parts", [1, 5])
def test_both_generations_of_a_generated_server_say_the_same(parts):
    """Each trace comes once, arrivals too, with the same customer, time, cost and duration through both generations."""
    said = {
        generation: read_generated(
            Options(traces=1_234, customers=7, observations_per_trace=parts, generation=generation), 321
        )
        for generation in ("legacy", "events_only")
    }

    assert len(said["legacy"]) == 1_234 + 321
    assert said["legacy"] == said["events_only"]
    assert len({customer for customer, *_ in said["legacy"].values()}) == 7


def test_a_quote_is_renewed_and_read_again():
    """A figure before its key is replaced by what is known, whatever its unit; the rest of the page stays."""
    known = by_key([Figure("g", "a", 3.14159, "×", key="a.ratio"), Figure("g", "b", 1234, key="b")])
    page = "| 4.2 ×<!--a.ratio--> | 9<!--b--> requests, 4.2 × more |"

    fresh = publish.renewed(page, known)

    assert fresh == "| 3.14 ×<!--a.ratio--> | 1,234<!--b--> requests, 4.2 × more |"
    assert publish.quotes(fresh) == [("3.14 ×", "a.ratio"), ("1,234", "b")]
    with pytest.raises(KeyError):
        publish.renewed("1<!--unknown-->", known)


def test_nothing_is_published_by_halves():
    """What was not measured, or only with few traces, is named."""
    few = {"machine": {}, "measures": {"collect": {"traces": 200}, "send": {"traces": 40_000}}}

    with pytest.raises(publish.NotMeasuredError, match="--only collect --only sync") as refused:
        publish.require_whole(few)
    assert "--only send" not in str(refused.value)


def test_figures_are_kept_beside_others_of_the_same_machine(tmp_path):
    """One measure replaces its own figures; those of another machine are not mixed with these."""
    path = tmp_path / "results" / "latest.json"
    kept.keep(path, {"cpu": "x"}, "send", {"load": 1.0, "figures": []})
    kept.keep(
        path, {"cpu": "x"}, "mark", {"load": 3.0, "figures": as_json([Figure("g", "n", 1, key="k", points=((1, 2),))])}
    )

    assert sorted(kept.read(path)["measures"]) == ["mark", "send"]
    assert kept.measured(kept.read(path))["k"].points == ((1, 2),)
    assert kept.measured(kept.read(path))["load"].value == 2.0
    kept.keep(path, {"cpu": "y"}, "collect", {"figures": []})
    assert sorted(kept.read(path)["measures"]) == ["collect"]


def test_scale_is_arithmetic_done_by_hand():
    """40,000 traces a week, read 16 times, of 5 observations, of 24 customers: each figure from a pocket calculator."""
    measured = {
        "size.trace": 1000.0,
        "size.observation": 200.0,
        "sync.observations.rate": 2000.0,
        "costs.observations.rows": 25_000.0,
    }
    found = by_key(scale.derived({key: Figure("g", key, value) for key, value in measured.items()}))

    assert {key: found[f"scale.{key}"].text for key in ("bytes", "1.legacy", "1.v2", "10.hour", "1000.traces")} == {
        "bytes": "2,000 bytes",
        "1.legacy": "0.63 /min",
        "1.v2": "0.32 /min",
        "10.hour": "0.067 /s",
        "1000.traces": "66.1 /s",
    }
    assert {key: found[f"scale.{key}"].text for key in ("1000.busy", "1000.week", "1000.year", "binds.v1")} == {
        "1000.busy": "52.9 %",
        "1000.week": "80.0 GB",
        "1000.year": "4.16 TB",
        "binds.v1": "150,000 ×",
    }


def test_what_is_asked_for_is_measured_in_order():
    """A sync marks traces, so what reads comes before it however it is asked for; an hour is named."""
    assert wanted(["sync", "collect"], full=False) == ["collect", "sync"]
    assert wanted(["millions"], full=False) == ["millions"]
    assert set(wanted(None, full=True)) - set(wanted(None, full=False)) == {"millions"}


def test_memory_is_drawn_by_traces_read():
    """A curve has one point for each batch that was read, by traces and not by rows, and no point of sending."""
    timeline = [["read", 500, 90.0, 30.0], ["read", 1000, 95.0, 31.0], ["send", 5, 120.0, 0.0]]
    measured = Measured({"timeline": timeline}, 2.0, 1.0, 130.0)

    peak, apart, seconds = memory.figures("key", "observations", 200, measured)

    assert peak.points == ((100.0, 90.0), (200.0, 95.0))
    assert (peak.value, apart.value, seconds.value) == (130.0, 31.0, 2.0)


def rows_between(options: Options, from_us: int, to_us: int) -> list[str]:
    """The start times of a window in the order of the answer, history and arrivals."""
    index = Index(options, NOW_US)
    index.add(200)
    if options.generation == "legacy":
        rows = json.loads(index.trace_page(from_us, to_us, 1, 10_000))["data"]
        return [row["timestamp"] for row in rows]
    return [row["startTime"] for row in json.loads(index.observation_page(from_us, to_us, 0, 10_000))["data"]]


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_a_generated_window_holds_what_starts_in_it_in_order(generation):
    """A window includes its start and not its end; the list goes forward in time, observations go back."""
    options = Options(traces=300, observations_per_trace=3, generation=generation)
    everything = rows_between(options, 0, NOW_US)
    forward = sorted(everything)

    assert len(everything) == 500 * (1 if generation == "legacy" else 3)
    assert everything == (forward if generation == "legacy" else forward[::-1])
    for at in (1, 449, 450, 499):
        for nudge_us in (0, 1000):
            limit_us = parse_time(forward[at]) + nudge_us
            before = [moment for moment in forward if parse_time(moment) < limit_us]
            assert sorted(rows_between(options, 0, limit_us)) == before
            assert sorted(rows_between(options, limit_us, NOW_US)) == forward[len(before) :]
