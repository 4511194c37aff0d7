"""An estimate before a backfill: counts and samples that come near the truth, limits that hold, and nothing written."""

from itertools import pairwise

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested
from tallymark.core.clock import DAY_US, HOUR_US
from tallymark.flows import estimate
from tallymark.flows.estimate import (
    SAMPLES,
    Sample,
    Survey,
    credits_of,
    estimate_backfill,
    make_estimate,
    meter_events_of,
    stretches,
)
from tallymark.flows.reading import Collected
from tallymark.sandbox.langfuse import SandboxLangfuse

DAYS = 24 * 60
EVENTS_ONLY = "events_only"


@pytest.fixture
def look_ahead(settings, clock):
    """A function that estimates the backfill of the last 35 days."""
    return lambda to=None: estimate_backfill(to or settings(), clock=clock)


def history(write, count):
    """So many traces of three customers, one each half a day, each in an hour of its own."""
    for number in range(count):
        write(f"t{number}", minutes_ago=(number + 2) * DAYS // 2, customer=f"cus_{number % 3}")


def test_a_short_history_is_read_whole_and_nothing_is_written(put, look_ahead, stripe, langfuse, tmp_path):
    """Traces, customers, meter events and credits as they are; no ledger, no request to Stripe, none that writes."""
    history(put, 60)

    found = look_ahead()

    assert (found.source, found.rows, found.traces, found.sampled_traces) == ("traces", 60, 60, 60)
    assert (found.customers, found.meter_events, found.meter_events_at_least) == (3, 60, False)
    assert found.credits.about == f"{60 * CREDITS_OF_A_TRACE}.000000"
    assert found.usd.about == "1.20"
    assert found.results == {"processed": 60}
    assert stripe.counts() == {}
    assert {line.partition(" ")[0] for line in langfuse.counts()} == {"GET"}
    assert list(tmp_path.glob("ledger*")) == []


def test_a_long_history_is_sampled(put, look_ahead, settings, langfuse, monkeypatch):
    """A few pages here and there: near the truth, in a fraction of the requests."""
    monkeypatch.setattr(estimate, "page_rows", lambda _: 2)
    history(put, 66)

    found = look_ahead(settings(BILLING_METER_BUCKET="trace"))

    assert found.rows == found.traces == 66
    assert 12 <= found.sampled_traces < 40
    assert abs(float(found.credits.about) - 66 * CREDITS_OF_A_TRACE) <= 1
    assert 60 <= found.meter_events <= 72
    assert found.langfuse.requests == 33


def test_observations_are_counted_and_traces_told_from_them(clock, settings, look_ahead):
    """Three observations a trace: it says that its traces are a guess."""
    langfuse = SandboxLangfuse(clock=clock, generation=EVENTS_ONLY)
    for number in range(12):
        trace, observations = ingested(f"t{number}", minutes_ago=(number + 1) * DAYS)
        more = [{**observations[0], "id": f"t{number}-more", "costDetails": {"total": 0.0}}]
        langfuse.put_trace(PROJECT, trace, [*observations, *more])

    found = look_ahead(settings(read_from=langfuse))

    assert (found.source, found.traces, found.sampled_traces) == ("observations", 12, 12)
    assert found.rows > 12
    assert any("estimated from observations" in note for note in found.notes)


def test_what_is_known_already_and_what_is_held_is_said(put, look_ahead, run):
    """A second bill is not expected, and a trace without a customer is no credit."""
    put("billed")
    put("nobody", customer=None)
    run()

    found = look_ahead()

    assert found.results == {"already_processed": 1, "no_customer": 1}
    assert (found.meter_events, found.credits.about) == (0, "0.000000")
    assert any("not every sampled trace would be billed" in note for note in found.notes)


# ---- limits


def survey(*samples, rows, generation="traces", url="https://langfuse.example.com", seconds=0.5):
    """A survey with samples of (traces, credits, buckets), each of an hour."""
    made = []
    for traces, credits, buckets in samples:
        collected = Collected(credits_micros=credits * 1_000_000, rows=traces)
        collected.results["processed"] = traces
        made.append(Sample(HOUR_US, collected, buckets))
    return Survey(generation, url, rows, seconds, made)


@pytest.mark.parametrize(
    ("changes", "url", "hours", "by_plan"),
    [
        ({"BILLING_LANGFUSE_REQUESTS_PER_MINUTE": "60"}, "https://cloud.langfuse.com", 10.0, {}),
        ({}, "https://us.cloud.langfuse.com", None, {"Hobby": 40.0, "Core": 20.0, "Pro, Team": 6.0}),
        ({}, "https://langfuse.example.com", 5.0, {}),
    ],
)
def test_hours_are_told_under_the_limit_that_holds(settings, changes, url, hours, by_plan):
    """A setting first; then Langfuse Cloud's plans, since nobody says which; else as fast as the samples."""
    found = make_estimate(settings(**changes), [survey((100, 100, 10), rows=3_600_000, url=url)], 1, 0, DAY_US)

    assert (found.langfuse.requests, found.langfuse.hours, found.langfuse.hours_by_plan) == (36_000, hours, by_plan)


@pytest.mark.parametrize(
    ("changes", "requests", "hours"),
    [
        ({"BILLING_STRIPE_REQUESTS_PER_SECOND": "10"}, 36_100, 1.0),
        ({"BILLING_STRIPE_REQUESTS_PER_SECOND": "10", "BILLING_METER_API": "stream"}, 460, 0.01),
        ({"BILLING_STRIPE_REQUESTS_PER_SECOND": "10", "BILLING_LATE_PERIOD": "send"}, 36_000, 1.0),
    ],
)
def test_stripes_requests_are_those_of_the_api_and_of_periods(settings, changes, requests, hours):
    """One a meter event, or a hundredth of it by the stream; and one a customer where periods are read."""
    found = make_estimate(settings(**changes), [survey((100, 100, 1500), rows=2400)], 100, 0, DAY_US)

    assert found.meter_events == 36_000
    assert (found.stripe.requests, found.stripe.hours) == (requests, hours)


# ---- from samples to a whole


def test_credits_have_a_spread():
    """As the cheapest sample, as all, as the dearest; a sample without traces says nothing."""
    assert credits_of(survey((10, 10, 1), (10, 30, 1), (0, 0, 0), rows=100)) == (100_000_000, 200_000_000, 300_000_000)
    assert credits_of(survey(rows=0)) == (0, 0, 0)


def test_a_stretch_that_is_shorter_than_a_bucket_shows_the_least():
    """Two customers in an hour are at least two meter events a day, and just two each hour."""
    two = [survey((5, 5, 2), (5, 5, 2), rows=240)]

    assert meter_events_of("hour", two, DAY_US) == (48, False)
    assert meter_events_of("day", two, DAY_US) == (2, True)
    assert meter_events_of("trace", two, DAY_US) == (96, False)


def test_samples_are_spread_over_the_range_and_never_overlap():
    """Few rows: all of it. Many: some pages in each sixth."""
    whole = stretches(NOW_US - DAY_US, NOW_US, 10, 100)
    some = stretches(NOW_US - DAY_US, NOW_US, 240_000, 100)

    assert len(whole) == len(some) == SAMPLES
    assert (whole[0][0], whole[-1][1]) == (NOW_US - DAY_US, NOW_US)
    assert {end_us - start_us for start_us, end_us in some} == {DAY_US * 200 // 240_000}
    assert all(before[1] <= after[0] for found in (whole, some) for before, after in pairwise(found))
    assert stretches(NOW_US, NOW_US, 10, 100) == []
