"""What an application is told of its customers: it adds up to what Stripe was sent, and says how fresh it is."""

from decimal import Decimal

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested
from databases import DATABASES, SQLITE
from tallymark import api, client
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time, parse_time
from tallymark.errors import ConfigError, NotFound
from tallymark.flows import held_decisions
from tallymark.flows.customer_usage import range_or_period
from tallymark.sandbox.langfuse import SandboxLangfuse

ON_ONE = pytest.mark.databases(SQLITE)
pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

WORTH = f"{CREDITS_OF_A_TRACE}.000000"
RANGE = {"from_us": NOW_US - DAY_US, "to_us": NOW_US}


@pytest.fixture
def summary(settings):
    """A function that asks for a customer's last day."""
    return lambda customer="cus_1", **named: client.usage_summary(customer, config=settings(), **{**RANGE, **named})


@pytest.fixture
def traces(settings):
    """A function that asks for the traces of a customer's last day."""
    return lambda customer="cus_1", **named: client.usage_events(customer, config=settings(), **{**RANGE, **named})


def test_a_summary_adds_up_by_component_and_by_model(put, run, summary, balance, clock):
    """Half of each trace is for AI, half for its time; what it comes to is what Stripe and the carry hold."""
    put("t1", cost="0.010001")
    put("t2", cost="0.03", seconds=24, minutes_ago=120)
    put("other", customer="cus_2")
    run()

    found = summary()

    assert (found.traces, found.waived) == (2, "0.000000")
    assert Decimal(found.credits) * CREDIT_MICROS == balance()["cus_1"]
    assert [(part.component, part.credits) for part in found.components] == [
        ("ai", "1000.025000"),
        ("compute", "750.000000"),
    ]
    assert sum(Decimal(part.credits) for part in found.components) == Decimal(found.credits)
    assert [(model.traces, model.credits) for model in found.models] == [(2, found.credits)]
    assert (found.from_, found.to) == (format_time(RANGE["from_us"]), format_time(RANGE["to_us"]))


@ON_ONE
def test_what_rounding_moves_is_told_with_the_largest_component(put, run, summary, balance):
    """A third of a second has no exact number of credits; the parts come to the whole all the same."""
    for number in range(7):
        put(f"t{number}", cost="0.00000001", seconds=1 / 3, minutes_ago=60 + number)
    run()

    found = summary()

    assert sum(Decimal(part.credits) for part in found.components) == Decimal(found.credits)
    assert Decimal(found.credits) * CREDIT_MICROS == balance()["cus_1"]


def test_models_are_those_that_observations_name(clock, settings, run):
    """A trace of two models is not divided between them; `usage` says the same."""
    langfuse = SandboxLangfuse(clock=clock, generation="events_only")
    for trace_id, models in (("t1", ["gpt"]), ("t2", ["gpt", "claude"]), ("t3", [])):
        trace, (generation,) = ingested(trace_id)
        made = [{**generation, "id": f"{trace_id}-{model}", "model": model} for model in models]
        langfuse.put_trace(PROJECT, trace, made or [{**generation, "model": None}])
    config = settings(read_from=langfuse)
    run(config)

    found = client.usage_summary("cus_1", config=config, **RANGE)

    assert [(one.model, one.traces, one.credits) for one in found.models] == [
        ("(not known)", 1, WORTH),
        ("claude, gpt", 1, "750.000000"),
        ("gpt", 1, WORTH),
    ]
    assert {row["key"]: row["credits"] for row in api.usage(config, by="model", **RANGE)} == {
        one.model: one.credits for one in found.models
    }


@ON_ONE
def test_a_summary_says_how_fresh_it_is(put, run, summary, clock):
    """How far Langfuse was read, and when a trace of it was read last."""
    put("t1")
    run()
    before = summary()
    clock.advance(600)
    run()

    assert before.updated_at == format_time(NOW_US)
    assert before.read_up_to < summary().read_up_to < format_time(clock.now_us())


@ON_ONE
def test_an_unknown_customer_has_used_nothing(run, summary, traces):
    """An application asks for customers who have not begun."""
    run()

    found = summary("cus_new")

    assert (found.credits, found.traces, found.components, found.models, found.updated_at) == (
        "0.000000",
        0,
        [],
        [],
        None,
    )
    assert traces("cus_new") == []


def test_what_was_waived_is_not_charged_and_said(put, run, settings, summary, traces, clock, stripe):
    """The components are what was used; `waived` is what of it is not billed."""
    boundary_us = NOW_US - 90 * MINUTE_US
    stripe.add_subscription("cus_1", "credits", started_at_us=boundary_us - 20 * DAY_US, period="day")
    put("late", at_us=boundary_us - 20 * MINUTE_US)
    put("in-time")
    run()
    (event,) = [row for row in api.held(settings())["meter_events"] if row["state"] == "held"]
    held_decisions.waive(settings(), [event["identifier"]], why="mail", by="anna", clock=clock)

    found = summary()

    assert (found.credits, found.waived) == (WORTH, WORTH)
    assert {one.trace_id: one.credits for one in traces()} == {"late": "0.000000", "in-time": WORTH}


def test_traces_come_newest_first_with_their_components(put, run, traces):
    """As many as are asked for."""
    put("t1", minutes_ago=90)
    put("t2", minutes_ago=60, name="report")
    run()

    newest, _ = traces()

    assert (newest.trace_id, newest.name, newest.credits) == ("t2", "report", WORTH)
    assert newest.components == {"ai": "250.000000", "compute": "250.000000"}
    assert [one.trace_id for one in traces(limit=1)] == ["t2"]
    with pytest.raises(ConfigError, match="limit=-1"):
        traces(limit=-1)


def test_a_period_to_date_is_the_billing_period_else_the_month(put, run, ledger, stripe):
    """Stripe is asked for periods when something is sent, and what it said then is known."""
    boundary_us = NOW_US - 5 * HOUR_US
    stripe.add_subscription("cus_1", "credits", started_at_us=boundary_us - 20 * DAY_US, period="day")
    put("t1")
    put("t2", customer="cus_2")
    run()
    month_us = parse_time("2026-11-01T00:00:00Z")

    assert range_or_period(ledger, "cus_1", None, None, NOW_US) == (boundary_us, NOW_US)
    assert range_or_period(ledger, "cus_2", None, None, NOW_US) == (month_us, NOW_US)
    assert range_or_period(ledger, "cus_1", 5, None, NOW_US) == (5, NOW_US)
    assert range_or_period(ledger, "cus_2", None, month_us - 1, NOW_US) == (
        parse_time("2026-10-01T00:00:00Z"),
        month_us - 1,
    )
    with pytest.raises(ConfigError, match="ends"):
        range_or_period(ledger, "cus_1", 5, 4, NOW_US)


@ON_ONE
@pytest.mark.parametrize("by", ["flow", "model"])
def test_usage_by_flow_goes_by_the_name_of_the_trace(put, run, settings, by):
    """A trace without a name has a row, too; the trace list names no models."""
    put("t1", name="chat")
    put("t2", name="chat", minutes_ago=61)
    put("t3", name=None, minutes_ago=62)
    run()

    rows = api.usage(settings(), by=by, **RANGE)

    expected = {"chat": 2, "(no name)": 1} if by == "flow" else {"(not known)": 3}
    assert {row["key"]: row["traces"] for row in rows} == expected
    assert {row["key"]: row["credits"] for row in rows} == {
        key: f"{traces * CREDITS_OF_A_TRACE}.000000" for key, traces in expected.items()
    }


@ON_ONE
def test_one_trace_is_counted_now(put, settings, stripe, clock, monkeypatch):
    """Billed at once and once; one that is not there is an error."""
    monkeypatch.setattr("tallymark.flows.stations.SystemClock", lambda: clock)
    put("t1")
    put("t2")
    config = settings()

    assert client.sync_trace("t1", config=config).processed == 1
    assert client.sync_trace("t1", config=config).processed == 0

    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
    with pytest.raises(NotFound):
        client.sync_trace("t3", config=config)
