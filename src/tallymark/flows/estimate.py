"""An estimate before a backfill: how much history there is, what reading and billing it takes, and what it comes to.

Told from a count and a few samples, which are read and rated like the real ones, on a copy of the ledger; nothing is
written anywhere. Langfuse may count a row twice (facts/langfuse.md sections 2.1 and 2.3), a sample is a sample, and
what is told as "at least" is what was seen.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from ..clock import SystemClock
from ..config import Config
from ..core.clock import SECOND_US, Clock, format_time
from ..core.credits import MICROS_PER_CREDIT, format_micros
from ..core.decisions import PROCESSED
from ..core.windows import BUCKET_US, STRIPE_AGE_MAX_US
from ..ledger.rows import RunRef
from ..meter.stripe_events import REQUESTS_PER_SECOND_LIVE, REQUESTS_PER_SECOND_TEST
from ..meter.stripe_stream import EVENTS_MAX
from ..source.observations import PAGE_ROWS as OBSERVATIONS_A_PAGE
from ..source.traces import PAGE_ROWS as TRACES_A_PAGE
from .progress import Progress, quiet
from .ranges import check_range
from .read import choose_generation, collect_range, observations_of, traces_of
from .reading import Chosen, Collected, range_of
from .stations import Project, Stations, open_stations
from .sync import reading_of, start_run

SAMPLES = 6
SAMPLE_PAGES = 2
BUCKETS_MAX = 1_000_000
# Langfuse Cloud's limits on reading, in requests a minute, by plan (facts/langfuse.md section 7.1).
CLOUD_HOST = "cloud.langfuse.com"
CLOUD_PER_MINUTE = {
    "traces": {"Hobby": 15, "Core": 30, "Pro, Team": 100},
    "observations": {"Hobby": 30, "Core": 1000, "Pro, Team": 1000},
}


class Requests(msgspec.Struct):
    """Requests to one service, at least; the limit that holds for them, and the hours that they take under it.

    Where the limit is a plan's that nobody told, `hours` is null, and `hours_by_plan` has each.
    """

    requests: int
    limit: str
    hours: float | None = None
    hours_by_plan: dict[str, float] = {}


class Amount(msgspec.Struct):
    """An estimate, and what it would be if all were like the cheapest sample, or like the dearest. Decimal text."""

    about: str
    low: str
    high: str


class BackfillEstimate(msgspec.Struct):
    """What a backfill of a range, and the sync after it, take and come to. `results` are of the sampled traces."""

    from_: str = msgspec.field(name="from")
    to: str
    source: str
    rows: int
    traces: int
    sampled_traces: int
    results: dict[str, int]
    customers: int
    meter_events: int
    meter_events_at_least: bool
    credits: Amount
    usd: Amount
    langfuse: Requests
    stripe: Requests
    notes: list[str]


@dataclass(slots=True)
class Sample:
    """What was found in one stretch of time. `buckets` are those that it opened in the ledger's copy."""

    width_us: int
    collected: Collected
    buckets: int


@dataclass(slots=True)
class Survey:
    """What was counted and sampled of one project. `rows` are traces, or observations, as it is read."""

    generation: str
    base_url: str
    rows: int
    seconds_a_request: float
    samples: list[Sample] = field(default_factory=list)

    @property
    def traces(self) -> int:
        """About how many traces there are."""
        if self.generation == "traces":
            return self.rows
        sampled_rows = sum(sample.collected.rows for sample in self.samples)
        return round(self.rows * self.sampled_traces / sampled_rows) if sampled_rows else 0

    @property
    def sampled_traces(self) -> int:
        """How many traces were read."""
        return sum(sample.collected.read for sample in self.samples)

    @property
    def pages(self) -> int:
        """How many requests their rows take."""
        return math.ceil(self.rows / page_rows(self.generation))


def page_rows(generation: str) -> int:
    """How many rows one request reads."""
    return TRACES_A_PAGE if generation == "traces" else OBSERVATIONS_A_PAGE


def estimate_backfill(
    config: Config,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    clock: Clock | None = None,
    progress: Progress = quiet,
) -> BackfillEstimate:
    """Count and sample a range (35 days unless one is named), and say what a backfill of it takes and comes to.

    Raises ConfigError, RemoteError or LedgerError.
    """
    clock = clock or SystemClock()
    start_us = from_us if from_us is not None else clock.now_us() - STRIPE_AGE_MAX_US
    check_range(start_us, to_us)
    end_us = min(to_us or clock.now_us(), clock.now_us())
    with open_stations(config, dry_run=True, clock=clock) as stations:
        run = start_run(stations, "backfill")
        surveys = [_survey(stations, project, run, start_us, end_us, progress) for project in stations.projects]
        customers = {row["customer_id"] for row in stations.ledger.query("open_buckets", limit=BUCKETS_MAX)}
    return make_estimate(config, surveys, len(customers), start_us, end_us)


def _survey(stations: Stations, project: Project, run: RunRef, from_us: int, to_us: int, progress: Progress) -> Survey:
    chosen = choose_generation(stations, project)
    began_us, requests = stations.clock.now_us(), project.client.requests
    rows = _count(stations, project, chosen, from_us, to_us)
    survey = Survey(chosen.generation, project.client.base_url, rows, 0.0)
    for number, (start_us, end_us) in enumerate(stretches(from_us, to_us, rows, page_rows(chosen.generation)), 1):
        survey.samples.append(_sample(stations, project, chosen, run, start_us, end_us))
        progress("estimate", number, SAMPLES)
    asked = max(1, project.client.requests - requests)
    survey.seconds_a_request = (stations.clock.now_us() - began_us) / SECOND_US / asked
    return survey


def _count(stations: Stations, project: Project, chosen: Chosen, from_us: int, to_us: int) -> int:
    source = traces_of if chosen.generation == "traces" else observations_of
    return source(stations, project).count(from_us, to_us)


def stretches(from_us: int, to_us: int, rows: int, rows_a_page: int) -> list[tuple[int, int]]:
    """Stretches of a range, evenly spread: of a few pages each on average, or all of it where there is no more."""
    step_us = (to_us - from_us) // SAMPLES
    width_us = min(step_us, (to_us - from_us) * SAMPLE_PAGES * rows_a_page // max(rows, 1))
    starts = [from_us + step_us * number + (step_us - width_us) // 2 for number in range(SAMPLES)]
    return [(start_us, start_us + width_us) for start_us in starts] if width_us else []


def _sample(stations: Stations, project: Project, chosen: Chosen, run: RunRef, start_us: int, end_us: int) -> Sample:
    reading = reading_of(stations, project, chosen, run)
    span = range_of(start_us, end_us, run.now_us, stations.config.settle_us)
    before = _open_buckets(stations)
    collect_range(reading, span, None)
    return Sample(end_us - start_us, reading.into.collected, _open_buckets(stations) - before)


def _open_buckets(stations: Stations) -> int:
    return sum(1 for _ in stations.ledger.query("open_buckets", limit=BUCKETS_MAX))


# --- from samples to an estimate; pure


def make_estimate(config: Config, surveys: list[Survey], customers: int, from_us: int, to_us: int) -> BackfillEstimate:
    """What the surveys of all projects come to together."""
    samples = [sample for survey in surveys for sample in survey.samples]
    traces = sum(survey.traces for survey in surveys)
    events, at_least = meter_events_of(config.meter_bucket, surveys, to_us - from_us)
    low, about, high = (sum(parts) for parts in zip(*map(credits_of, surveys), strict=True))
    price_usd = config.rate_card.credit_price_usd_at(to_us)
    return BackfillEstimate(
        from_=format_time(from_us),
        to=format_time(to_us),
        source=", ".join(sorted({survey.generation for survey in surveys})),
        rows=sum(survey.rows for survey in surveys),
        traces=traces,
        sampled_traces=sum(survey.sampled_traces for survey in surveys),
        results=dict(sum((sample.collected.results for sample in samples), Counter[str]())),
        customers=customers,
        meter_events=events,
        meter_events_at_least=at_least,
        credits=Amount(format_micros(about), format_micros(low), format_micros(high)),
        usd=Amount(*(_usd(micros, price_usd) for micros in (about, low, high))),
        langfuse=_langfuse(config, surveys),
        stripe=_stripe(config, events, customers),
        notes=_notes(config, surveys),
    )


def credits_of(survey: Survey) -> tuple[int, int, int]:
    """Micro-credits of a project if all traces are like those of the cheapest sample, of all, and of the dearest."""
    found = [sample.collected for sample in survey.samples if sample.collected.read]
    if not found:
        return 0, 0, 0
    each = [collected.credits_micros * survey.traces // collected.read for collected in found]
    all_micros = sum(collected.credits_micros for collected in found)
    return min(each), all_micros * survey.traces // survey.sampled_traces, max(each)


def meter_events_of(bucket: str, surveys: list[Survey], range_us: int) -> tuple[int, bool]:
    """About how many meter events, and whether that is a least: a stretch that is shorter than a bucket does not show
    all customers that the bucket has."""
    width_us, events, at_least = BUCKET_US.get(bucket), 0, False
    for survey in surveys:
        buckets, sampled_us = sum(s.buckets for s in survey.samples), sum(s.width_us for s in survey.samples)
        if width_us is None:
            events += survey.traces * buckets // max(1, survey.sampled_traces)
        elif survey.samples and survey.samples[0].width_us < width_us:
            events += buckets * -(-range_us // width_us) // len(survey.samples)
            at_least = True
        else:
            events += buckets * range_us // max(1, sampled_us)
    return events, at_least


def _usd(micros: int, price_usd: Decimal) -> str:
    return f"{Decimal(micros) / MICROS_PER_CREDIT * price_usd:.2f}"


def _langfuse(config: Config, surveys: list[Survey]) -> Requests:
    """The pages to read, under the limit of the settings, of the Cloud's plans, or at the speed of the samples."""
    pages = sum(survey.pages for survey in surveys)
    if per_minute := config.langfuse_requests_per_minute:
        return Requests(
            pages, f"{per_minute} a minute (BILLING_LANGFUSE_REQUESTS_PER_MINUTE)", _hours(pages, per_minute)
        )
    if all((urlsplit(survey.base_url).hostname or "").endswith(CLOUD_HOST) for survey in surveys):
        limits = [CLOUD_PER_MINUTE[survey.generation] for survey in surveys]
        by_plan = {plan: _hours(pages, min(limit[plan] for limit in limits)) for plan in limits[0]}
        return Requests(pages, "Langfuse Cloud's, by plan", None, by_plan)
    seconds = sum(survey.pages * survey.seconds_a_request for survey in surveys)
    return Requests(pages, "none: as fast as the samples were read", round(seconds / 3600, 2))


def _stripe(config: Config, events: int, customers: int) -> Requests:
    """A request for each meter event, or for a hundred of them, and one for each customer's billing periods."""
    sends = -(-events // EVENTS_MAX) if config.meter_api == "stream" else events
    is_live = "_live_" in (config.stripe_secret_key or "")
    default = REQUESTS_PER_SECOND_LIVE if is_live else REQUESTS_PER_SECOND_TEST
    per_second = config.stripe_requests_per_second or default
    why = "BILLING_STRIPE_REQUESTS_PER_SECOND" if config.stripe_requests_per_second else "live" if is_live else "test"
    requests = sends + (customers if config.lateness.grace_us is not None else 0)
    return Requests(requests, f"{per_second} a second ({why})", _hours(requests, per_second * 60))


def _hours(requests: int, per_minute: int) -> float:
    return round(requests / per_minute / 60, 2)


def _notes(config: Config, surveys: list[Survey]) -> list[str]:
    """What an estimate rests on, where it rests on little."""
    notes = ["requests for tags and marks, and for what a page leaves open, come on top"]
    if config.bulk_source:
        notes.append(f"BILLING_SOURCE is {config.bulk_source}: the history itself is read there, and not by requests")
    if any(survey.rows and not survey.sampled_traces for survey in surveys):
        notes.append("the samples met no trace although there are some: credits and meter events are not known")
    if any(survey.generation == "observations" for survey in surveys):
        notes.append("traces are estimated from observations, which Langfuse may count twice")
    processed = sum(sample.collected.results[PROCESSED] for survey in surveys for sample in survey.samples)
    if processed < sum(survey.sampled_traces for survey in surveys):
        notes.append("not every sampled trace would be billed: `results` says how they end")
    return notes
