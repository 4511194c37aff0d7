"""Both generations of Langfuse give the same bill: per customer and hour, to the micro-credit."""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from builders import NOW_US, PROJECT
from tallymark import config
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time, parse_time
from tallymark.flows.sync import sync
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.workload import read_workload

WORKLOAD = Path(__file__).parents[1] / "data" / "workload_small.csv"
GENERATIONS = {"traces": "legacy", "observations": "events_only"}
FROM_US = NOW_US - 40 * DAY_US
MS_US = 1000
HOUR_SECONDS = 3600


class Bill:
    """What one sync of a workload through one generation came to."""

    def __init__(self, generation, workload, attributes_on="every", bulk=None):
        """`workload` yields (trace, observations) or (trace, observations, where the trace's attributes are).

        `bulk` puts what the sandbox holds where a bulk source reads it, and gives the settings for that.
        """
        clock = VirtualClock(NOW_US)
        stripe = SandboxStripe(clock=clock)
        stripe.add_meter("credits")
        langfuse = SandboxLangfuse(clock=clock, generation=GENERATIONS[generation])
        for trace, observations, *said_on in workload:
            langfuse.put_trace(PROJECT, trace, observations, attributes_on=said_on[0] if said_on else attributes_on)
        with tempfile.TemporaryDirectory() as folder, serve(langfuse) as source, serve(stripe) as meter:
            ledger = Path(folder) / "ledger.sqlite3"
            settings = config.load(
                None,
                {
                    "LANGFUSE_BASE_URL": source.url,
                    "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
                    "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
                    "STRIPE_API_BASE": meter.url,
                    "STRIPE_SECRET_KEY": "sk_test_sandbox",
                    "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000",
                    "BILLING_LEDGER_URL": f"sqlite:///{ledger}",
                    **(bulk(langfuse) if bulk else {}),
                },
            )
            # With a range of somebody's choice the API is read, and no export.
            self.summary = sync(settings, clock=clock, from_us=None if bulk else FROM_US)
            with contextlib.closing(sqlite3.connect(ledger)) as database:
                self._read(database, stripe)
        assert self.summary.source in ((f"export, {generation}", "clickhouse") if bulk else (generation,))

    def _read(self, database, stripe):
        self.by_hour = dict_of(
            database, "select customer_id, bucket_start_us, sum(amount_micros) from entry group by 1, 2"
        )
        carry = dict(database.execute("select customer_id, sum(amount_micros) from carry group by 1"))
        self.billed = Counter(carry)
        for (customer, _), credits in stripe.tally().items():
            self.billed[customer] += int(credits) * 1_000_000
        # What Stripe itself holds for each hour, which is what the ledger's buckets must have become.
        self.sent = Counter()
        for sent in stripe.meter_events():
            self.sent[sent.customer, sent.timestamp_seconds // HOUR_SECONDS] += int(sent.value)

    @property
    def results(self):
        """Traces by result."""
        summary = self.summary
        return +Counter({"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held})


def dict_of(database, question):
    return {(customer, start_us): micros for customer, start_us, micros in database.execute(question)}


def same(workload, **changes):
    """The bill of a workload, which both generations agree on in every respect."""
    workload = list(workload)
    traces, observations = (Bill(generation, workload, **changes) for generation in GENERATIONS)
    assert observations.results == traces.results
    assert observations.by_hour == traces.by_hour
    assert observations.sent == traces.sent
    assert +observations.billed == +traces.billed
    assert observations.summary.credits == traces.summary.credits
    return observations


@pytest.mark.parametrize("attributes_on", ["every", "root"])
def test_the_story_is_billed_the_same(attributes_on):
    """Every kind of trace; and both bills are what the story's own arithmetic says."""
    told = list(tell(600, NOW_US))
    expected = expect(iter(told))

    bill = same(
        [({**one.trace, "bookmarked": one.bookmarked}, one.observations) for one in told], attributes_on=attributes_on
    )

    assert bill.results == expected.results
    assert +bill.billed == expected.micros
    assert len(bill.by_hour) > 300


def test_the_recorded_workload_is_billed_the_same():
    """The rows of a recorded workload: the same credits for every customer and hour."""
    bill = same(read_workload(WORKLOAD, now_us=NOW_US, customers=12))

    assert bill.results == {"processed": WORKLOAD.read_text().count("\n") - 1}
    assert sum(bill.sent.values()) > 0


# ---- any workload


@st.composite
def observations_of(draw, start_us, priced):
    """One to four observations from `start_us` on: overlapping, with gaps, nested, some without an end or a cost."""
    made = []
    for part in range(draw(st.integers(1, 4))):
        # A child's clock may be a little behind the root's.
        offset_ms = draw(st.integers(-3_000 if part else 0, 90_000)) if part else 0
        at_us = start_us + offset_ms * MS_US
        one = {"type": draw(st.sampled_from(["GENERATION", "SPAN"])), "startTime": format_time(at_us)}
        if draw(st.integers(0, 4)):
            one["endTime"] = format_time(at_us + draw(st.integers(0, 200_003)) * MS_US)
        if part and draw(st.booleans()):
            one["parentObservationId"] = "0"
        if one["type"] == "GENERATION":
            one["usageDetails"] = {"input": draw(st.integers(1, 5000)), "output": draw(st.integers(0, 900))}
            if priced:
                one["costDetails"] = draw(costs())
        made.append(one)
    return made


@st.composite
def costs(draw):
    """Costs of six decimals: a total, or the two parts that a server adds up by itself."""
    parts = {side: draw(st.integers(1, 60_000)) / 1_000_000 for side in ("input", "output")}
    return parts if draw(st.booleans()) else {"total": parts["input"], **draw(st.sampled_from([{}, {"cache": 0.5}]))}


@st.composite
def traces_of(draw, number):
    """A trace within the five days before now, well settled; with a customer or without."""
    start_us = NOW_US - HOUR_US - draw(st.integers(0, 5 * DAY_US // MS_US)) * MS_US
    made = draw(observations_of(start_us, priced=draw(st.integers(0, 5)) > 0))
    ids = {str(place): f"t{number}-{place}" for place in range(len(made))}
    for place, one in enumerate(made):
        one["id"] = ids[str(place)]
        if "parentObservationId" in one:
            one["parentObservationId"] = ids["0"]
    roots = [one["startTime"] for one in made if "parentObservationId" not in one]
    customer = draw(st.sampled_from([None, "cus_1", "cus_1", "cus_2", "12345"]))
    metadata = {"customerId": customer} if customer else {}
    if draw(st.integers(0, 3)) == 0:
        metadata["aiCredentialsOwnership"] = "user"
    trace = {"id": f"t{number}", "timestamp": min(roots), "metadata": metadata, "tags": ["billing:pending"]}
    return trace, made, draw(st.sampled_from(["every", "root"]))


@st.composite
def workloads(draw):
    """Up to twelve traces."""
    return [draw(traces_of(number)) for number in range(draw(st.integers(1, 12)))]


@given(workload=workloads())
@trying(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_workload_is_billed_the_same(workload):
    """
    Any mixture of observations is worth the same to both generations, and what plain arithmetic says.

    Left out, for the trace list cannot see them: traces that mix priced and unpriced observations (there they are
    billed without the unpriced part, here they are held), and costs in other parts than input and output without a
    total, which the list counts as 0 (facts/langfuse-observed.md item 4).
    """
    bill = same(workload)

    assert +bill.billed == expected_of(workload)
    assert bill.summary.fetched == len(workload)


def expected_of(workload):
    micros = Counter()
    for trace, observations, _ in workload:
        priced = trace["metadata"].get("aiCredentialsOwnership") == "user" or all(
            "costDetails" in one for one in observations if "usageDetails" in one
        )
        if priced and (customer := trace["metadata"].get("customerId")):
            micros[customer] += micros_of(trace, observations)
    return +micros


def micros_of(trace, observations):
    """Credits at the default prices, in fractions: cost of the platform's AI, and first start to last end."""
    platform = trace["metadata"].get("aiCredentialsOwnership") != "user"
    cost_usd = sum((cost_of(one["costDetails"]) for one in observations if "costDetails" in one), Fraction(0))
    moments = [parse_time(one[side]) for one in observations for side in ("startTime", "endTime") if side in one]
    seconds = Fraction(max(moments) - min(moments), SECOND_US)
    usd = (cost_usd if platform else 0) + seconds * Fraction("0.05") / (MINUTE_US // SECOND_US)
    return round(usd / Fraction("0.00004") * 1_000_000)


def cost_of(costs):
    parts = [costs["total"]] if "total" in costs else list(costs.values())
    return sum((Fraction(repr(part)) for part in parts), Fraction(0))
