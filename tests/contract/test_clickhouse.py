"""Langfuse's ClickHouse, on a real engine: the same bill as through the API, late rows by when they were written."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from observation_services import send_cost
from test_generations_same_bill import Bill, workloads

import clickhouse_server
from builders import CREDIT_MICROS, NOW_US, PROJECT
from exports import clickhouse_time, enriched_rows, json_text, legacy_rows
from tallymark.config import require_bulk
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time
from tallymark.core.types import Unit
from tallymark.errors import ConfigError, KeyRefused, Unreachable
from tallymark.flows.doctor import doctor
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.story import expect, tell
from tallymark.source.clickhouse import ClickHouseServer, ClickHouseSource

FROM_US = NOW_US - 40 * DAY_US
AMOUNT = "Decimal(18, 12)"
SHARED = "updated_at DateTime64(3), event_ts DateTime64(3), is_deleted UInt8"
# The columns of facts/langfuse.md sections 10.2 and 10.3 that may matter, in its types.
SCHEMA = {
    "traces": "id String, timestamp DateTime64(3), name String, user_id Nullable(String), "
    "metadata Map(LowCardinality(String), String), release Nullable(String), version Nullable(String), "
    "project_id String, public Bool, bookmarked Bool, tags Array(String), input Nullable(String), "
    f"session_id Nullable(String), environment LowCardinality(String), {SHARED}",
    "observations": "id String, trace_id Nullable(String), project_id String, type LowCardinality(String), "
    "parent_observation_id Nullable(String), start_time DateTime64(3), end_time Nullable(DateTime64(3)), name String, "
    "usage_details Map(LowCardinality(String), UInt64), "
    f"cost_details Map(LowCardinality(String), {AMOUNT}), total_cost Nullable({AMOUNT}), {SHARED}",
    "scores": "id String, timestamp DateTime64(3), project_id String, trace_id Nullable(String), "
    f"observation_id Nullable(String), name String, string_value Nullable(String), {SHARED}",
    "events_full": "project_id String, trace_id String, span_id String, parent_span_id String, "
    "start_time DateTime64(6), end_time Nullable(DateTime64(6)), environment LowCardinality(String), version String, "
    "release String, trace_name String, user_id String, session_id String, tags Array(String), "
    "provided_model_name String, usage_details Map(LowCardinality(String), UInt64), "
    f"cost_details Map(LowCardinality(String), {AMOUNT}), total_cost {AMOUNT} ALIAS cost_details['total'], "
    f"metadata_names Array(String), metadata_values Array(String), input String, {SHARED}",
}
KEYS = {
    "traces": "(project_id, toDate(timestamp), id)",
    "observations": "(project_id, type, toDate(start_time), id)",
    "scores": "(project_id, toDate(timestamp), name, id)",
    "events_full": "(project_id, toStartOfMinute(start_time), xxHash32(trace_id), span_id, start_time)",
}
EVENT_COLUMNS = (
    "project_id trace_id start_time end_time environment version release trace_name user_id session_id tags "
    "provided_model_name usage_details cost_details updated_at"
)
LEGACY_COLUMNS = {
    "traces": "id timestamp name user_id metadata release version project_id public bookmarked tags session_id "
    "environment updated_at",
    "observations": "id trace_id project_id type parent_observation_id start_time end_time usage_details "
    "cost_details total_cost updated_at",
}


@pytest.fixture(scope="module")
def clickhouse():
    """A server of its own."""
    with clickhouse_server.running() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(clickhouse):
    """Each test begins with empty tables."""
    make_tables(clickhouse)


def make_tables(clickhouse):
    for table, columns in SCHEMA.items():
        clickhouse.run(f"drop table if exists {table}")
        engine = f"ReplacingMergeTree(event_ts, is_deleted) order by {KEYS[table]}"
        clickhouse.run(f"create table {table} ({columns}) engine = {engine}")


@pytest.fixture
def store(clickhouse):
    """A function that puts all that a sandbox holds into the tables of its generation."""
    return lambda langfuse, generation="events_only": fill(clickhouse, langfuse, generation)


def fill(clickhouse, langfuse, generation):
    if generation == "legacy":
        for table, rows in legacy_rows(langfuse).items():
            clickhouse.insert(table, [json_text(_row(row, LEGACY_COLUMNS[table].split())) for row in rows])
    else:
        clickhouse.insert("events_full", [json_text(event(row)) for row in enriched_rows(langfuse)])


def _row(row, columns):
    taken = {name: row[name] for name in columns if row.get(name) is not None}
    return {"event_ts": row["updated_at"], "is_deleted": 0, **taken}


def event(row):
    metadata = row["metadata"]
    return {
        **_row(row, EVENT_COLUMNS.split()),
        "span_id": row["id"],
        "parent_span_id": row["parent_observation_id"] or "",
        "metadata_names": list(metadata),
        "metadata_values": list(metadata.values()),
    }


def event_row(span_id="o1", trace_id="t1", *, minutes_ago=60, written_ago=50, seconds=12, cost="0.01", **changes):
    """A row of the events table: a root of 12 seconds and 0.01 USD."""
    start_us = NOW_US - minutes_ago * MINUTE_US
    written = time_of(NOW_US - written_ago * MINUTE_US)
    row = {
        "project_id": PROJECT,
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_span_id": "",
        "start_time": time_of(start_us),
        "end_time": time_of(start_us + seconds * 1_000_000),
        "tags": ["billing:pending"],
        "usage_details": {},
        "cost_details": {} if cost is None else {"total": Decimal(cost)},
        "metadata_names": ["customerId"],
        "metadata_values": ["cus_1"],
        "updated_at": written,
        "event_ts": written,
        "is_deleted": 0,
    }
    return json_text({**row, **changes})


def time_of(at_us):
    return clickhouse_time(format_time(at_us))


@pytest.fixture
def from_clickhouse(clickhouse, settings):
    """A function that makes settings which read the server."""
    return lambda **changes: settings(BILLING_SOURCE="clickhouse", BILLING_CLICKHOUSE_URL=clickhouse.url, **changes)


@pytest.fixture
def traces(clickhouse):
    """A function that reads every trace of the events table, by id."""

    def read(*rows, **options):
        clickhouse.insert("events_full", rows)
        server = ClickHouseServer(clickhouse.url)
        source = ClickHouseSource(server, PROJECT, "observations", **options)
        found = {one.trace_id: one for page in source.read(NOW_US - 2 * DAY_US, NOW_US) for one in page.traces}
        server.close()
        return found

    return read


# ---- the same bill


@pytest.mark.parametrize("generation", ["events_only", "legacy"])
def test_the_story_is_billed_as_it_is_told(generation, clock, store, from_clickhouse, run_backfill, look):
    """Every kind of trace, from both kinds of tables: what the story's own arithmetic says, without one page asked."""
    langfuse = SandboxLangfuse(clock=clock, generation=generation)
    told = [one for one in tell(300, NOW_US) if one.kind != "future"]
    for one in told:
        langfuse.put_trace(PROJECT, {**one.trace, "bookmarked": one.bookmarked}, one.observations)
    expected = expect(iter(told))
    store(langfuse, generation)

    summary = run_backfill(from_clickhouse(read_from=langfuse), from_us=FROM_US)

    billed = dict(look("select customer_id, sum(amount_micros) from entry group by customer_id"))
    assert +Counter({"processed": summary.owed, **summary.skipped, **summary.held}) == expected.results
    assert billed == {customer: micros for customer, micros in expected.micros.items() if micros}


@given(workload=workloads())
@trying(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_workload_is_billed_as_through_the_api(workload, clickhouse):
    """Overlaps, gaps, observations without an end or a cost: the same for every hour, from both kinds of tables."""
    for generation, api in (("legacy", "traces"), ("events_only", "observations")):

        def stored(langfuse, generation=generation):
            make_tables(clickhouse)
            fill(clickhouse, langfuse, generation)
            return {"BILLING_SOURCE": "clickhouse", "BILLING_CLICKHOUSE_URL": clickhouse.url}

        through_api, through_clickhouse = Bill(api, workload), Bill(api, workload, bulk=stored)

        assert through_clickhouse.by_hour == through_api.by_hour
        assert through_clickhouse.results == through_api.results
        assert through_clickhouse.sent == through_api.sent


def test_no_digit_of_a_cost_is_lost_and_versions_count_once(traces):
    """Twelve decimals are added exactly; of two versions the newest counts, and of a deleted observation none."""
    found = traces(
        event_row(cost="123456.123456789012"),
        event_row("o2", cost="5", written_ago=59),
        event_row("o2", cost="0.000000000001"),
        event_row("o3", cost="7"),
        event_row("o3", cost="7", is_deleted=1, written_ago=40),
        event_row("t-t1", minutes_ago=90, cost="3"),
    )

    assert found["t1"].units[0].cost_usd == Decimal("123456.123456789013")
    assert found["t1"].timestamp_us == NOW_US - 90 * MINUTE_US


def test_observations_of_a_trace_lie_in_other_windows(traces):
    """A trace is chosen by a window and added up over all of its observations around it."""
    far = 26 * 60

    found = traces(event_row(minutes_ago=far), event_row("o2", parent_span_id="o1"), window_us=12 * HOUR_US)

    assert found["t1"].units[0].cost_usd == Decimal("0.02")
    assert found["t1"].units[0].duration_s == (far - 60) * 60 + 12


def test_contradictions_roots_tokens_and_prices_are_told(traces):
    """What the observations API tells of a trace, a real engine tells too."""
    child = {"parent_span_id": "elsewhere"}
    found = traces(
        event_row(user_id="root's", provided_model_name="big", usage_details={"input": 5, "output": 2}),
        event_row("o2", metadata_values=["cus_2"], user_id="another", usage_details={"total": 3}, **child),
        event_row("o3", "t2", metadata_names=[], metadata_values=[], user_id="only", cost=None, **child),
        event_row("o4", "t3", cost=None, usage_details={"total": 3}),
        event_row("o5", "t4", cost_details={"input": Decimal("0.1"), "cache": Decimal("0.05")}),
        event_row("o6", "t5", cost_details={"total": Decimal(-1)}),
        by_model=True,
    )

    assert found["t1"].attributes["conflict"] == "customerId"
    assert (found["t1"].user_id, found["t1"].root_seen) == ("root's", True)
    assert found["t1"].units[0] == Unit("", Decimal("0.02"), Decimal(12), 10, models=((None, 3), ("big", 7)))
    assert (found["t2"].user_id, found["t2"].root_seen, found["t2"].unpriced) == ("only", False, False)
    assert found["t3"].unpriced
    assert found["t4"].units[0].cost_usd == Decimal("0.15")
    assert found["t5"].units[0].problem == "the cost is negative"


# ---- with the rest


@pytest.fixture
def langfuse(clock):
    """Version 4, where observations are read."""
    return SandboxLangfuse(clock=clock, generation="events_only")


def test_a_late_row_of_an_old_trace_is_billed_by_the_next_sync(
    langfuse, clickhouse, write, store, from_clickhouse, run, balance, clock
):
    """By when it was written: without `--full`, and without asking for a page."""
    write("t1", (3 * 24 * 60, {}), customer="cus_1")
    store(langfuse)
    settings = from_clickhouse(read_from=langfuse)
    first = run(settings)
    before = balance()
    clock.sleep(6 * 3600)
    at_us, now = NOW_US - 3 * DAY_US, time_of(clock.now_us() - MINUTE_US)
    late = {"start_time": time_of(at_us), "end_time": time_of(at_us), "updated_at": now, "event_ts": now}
    clickhouse.insert("events_full", [event_row("late", parent_span_id="t1-0", **late)])

    second, third = run(settings), run(settings)

    assert (first.source, first.processed) == ("clickhouse", 1)
    assert (second.processed, second.adjusted, third.adjusted) == (1, 1, 0)
    assert balance()["cus_1"] == before["cus_1"] + 250 * CREDIT_MICROS
    assert not any("v2/observations" in path and "limit=1000" in query for _, path, query in langfuse.requests())


def test_a_lower_cost_lowers_the_bill_once_it_is_read_in_full(
    langfuse, clickhouse, write, store, from_clickhouse, run, balance, clock
):
    """A newer version of an observation is cheaper: ClickHouse holds all parts of the trace, so that is believed."""
    write("t1", (60, {"costDetails": {"total": 0.02}}), customer="cus_1")
    store(langfuse)
    settings = from_clickhouse(read_from=langfuse)
    run(settings)
    before = balance()
    [row] = enriched_rows(langfuse)
    row["cost_details"], row["updated_at"] = {"total": Decimal("0.01")}, time_of(NOW_US)
    clickhouse.insert("events_full", [json_text(event(row))])

    summary = run(settings)

    assert summary.adjusted == 1
    assert balance()["cus_1"] == before["cus_1"] - 250 * CREDIT_MICROS


def test_what_a_score_marks_is_not_billed_by_another_ledger(langfuse, clickhouse, write, store, from_clickhouse, run):
    """Marks stand in ClickHouse as they are; a score on an observation marks nothing."""
    for number in range(2):
        write(f"t{number}", (60, {}))
    store(langfuse)
    score = {"project_id": PROJECT, "name": "billing_status", "string_value": "processed", "timestamp": time_of(NOW_US)}
    for number, observation in enumerate((None, "t1-0")):
        of = {"id": f"s{number}", "trace_id": f"t{number}", "observation_id": observation}
        clickhouse.insert("scores", [{**score, **of, "event_ts": time_of(NOW_US), "is_deleted": 0}])

    summary = run(from_clickhouse(read_from=langfuse))

    assert (summary.processed, summary.skipped["already_processed"]) == (1, 1)


def test_held_traces_are_read_again_under_other_settings(langfuse, write, store, from_clickhouse, run):
    """A customer that was mapped since: the trace is billed by the next sync."""
    write("t1", (60, {}), customer=None)
    store(langfuse)
    held = run(from_clickhouse(read_from=langfuse))

    billed = run(from_clickhouse(read_from=langfuse, BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9"))

    assert (held.held["no_customer"], billed.processed) == (1, 1)


def test_through_the_api_afterwards_nothing_is_billed_again(
    langfuse, write, store, from_clickhouse, settings, run, balance
):
    """The same traces by total; what comes late is added."""
    write("t1", (60, {"costDetails": {"total": 0.01}}), (50, {}), customer="cus_1")
    store(langfuse)
    run(from_clickhouse(read_from=langfuse))
    before = balance()

    same = run(settings(read_from=langfuse), full=True)
    send_cost(langfuse, "t1", "late", 0.01, at_us=NOW_US - HOUR_US, parent="t1-0")
    more = run(settings(read_from=langfuse), full=True)

    assert (same.adjusted, more.adjusted) == (0, 1)
    assert balance()["cus_1"] == before["cus_1"] + 250 * CREDIT_MICROS


# ---- errors and doctor


def test_errors_of_a_server_are_told_in_words_without_its_password(clickhouse):
    """A wrong password, no table, no server."""
    clickhouse.run("drop table events_full")
    for url, error, words in (
        (clickhouse.url.replace("nobody", "somebody"), KeyRefused, "BILLING_CLICKHOUSE_URL"),
        (clickhouse.url, ConfigError, "events_core, events_full"),
        ("http://reader:a-password-nobody-may-see@127.0.0.1:1/langfuse", Unreachable, "127.0.0.1:1/langfuse"),
    ):
        with pytest.raises(error, match=words) as raised:
            list(ClickHouseSource(ClickHouseServer(url), PROJECT, "observations").read(FROM_US, NOW_US))
        assert "password-" not in str(raised.value)


def test_doctor_checks_clickhouse(langfuse, write, store, from_clickhouse):
    """Its table and its newest row; and that it holds this project at all."""

    def told():
        found = doctor(from_clickhouse(read_from=langfuse), VirtualClock(NOW_US))
        return [(one.status, one.detail) for one in found if one.check == "clickhouse"]

    assert "holds no row of the project" in told()[1][1]
    write("t1", (60, {}))
    store(langfuse)
    assert [status for status, _ in told()] == ["ok", "ok"]
    assert "events_full" in told()[0][1] and "minutes ago" in told()[1][1]


def test_the_password_is_shown_nowhere(from_clickhouse):
    """Not in `config show`, not in the settings themselves."""
    settings = from_clickhouse()

    assert "password-nobody" not in str(settings.describe()) + repr(settings)
    with pytest.raises(ConfigError, match="BILLING_CLICKHOUSE_URL is not set"):
        require_bulk(replace(settings, clickhouse_url=None))
