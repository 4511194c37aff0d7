"""Doctor: check settings, reachability, keys, meter, customers, clock and ledger; say what to do for each finding."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ..clock import SystemClock
from ..config import Config, ProjectConfig, require_stripe
from ..core.clock import SECOND_US, Clock
from ..errors import ConfigError, KeyRefused, LedgerError, NotPermitted, RemoteError, TallymarkError
from ..ledger.guard import using_ledger
from ..meter.permissions import may_read_invoice_items, not_needed, require_meter_events
from ..meter.reports import new_notifications
from ..meter.stripe_events import StripeMeter
from ..meter.stripe_stream import StripeStream
from ..meter.subscriptions import may_read
from ..remote.langfuse import LangfuseClient
from ..settings import TOTALS
from ..source.probe import choose, probe, server_version
from ..source.projects import projects_of
from .bulk_checks import check_clickhouse, check_export
from .clocks import clock_problem, server_time_us
from .exposure import exposed
from .findings import Finding
from .stations import meter_of, open_client, open_meter, source_key_of

CLOCK_SKEW_SECONDS_MAX = 60
CUSTOMERS_SAMPLED = 5
WORST_FIRST = (ConfigError.exit_status, LedgerError.exit_status, RemoteError.exit_status)


def _problem(check: str, detail: str, exit_status: int = ConfigError.exit_status) -> Finding:
    return Finding(check, "problem", detail, exit_status)


def doctor(config: Config, clock: Clock | None = None) -> list[Finding]:
    """Check everything that a sync needs, without writing anything to Langfuse or Stripe."""
    clock = clock or SystemClock()
    findings = [_settings(config)]
    for project in config.projects:
        findings += _langfuse(config, project, clock)
    findings += _stripe(config, clock)
    findings += _attempt("ledger", lambda: _ledger(config, clock))
    findings += [Finding("security", "warning", told) for told in exposed(config)]
    return findings


def worst(findings: list[Finding]) -> int:
    """The exit status: of several problems the one that a person must mend, before the one that may pass by itself."""
    found = {finding.exit_status for finding in findings}
    return next((status for status in WORST_FIRST if status in found), 0)


def _attempt(check: str, *groups: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run groups of checks. A permission that a key lacks ends its group only; any other error is the last finding."""
    found: list[Finding] = []
    for steps in groups:
        try:
            for finding in steps():
                found.append(finding)
        except NotPermitted as error:
            found.append(_problem(check, str(error)))
        except TallymarkError as error:
            return [*found, _problem(check, str(error), error.exit_status)]
    return found


def _settings(config: Config) -> Finding:
    where = sorted({origin for _, _, origin in config.describe() if origin.startswith("file")})
    return Finding(
        "settings", "ok", f"read from the environment and {where[0]}" if where else "read from the environment"
    )


def _langfuse(config: Config, project: ProjectConfig, clock: Clock) -> list[Finding]:
    check = f"langfuse {project.name}"
    if project.missing:
        names = " and ".join(project.missing)
        return [_problem(check, f"no key; set {names} (Langfuse: project settings, API keys)")]
    client = open_client(config, project, clock)
    with contextlib.closing(client):
        return _attempt(check, lambda: _langfuse_steps(check, config, client, clock))


def _langfuse_steps(check: str, config: Config, client: LangfuseClient, clock: Clock) -> Iterator[Finding]:
    version = server_version(client)
    yield Finding(check, "ok", f"{client.base_url} runs Langfuse {version}")
    yield _clock(client, clock)
    projects = projects_of(client)
    yield Finding(check, "ok", f"the keys open the project {', '.join(f'{p.name} ({p.id})' for p in projects)}")
    found = probe(client, version, clock.now_us())
    generation, reason = choose(found, config.api_source)
    yield Finding(check, "ok", f"read through {generation}, because {reason}")
    yield _marks(check, config, generation)
    if config.use_tag_filtering:
        yield _tag_filtering(check, generation)
    if config.bulk_source == "export":
        yield from check_export(config, projects[0].id, clock)
    if config.bulk_source == "clickhouse":
        yield from check_clickhouse(config, projects[0].id, generation, clock)


def _marks(check: str, config: Config, generation: str) -> Finding:
    by_score = config.marks == "score" or (config.marks == "auto" and generation == "observations")
    if config.marks == "tags" and generation == "observations":
        return _problem(check, "this server takes marks by score only; set BILLING_MARKS to auto or score")
    if by_score:
        return Finding(check, "ok", "marks: a score billing_status with a fixed id on every trace")
    return Finding(check, "ok", "marks: tag billing:processed and metadata; a score for bookmarked traces")


def _tag_filtering(check: str, generation: str) -> Finding:
    if generation == "traces":
        told = "tag filtering is on: traces without billing:pending are not read; backfill says whether that is safe"
        return Finding(check, "ok", told)
    return Finding(
        check,
        "warning",
        "tag filtering is on, but observations cannot be asked by tag: everything is read all the same, and traces "
        "without billing:pending are skipped as filtered, unbilled; set BILLING_USE_TAG_FILTERING to false",
    )


def _clock(client: LangfuseClient, clock: Clock) -> Finding:
    server_us = server_time_us(client)
    if server_us is None:
        return Finding("clock", "warning", "the server names no time, so this machine's clock could not be compared")
    skew = abs(clock.now_us() - server_us) // SECOND_US
    if skew > CLOCK_SKEW_SECONDS_MAX:
        return _problem("clock", f"this machine and {client.base_url} differ by {skew} s; set the clock (NTP)")
    return Finding("clock", "ok", f"agrees with {client.base_url} to {skew} s")


def _stripe(config: Config, clock: Clock) -> list[Finding]:
    try:
        require_stripe(config)
    except ConfigError as error:
        return [_problem("stripe", str(error))]
    meter = open_meter(config, clock)
    return _attempt(
        "stripe",
        lambda: _meters(config, meter),
        lambda: _key(meter),
        lambda: _api(config, meter, clock),
        lambda: iter([_reports(meter, clock)]),
        lambda: _customers(config, meter),
        lambda: _periods(config, meter),
    )


def _meters(config: Config, meter: StripeMeter) -> Iterator[Finding]:
    names = sorted({config.meter_event_name, *config.meters.values()})
    for name in names:
        found = meter.check([name], config.stripe_credits_meter_id, totals=config.meter_api == TOTALS)[name]
        sums = f"counts the last total of each {found.window}" if found.window else "sums"
        yield Finding("stripe", "ok", f"the meter of {name!r} is active, {sums}, and takes what tallymark sends")


def _key(meter: StripeMeter) -> Iterator[Finding]:
    """Its mode, and whether it may too little or too much (docs/howto/security.md)."""
    kind = "live: real customers are billed" if meter.key_kind == "live" else "test: nobody is billed"
    yield Finding("stripe", "ok", f"the key is of mode {kind}")
    require_meter_events(meter)
    yield Finding("stripe", "ok", "the key may write meter events")
    if not may_read_invoice_items(meter):
        told = "the key may make no invoice items; only `tallymark held release --invoice-item` needs that"
        yield Finding("stripe", "ok", told)
    yield _too_much(meter)


def _api(config: Config, meter: StripeMeter, clock: Clock) -> Iterator[Finding]:
    """By which API meter events go. A session of the stream is opened to see that it can be, and nothing is sent."""
    sender = meter_of(config, meter, clock)
    if isinstance(sender, StripeStream):
        sender.check()
        yield Finding("stripe", "ok", "meter events go by the stream; what Stripe counts of them its sums must show")
    else:
        told = "running totals go by v1" if config.meter_api == TOTALS else f"meter events go by {config.meter_api}"
        yield Finding("stripe", "ok", f"{told}, and are answered one by one")


def _too_much(meter: StripeMeter) -> Finding:
    if not meter.restricted:
        told = "the key may do everything in the account; make a restricted one (docs/howto/security.md)"
        return Finding("stripe", "warning" if meter.key_kind == "live" else "ok", told)
    if more := not_needed(meter):
        told = f"the key may read {', '.join(more)}, which tallymark never does; take such permissions away in Stripe"
        return Finding("stripe", "warning", told)
    return Finding("stripe", "ok", "the key is a restricted one, and may read nothing of what was tried needlessly")


def _reports(meter: StripeMeter, clock: Clock) -> Finding:
    """Whether Stripe's reports on usage that it took and did not count can be read."""
    try:
        next(new_notifications(meter, clock.now_us()), None)
    except (KeyRefused, RemoteError) as error:
        return Finding("stripe", "warning", f"usage that Stripe takes and does not count would not be noticed: {error}")
    return Finding("stripe", "ok", "reports on usage that was not counted can be read")


def _customers(config: Config, meter: StripeMeter) -> Iterator[Finding]:
    """Some customers of the mappings, and some that were billed before."""
    policy = config.customers
    mapped = {policy.default, *policy.users.values(), *policy.organizations.values(), *policy.sessions.values()}
    sample = sorted(customer for customer in mapped if customer)[:CUSTOMERS_SAMPLED]
    for customer in dict.fromkeys([*sample, *_billed_customers(config)]):
        if said := meter.customer_problem(customer):
            yield _problem("customers", f"Stripe cannot bill {customer} with this key: {said}")
        else:
            yield Finding("customers", "ok", f"{customer} exists in the mode of this key")


def _billed_customers(config: Config) -> list[str]:
    with contextlib.suppress(LedgerError), using_ledger(config.ledger_url, read_only=True) as ledger:
        return [row["customer_id"] for row in ledger.query("customers_known", limit=CUSTOMERS_SAMPLED)]
    return []


def _periods(config: Config, meter: StripeMeter) -> Iterator[Finding]:
    """Usage must reach Stripe while its invoice is a draft."""
    grace_us = config.lateness.grace_us
    if grace_us is None:
        yield Finding("periods", "warning", "BILLING_LATE_PERIOD is send: usage that is late is on no invoice")
        return
    may_read(meter)
    yield Finding("periods", "ok", "the key may read subscriptions; usage whose invoice is final is held")
    if config.settle_us >= grace_us:
        told = "traces settle for as long as an invoice is a draft, so the last of each period are late"
        yield Finding("periods", "warning", f"{told}; lower BILLING_SETTLE_SECONDS, or raise the grace in Stripe")


def _ledger(config: Config, clock: Clock) -> Iterator[Finding]:
    with using_ledger(config.ledger_url) as ledger:
        waiting = ledger.open_meter_events()
        read = {row["source_key"] for row in ledger.query("sources_read")}
        ledger.put_fact("doctor", "wrote here")
        wrong = clock_problem(ledger, clock.now_us())
        with ledger.one_moment() as db:
            weak = db.weaknesses()
    yield Finding("ledger", "ok", "can be opened and written")
    for told in weak:
        yield Finding("ledger", "warning", told)
    if read and not read & {_source_key(config, project, clock) for project in config.projects}:
        told = "it has read other projects, and none of these; unless the keys were renewed, check BILLING_LEDGER_URL"
        yield Finding("ledger", "warning", told)
    if wrong:
        yield Finding("clock", "warning", wrong)
    for state in ("rejected", "in_doubt", "held"):
        if waiting.get(state):
            yield Finding("ledger", "warning", f"{waiting[state]} meter events are {state}; see `tallymark held list`")


def _source_key(config: Config, project: ProjectConfig, clock: Clock) -> str:
    with contextlib.closing(open_client(config, project, clock)) as client:
        return source_key_of(client)
