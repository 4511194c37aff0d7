"""The stations that a run needs, opened from the settings and closed together."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..clock import SystemClock
from ..config import Config, ProjectConfig, require_bulk, require_langfuse, require_stripe
from ..core.clock import MINUTE_US, SECOND_US, Clock, Pace
from ..core.ids import digest
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome
from ..ledger import Ledger
from ..ledger.guard import guarded, using_ledger
from ..ledger.opening import dry_copy
from ..ledger.plans import open_plans
from ..marks.langfuse import LangfuseMarks, Mark, Written
from ..meter.stripe_events import StripeMeter, requests_per_second_of
from ..meter.stripe_stream import StripeStream
from ..meter.stripe_totals import StripeTotals
from ..meter.stripe_v2 import StripeV2Meter
from ..remote.langfuse import LangfuseClient
from ..settings import TOTALS
from .budgets import SharedPace
from .mark import Marker
from .rules import with_rules
from .send import Meter
from .summary import Requests

DRY_MARKS = 1000
STRIPE = "stripe"
GARBAGE_THRESHOLD = 200_000


@dataclass(frozen=True, slots=True)
class Project:
    """One Langfuse project: where its traces come from and where its marks go."""

    name: str
    source_key: str
    client: LangfuseClient
    marker: Marker


@dataclass(frozen=True, slots=True)
class Stations:
    """Everything that a run talks to. `meter` takes meter events, by the API of BILLING_METER_API, and `stripe` is the
    account behind it: None in a dry run, where `meter` accepts everything unsent."""

    config: Config
    clock: Clock
    ledger: Ledger
    projects: tuple[Project, ...]
    meter: Meter
    stripe: StripeMeter | None

    @property
    def requests(self) -> Requests:
        """How many requests went to each service."""
        langfuse = sum(project.client.requests for project in self.projects)
        return Requests(langfuse, self.stripe.requests if self.stripe else 0)


@contextlib.contextmanager
def open_stations(
    config: Config, *, dry_run: bool, clock: Clock | None = None, shared: bool = False
) -> Iterator[Stations]:
    """Open ledger, clients and meter. A dry run gets a throw-away copy of the ledger and sends nothing.

    `shared`: budgets of requests are those of all workers together; so they are while workers have a plan to do.

    Raises ConfigError if a key is missing, before anything is opened.
    """
    require_langfuse(config)
    require_bulk(config)
    if not dry_run:
        require_stripe(config)
    clock = clock or SystemClock()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_rare_collections())
        stack.enter_context(guarded())
        ledger = stack.enter_context(dry_copy(config.ledger_url) if dry_run else using_ledger(config.ledger_url))
        shared = shared or (not dry_run and bool(open_plans(ledger)))
        paces = _shared_paces(config, clock, stack) if shared else {}
        projects = tuple(_project(config, project, clock, dry_run, paces) for project in config.projects)
        for project in projects:
            stack.callback(project.client.close)
        stripe = None if dry_run else open_meter(config, clock, paces.get(STRIPE))
        meter = DryMeter() if stripe is None else meter_of(config, stripe, clock)
        yield Stations(with_rules(config, ledger), clock, ledger, projects, meter, stripe)


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for garbage in cycles less often: a batch makes many values, and none of them refers back."""
    before = gc.get_threshold()
    gc.set_threshold(max(GARBAGE_THRESHOLD, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _shared_paces(config: Config, clock: Clock, stack: contextlib.ExitStack) -> dict[str, Pace]:
    """By service, how all workers together space their requests; Langfuse's servers only if there is a budget."""
    secret_key, wanted = config.stripe_secret_key or "", config.stripe_requests_per_second
    intervals_us = {STRIPE: SECOND_US // (wanted or requests_per_second_of(secret_key))}
    services = {STRIPE: f"stripe {digest(secret_key)}"}
    if config.langfuse_requests_per_minute is not None:
        for project in config.projects:
            name = source_key(project.base_url, project.public_key or "")
            intervals_us[name], services[name] = MINUTE_US // config.langfuse_requests_per_minute, f"langfuse {name}"
    paces = {}
    for name, interval_us in intervals_us.items():
        pace = SharedPace(config.ledger_url, services[name], max(1, interval_us), clock)
        stack.callback(pace.close)
        paces[name] = pace
    return dict(paces)


def _project(config: Config, project: ProjectConfig, clock: Clock, dry_run: bool, paces: Mapping[str, Pace]) -> Project:
    client = open_client(config, project, clock, paces.get(source_key(project.base_url, project.public_key or "")))
    marker: Marker = DryMarks() if dry_run else LangfuseMarks(client, clock)
    return Project(project.name, source_key_of(client), client, marker)


def source_key_of(client: LangfuseClient) -> str:
    """What the ledger calls the server and project that a client reads."""
    return source_key(client.base_url, client.public_key)


def source_key(base_url: str, public_key: str) -> str:
    """The same, from the settings of a project."""
    return digest(f"{base_url.rstrip('/')} {public_key}")


def open_client(config: Config, project: ProjectConfig, clock: Clock, pace: Pace | None = None) -> LangfuseClient:
    """A client for one project."""
    return LangfuseClient(
        project.base_url,
        project.public_key or "",
        project.secret_key or "",
        clock,
        config.langfuse_requests_per_minute,
        pace,
    )


def open_meter(config: Config, clock: Clock, pace: Pace | None = None) -> StripeMeter:
    """The account that the settings name."""
    return StripeMeter(
        config.stripe_secret_key or "",
        clock,
        api_base=config.stripe_api_base,
        requests_per_second=config.stripe_requests_per_second,
        pace=pace,
    )


def meter_of(config: Config, account: StripeMeter, clock: Clock) -> Meter:
    """What takes meter events for an account, by the API that the settings name."""
    if config.meter_api == "stream":
        return StripeStream(account, clock, base=config.stripe_meter_events_base)
    if config.meter_api == TOTALS:
        return StripeTotals(account)
    return StripeV2Meter(account) if config.meter_api == "v2" else account


class DryMeter:
    """Takes every meter event and sends none: for dry runs, which then count what would happen."""

    def send(self, claim: Claim) -> MeterOutcome:
        """Say that it was accepted; the ledger that believes it is a throw-away copy."""
        return MeterOutcome(Answer.ACCEPTED, "dry run")

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Say that it was taken back."""
        return MeterOutcome(Answer.ACCEPTED, "dry run")


class DryMarks:
    """Takes every mark and writes none."""

    def write(self, marks: Iterator[Mark]) -> Iterator[Written]:
        """Say that they were taken, a batch at a time."""
        batch: list[tuple[str, str]] = []
        for mark in marks:
            batch.append((mark.project_id, mark.trace_id))
            if len(batch) == DRY_MARKS:
                yield Written(taken=batch)
                batch = []
        if batch:
            yield Written(taken=batch)
