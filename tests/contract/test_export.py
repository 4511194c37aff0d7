"""Langfuse's blob export: the same bill as through the API, whatever the format; what is not in it comes by the API."""

import logging
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from observation_services import send_cost
from test_generations_same_bill import Bill, workloads

from builders import CREDIT_MICROS, NOW_US, PROJECT
from databases import path_of
from exports import PROMPT, clickhouse_time, enriched_rows, legacy_rows, write_export
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time
from tallymark.core.types import Unit
from tallymark.errors import ConfigError, Garbled, NotFound
from tallymark.flows.doctor import doctor
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.story import expect, tell
from tallymark.source.export import ExportSource
from tallymark.source.export_files import open_store

FROM_US = NOW_US - 40 * DAY_US
END_US = NOW_US - 20 * MINUTE_US
KINDS = ("parquet", "jsonl", "jsonl.gz", "json", "csv", "csv.gz")
TABLES = {"events_only": lambda langfuse: {"observations_v2": enriched_rows(langfuse)}, "legacy": legacy_rows}


@pytest.fixture
def folder(tmp_path):
    """Where the export lies."""
    return tmp_path / "export"


@pytest.fixture
def from_export(folder, settings):
    """A function that makes settings which read the export first, and then a sandbox."""
    return lambda **changes: settings(BILLING_SOURCE="export", BILLING_EXPORT_URL=str(folder), **changes)


@pytest.fixture
def export(folder):
    """A function that exports all that a sandbox holds, as one run."""

    def write(langfuse, generation="events_only", **window):
        return write_export(folder, TABLES[generation](langfuse), **{"from_us": FROM_US, "to_us": END_US, **window})

    return write


@pytest.fixture
def written(folder):
    """A function that writes rows of one table as a run of the export, and reads the traces of all runs."""

    def read(*rows, table="observations_v2", kind="jsonl", from_us=FROM_US, to_us=END_US, by_model=False, **others):
        if rows:
            tables = {table: list(rows), **others}
            write_export(folder, tables, kind=kind, from_us=from_us, to_us=to_us)
        return read_all(folder, by_model=by_model)

    return read


def read_all(folder, **options):
    """Every trace of an export by id, and what was unreadable."""
    source = ExportSource(open_store(str(folder), None), PROJECT, **options)
    pages = list(source.read(FROM_US, NOW_US))
    return {one.trace_id: one for page in pages for one in page.traces}, [p for page in pages for p in page.unreadable]


def row(span_id="o1", trace_id="t1", *, minutes_ago=60, seconds=12, cost="0.01", **changes):
    """A row of observations_v2: a root of 12 seconds and 0.01 USD."""
    start_us = NOW_US - minutes_ago * MINUTE_US
    return {
        "id": span_id,
        "trace_id": trace_id,
        "project_id": PROJECT,
        "parent_observation_id": "",
        "start_time": time_of(start_us),
        "end_time": time_of(start_us + int(seconds * SECOND_US)),
        "updated_at": time_of(start_us + MINUTE_US),
        "metadata": {"customerId": "cus_1"},
        "tags": ["billing:pending"],
        "usage_details": {},
        "cost_details": {} if cost is None else {"total": Decimal(cost)},
        "input": PROMPT,
        **changes,
    }


def time_of(at_us):
    return clickhouse_time(format_time(at_us))


def cost_of(trace):
    return trace.units[0].cost_usd


# ---- the same bill


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("generation", TABLES)
def test_the_story_is_billed_as_it_is_told(generation, kind, clock, export, from_export, run_backfill, look):
    """Every kind of trace, from files of every format: what the story's own arithmetic says, without one page asked."""
    langfuse = SandboxLangfuse(clock=clock, generation=generation)
    told = [one for one in tell(300, NOW_US) if one.kind != "future"]
    for one in told:
        langfuse.put_trace(PROJECT, {**one.trace, "bookmarked": one.bookmarked}, one.observations)
    expected = expect(iter(told))
    export(langfuse, generation, kind=kind)

    summary = run_backfill(from_export(read_from=langfuse), from_us=FROM_US)

    billed = dict(look("select customer_id, sum(amount_micros) from entry group by customer_id"))
    assert +Counter({"processed": summary.owed, **summary.skipped, **summary.held}) == expected.results
    assert billed == {customer: micros for customer, micros in expected.micros.items() if micros}
    assert summary.fetched == len(told)


@given(workload=workloads())
@trying(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_workload_is_billed_as_through_the_api(workload, tmp_path_factory):
    """Overlaps, gaps, observations without an end or a cost: the same for every hour, from both kinds of tables."""
    folder = tmp_path_factory.mktemp("exports")

    for generation, api in (("legacy", "traces"), ("events_only", "observations")):
        through_api = Bill(api, workload)
        through_export = Bill(
            api, workload, bulk=lambda langfuse, one=generation: exported(folder / one, one, langfuse)
        )

        assert through_export.by_hour == through_api.by_hour
        assert through_export.results == through_api.results
        assert through_export.sent == through_api.sent


def exported(folder, generation, langfuse):
    write_export(folder, TABLES[generation](langfuse), from_us=FROM_US, to_us=END_US)
    return {"BILLING_SOURCE": "export", "BILLING_EXPORT_URL": str(folder), "BILLING_SYNC_LOOKBACK_DAYS": "40"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_digit_of_a_cost_is_lost(kind, written):
    """Twelve decimals behind six digits, which no double holds, and the smallest amount; added exactly."""
    costs = ["123456.123456789012", "0.000000000001", "999999.999999999999"]

    traces, _ = written(*(row(f"o{n}", cost=cost) for n, cost in enumerate(costs)), kind=kind)

    assert cost_of(traces["t1"]) == sum(map(Decimal, costs))


def test_without_a_total_the_parts_are_the_cost(written):
    """As the observations API says it: `total`, else the sum of the parts, else unknown."""
    parts = {"input": Decimal("0.1"), "cache": Decimal("0.05")}
    tokens = {"usage_details": {"input": 7, "output": 5}}

    traces, _ = written(
        row(cost_details=parts),
        row("o2", "t2", cost_details={**parts, "total": Decimal("0.3")}),
        row("o3", "t3", cost=None, **tokens),
    )

    assert {key: cost_of(trace) for key, trace in traces.items()} == {
        "t1": Decimal("0.15"),
        "t2": Decimal("0.3"),
        "t3": 0,
    }
    assert [key for key, trace in traces.items() if trace.unpriced] == ["t3"]
    assert traces["t3"].units[0].tokens == 12


def test_tokens_are_told_by_model_for_a_card_that_asks(written):
    """A trace of two models: a token card can rate each by its own rate."""
    of = [("big", 5), ("small", 7), ("big", 11)]
    rows = [
        row(f"o{n}", usage_details={"total": count}, provided_model_name=model) for n, (model, count) in enumerate(of)
    ]

    traces, _ = written(*rows, by_model=True)

    assert traces["t1"].units == (Unit("", Decimal("0.03"), Decimal(12), 23, models=(("big", 16), ("small", 7))),)


def test_contradictions_and_roots_are_told_as_by_the_api(written):
    """Two customers in one trace are a contradiction; a trace without its root says so; the root has the first word."""
    child = {"parent_observation_id": "elsewhere"}

    traces, _ = written(
        row(user_id="root's"),
        row("o2", minutes_ago=59, metadata={"customerId": "cus_2"}, user_id="another", **child),
        row("o3", "t2", metadata={}, user_id="only", **child),
        row("o4", "t3", metadata={}),
        row("o5", "t3", minutes_ago=59, metadata={"orgId": "7"}, session_id="s", **child),
    )

    assert traces["t1"].attributes["conflict"] == "customerId"
    assert (traces["t1"].user_id, traces["t1"].root_seen) == ("root's", True)
    assert (traces["t2"].user_id, traces["t2"].root_seen) == ("only", False)
    assert (traces["t3"].attributes, traces["t3"].session_id) == ({"orgId": "7"}, "s")


def test_the_synthetic_row_dates_a_trace_and_is_no_usage(written):
    """`t-<trace id>` of data that was copied from the old tables (facts/langfuse.md section 2.2)."""
    traces, _ = written(row(minutes_ago=60), row("t-t1", minutes_ago=90, cost="5", usage_details={"total": 3}))

    assert traces["t1"].units == (Unit("", Decimal("0.01"), Decimal(12), 0),)
    assert traces["t1"].timestamp_us == NOW_US - 90 * MINUTE_US


# ---- files


def test_what_comes_twice_counts_once_and_the_newest_version_is_right(written):
    """Rows on the edge of two windows stand in both files, and a row may have changed in between."""
    edge = NOW_US - 60 * MINUTE_US
    later = time_of(NOW_US - 30 * MINUTE_US)
    written(row(cost="0.01"), row("o2", cost="0.02"), to_us=edge)

    traces, _ = written(row(cost="0.04", updated_at=later), row("o2", cost="0.02"), from_us=edge)

    assert cost_of(traces["t1"]) == Decimal("0.06")


def test_a_file_that_no_manifest_names_is_not_read(folder, written):
    """It is not complete yet."""
    written(row())
    write_export(folder, {"observations_v2": [row("o2", "t2")]}, from_us=FROM_US, to_us=NOW_US, manifest=False)

    traces, _ = written()

    assert set(traces) == {"t1"}


def test_observations_far_from_the_range_are_found_within_reach(folder):
    """A trace is chosen by the range, and added up over the files around it."""
    for hours, span in ((5, "o1"), (4, "o2"), (1, "o3")):
        from_us, to_us = NOW_US - (hours + 1) * HOUR_US, NOW_US - hours * HOUR_US
        rows = [row(span, minutes_ago=hours * 60 + 30)]
        write_export(folder, {"observations_v2": rows}, from_us=from_us, to_us=to_us)
    source = ExportSource(open_store(str(folder), None), PROJECT, 2 * HOUR_US)

    [page] = source.read(NOW_US - 5 * HOUR_US, NOW_US - 4 * HOUR_US)

    assert cost_of(page.traces[0]) == Decimal("0.02")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_damaged_file_is_named_and_no_word_of_it(kind, folder, written):
    """What cannot be read stops the run before anything is billed; the engine's own words may hold a prompt."""
    written(row(), kind=kind)
    [file] = (folder / PROJECT / "observations_v2").iterdir()
    file.write_bytes(file.read_bytes()[:-40] + b'\x00"' + PROMPT.encode())

    try:
        _, unreadable = written()
    except Garbled as error:
        assert file.name in str(error)
        assert PROMPT[:9] not in str(error)
    else:
        assert (len(unreadable), PROMPT[:9] in str(unreadable)) == (1, False)


def test_rows_that_are_not_as_langfuse_writes_them_are_shown(written):
    """A bad number is a problem of its trace, which is held; a row without identity is counted."""
    traces, unreadable = written(
        row(),
        row("o2", "t2", cost_details={"total": "NaN"}),
        row("o3", "t3", cost_details={"total": Decimal(-1)}),
        row("o4", "t4", usage_details={"total": "many"}),
        row("o5", "t5", end_time="soon"),
        row("o6", "t6", cost_details="all"),
        row("o7", "t7", start_time=None),
        row("", "t8"),
        row("o9", "t9", project_id="another"),
        '{"id": "o10", "trace_id"',
        "7",
    )

    assert {key: bool(trace.units[0].problem) for key, trace in traces.items()} == {
        "t1": False,
        **dict.fromkeys(("t2", "t3", "t4", "t5", "t6"), True),
    }
    assert len(unreadable) == 5


def test_a_missing_file_stops_the_run_before_anything_is_billed(folder, written, from_export, run_backfill, look):
    """A copy of a bucket that is not complete."""
    written(row())
    for file in (folder / PROJECT / "observations_v2").iterdir():
        file.unlink()

    with pytest.raises(NotFound, match="not complete"):
        run_backfill(from_export(), from_us=FROM_US)

    assert look("select * from entry") == []


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda place: place.write_text("{"), Garbled, "no manifest"),
        (
            lambda place: place.write_text(place.read_text().replace('"version": 1', '"version": 2')),
            ConfigError,
            "version 2",
        ),
        (lambda place: place.write_text(place.read_text().replace(PROJECT, "another")), ConfigError, "another project"),
        (
            lambda place: place.write_text(place.read_text().replace("observations_v2", "observations")),
            ConfigError,
            "nothing",
        ),
    ],
)
def test_manifests_that_cannot_be_followed_are_refused(spoil, error, words, folder, written):
    """Before anything is billed, and the message says which one."""
    written(row())
    [place] = (folder / PROJECT / "manifests").iterdir()
    spoil(place)

    with pytest.raises(error, match=words):
        written()


def test_the_export_of_another_project_is_not_read(folder, export, from_export, run_backfill, write, langfuse):
    """The keys say whose traces are billed."""
    write("t1", (60, {}))
    export(langfuse)
    (folder / PROJECT).rename(folder / "another")

    with pytest.raises(ConfigError, match=PROJECT):
        run_backfill(from_export(), from_us=FROM_US)


# ---- with the API


@pytest.fixture
def langfuse(clock):
    """Version 4, where observations are read."""
    return SandboxLangfuse(clock=clock, generation="events_only")


def test_a_first_sync_reads_the_export_and_then_the_api(langfuse, write, export, from_export, run, balance, stripe):
    """History from the files, the last hours by the API: everything once, and nothing again by the next run."""
    write("t1", (3 * 24 * 60, {}), customer="cus_1")
    export(langfuse)
    write("t2", (3 * 24 * 60, {}), customer="cus_2")
    write("t3", (30, {}), customer="cus_3")
    settings = from_export(read_from=langfuse)

    first, second = run(settings), run(settings)

    assert first.source == "export, observations"
    assert (first.processed, second.processed, second.source) == (2, 0, "observations")
    assert set(balance()) == {"cus_1", "cus_3"}


def test_what_came_too_late_for_its_file_is_billed_by_a_full_sync(langfuse, write, export, from_export, run, balance):
    """A late observation of a trace of the export, and a late trace: an adjustment and a charge, each once."""
    write("t1", (3 * 24 * 60, {}), customer="cus_1")
    export(langfuse)
    run(from_export(read_from=langfuse))
    before = balance()
    send_cost(langfuse, "t1", "late", 0.01, at_us=NOW_US - 3 * DAY_US, parent="t1-0")
    write("t2", (3 * 24 * 60, {}), customer="cus_2")
    settings = from_export(read_from=langfuse)

    missed, found, again = run(settings), run(settings, full=True), run(settings, full=True)

    assert (missed.processed, found.processed, found.adjusted, again.adjusted) == (0, 2, 1, 0)
    assert balance()["cus_1"] == before["cus_1"] + 250 * CREDIT_MICROS
    assert "cus_2" in balance()


def test_what_was_billed_through_the_api_is_not_billed_again_from_an_export(
    write, langfuse, export, from_export, run, run_backfill, balance
):
    """The same traces by total, never added; then through the API once more."""
    for number in range(5):
        write(f"t{number}", (60 + number, {"costDetails": {"total": 0.01}}), (50, {}), customer=f"cus_{number}")
    run()
    before = balance()
    export(langfuse)
    settings = from_export(read_from=langfuse)

    summary = run_backfill(settings, from_us=FROM_US)
    after = run(settings, full=True)

    assert (summary.fetched, summary.credits) == (5, "0.000000")
    assert (after.adjusted, after.processed, balance()) == (0, 0, before)


@pytest.mark.parametrize("generation", TABLES)
def test_what_others_marked_since_is_not_billed(
    generation, clock, stripe, export, from_export, run, run_backfill, tmp_path
):
    """Files do not tell marks that were written after them: of traces new to the ledger the server is asked."""
    langfuse = SandboxLangfuse(clock=clock, generation=generation)
    for number in range(3):
        trace = {
            "id": f"t{number}",
            "timestamp": format_time(NOW_US - 2 * HOUR_US),
            "metadata": {"customerId": "cus_1"},
        }
        one = {"id": f"o{number}", "startTime": trace["timestamp"], "costDetails": {"total": 0.01}}
        langfuse.put_trace(PROJECT, {**trace, "tags": ["billing:pending"]}, [one])
    export(langfuse, generation)
    run(from_export(read_from=langfuse, BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'another.sqlite3'}"))
    clock.sleep(60)

    summary = run_backfill(from_export(read_from=langfuse), from_us=FROM_US)

    assert (summary.owed, summary.skipped["already_processed"]) == (0, 3)


def test_a_bill_is_never_lowered_by_an_export(folder, write, langfuse, from_export, run, run_backfill, balance):
    """A part of the trace may lie where was not read."""
    write("t1", (60, {"costDetails": {"total": 0.02}}))
    run()
    before = balance()
    write_export(folder, {"observations_v2": [row("t1-0", cost="0.01")]}, from_us=FROM_US, to_us=END_US)

    run_backfill(from_export(read_from=langfuse), from_us=FROM_US)

    assert balance() == before


def test_a_gap_between_manifests_is_not_passed(folder, langfuse, write, from_export, run, run_backfill, caplog):
    """A run of the export that is missing: a sync reads on from there by the API, a backfill says what it lacks."""
    write("t1", (10 * 60, {}), customer="cus_1")
    write("t2", (5 * 60, {}), customer="cus_2")
    hours = [(12 * 24, 8), (6, 4)]
    for first, last in hours:
        rows = [one for one in enriched_rows(langfuse) if _started_between(one, first, last)]
        window = {"from_us": NOW_US - first * HOUR_US, "to_us": NOW_US - last * HOUR_US}
        write_export(folder, {"observations_v2": rows}, **window)

    summary = run(from_export(read_from=langfuse))
    with caplog.at_level(logging.WARNING):
        run_backfill(from_export(read_from=langfuse), from_us=FROM_US)

    assert "lacks the time from 2026-11-23T04:00:00.000Z to 2026-11-23T06:00:00.000Z" in caplog.text
    assert (summary.processed, summary.source) == (2, "export, observations")


def _started_between(one, first_hours_ago, last_hours_ago):
    return time_of(NOW_US - first_hours_ago * HOUR_US) <= one["start_time"] < time_of(NOW_US - last_hours_ago * HOUR_US)


def test_a_dry_run_of_an_export_writes_nothing(langfuse, write, export, from_export, run, look, stripe):
    """It says what would be billed."""
    write("t1", (3 * 24 * 60, {}))
    export(langfuse)

    summary = run(from_export(read_from=langfuse), dry_run=True)

    assert summary.processed == 1
    assert stripe.meter_events() == []


def test_no_prompt_and_no_other_metadata_reaches_the_ledger(langfuse, write, export, from_export, run, ledger_url):
    """Of an export only what billing reads is taken."""
    write("t1", (3 * 24 * 60, {}), metadata={"customerId": "cus_1", "note": "a note that nobody may see"})
    export(langfuse)
    run(from_export(read_from=langfuse))

    content = path_of(ledger_url).read_bytes()
    assert b"cus_1" in content
    assert PROMPT.encode() not in content and b"nobody may see" not in content


# ---- settings and doctor


def test_doctor_says_how_far_an_export_reaches_and_what_it_never_holds(folder, langfuse, write, export, from_export):
    """Its runs, its tables, what is missing in between; and each time that late rows are in no file."""
    write("t1", (60, {}))
    export(langfuse, to_us=NOW_US - 5 * HOUR_US)
    export(langfuse, from_us=NOW_US - 4 * HOUR_US)

    told = [one for one in doctor(from_export(read_from=langfuse), VirtualClock(NOW_US)) if one.check == "export"]

    assert [one.status for one in told] == ["ok", "ok", "warning", "warning"]
    assert "2 complete runs" in told[0].detail and "0.3 hours ago" in told[0].detail
    assert told[1].detail == "traces are told by observations_v2"
    assert "from 2026-11-23T07:00:00.000Z to 2026-11-23T08:00:00.000Z" in told[2].detail
    assert "in no file" in told[3].detail


def test_doctor_names_what_is_wrong_with_an_export(folder, langfuse, from_export):
    """No folder, no manifest, or no place at all: a problem each, and the other checks go on."""
    settings = from_export(read_from=langfuse)

    def problem():
        [one] = [one for one in doctor(settings, VirtualClock(NOW_US)) if "xport" in one.detail + one.check]
        return one.status, one.detail

    assert problem()[1].endswith("which is no folder; check it")
    (folder / PROJECT).mkdir(parents=True)
    assert problem()[0] == "problem" and "no manifest" in problem()[1]
    settings = replace(settings, export_url=None)
    assert problem()[0] == "problem" and "BILLING_EXPORT_URL is not set" in problem()[1]


def test_what_is_missing_is_named_before_anything_is_read(from_export, run, monkeypatch, folder, written, langfuse):
    """The setting, or the package to install."""
    with pytest.raises(ConfigError, match="BILLING_EXPORT_URL is not set"):
        run(replace(from_export(), export_url=None))
    written(row())
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'tallymark\[bulk\]'"):
        run(from_export(read_from=langfuse, BILLING_SYNC_LOOKBACK_DAYS="40"))


@pytest.mark.parametrize("url", ["s3://", "https://bucket.example", "s3://key:secret@bucket/x", "s3://bucket/x?y=z"])
def test_a_place_that_is_none_is_refused(url, settings):
    """And keys in it are refused: they are found as boto3 finds them."""
    with pytest.raises(ConfigError, match="BILLING_EXPORT_URL"):
        settings(BILLING_EXPORT_URL=url)
