"""Summaries as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click
import msgspec

from .console import print_table
from .core.balance import UNEXPLAINED
from .flows.backfill import BackfillSummary
from .flows.findings import Finding
from .flows.reconciliation import Reconciliation
from .flows.summary import SyncSummary

SHOWN_MAX = 20


def show_sync(summary: SyncSummary) -> None:
    """What a sync did, so that the counts can be added up by eye."""
    dry = " (dry run: nothing was written)" if summary.dry_run else ""
    where = f"Langfuse {summary.server_version} by {summary.source}"
    click.echo(f"read {summary.from_} to {summary.to} from {where}{dry}")
    click.echo(f"{summary.fetched:>10,}  traces fetched")
    _count("processed", summary.processed)
    _counts("skipped", summary.skipped)
    _counts("held", summary.held)
    _count("failed", summary.failed)
    adds_up = summary.processed + summary.failed + sum(summary.skipped.values()) + sum(summary.held.values())
    click.echo(f"{adds_up:>10,}  together")
    events, marks = summary.meter_events, summary.marks
    click.echo(
        f"credits {summary.credits}; adjusted {summary.adjusted:,}, healed {summary.healed:,}, "
        f"untagged {summary.untagged:,}, adopted {summary.adopted:,}"
    )
    rare = {"streamed": events.streamed, "settled": events.settled, "reported": events.reported}
    told = "".join(f", {number} {name}" for name, number in rare.items() if number)
    click.echo(
        f"meter events: {events.accepted:,} accepted, {events.duplicate} duplicate, {events.rejected} rejected, "
        f"{events.in_doubt} in doubt{told}; marks: {marks.written:,} written, {marks.failed} failed"
    )
    requests = summary.requests
    click.echo(f"requests: {requests.langfuse:,} Langfuse, {requests.stripe:,} Stripe; {summary.seconds:.1f} s")
    for failure in summary.failures:
        click.echo(f"failed {failure.trace_id}: {failure.error}")


def show_backfill(summary: BackfillSummary) -> None:
    """What a backfill did, and whether tag filtering is safe now."""
    dry = " (dry run: nothing was written)" if summary.dry_run else ""
    click.echo(f"read {summary.from_} to {summary.to}{dry}")
    click.echo(f"{summary.fetched:>10,}  traces fetched")
    _count("owed, to be sent by the next sync", summary.owed)
    _counts("skipped", summary.skipped)
    _counts("held", summary.held)
    _count("failed", summary.failed)
    click.echo(f"credits {summary.credits}; tagged billing:pending {summary.tagged:,}, refused {summary.tags_failed}")
    click.echo(f"tag filtering is {'safe' if summary.tag_filtering_safe else 'NOT safe'} to switch on")
    for reason in summary.why_not:
        click.echo(f"  because {reason}")


def _count(name: str, number: int) -> None:
    if number:
        click.echo(f"{number:>10,}  {name}")


def _counts(name: str, counts: Mapping[str, int]) -> None:
    for reason, number in counts.items():
        _count(f"{name}: {reason.replace('_', ' ')}", number)


def show_explanation(found: Mapping[str, Any]) -> None:
    """How one trace became credits."""
    for trace in found["projects"]:
        show_trace(found["trace_id"], trace)
    policy = found["policy"]
    click.echo(f"lower usage is given back by {policy['corrections']}; late usage: {policy['late_period']}")


def show_trace(trace_id: str, trace: Mapping[str, Any]) -> None:
    """What the ledger knows of one trace."""
    reason = f": {trace['reason'].replace('_', ' ')} ({trace['detail']})" if trace["reason"] else ""
    click.echo(f"trace {trace_id} in {trace['project_id']}, {trace['time']}: {trace['outcome']}{reason}")
    if trace["customer"]:
        click.echo(f"  customer {trace['customer']} (found by {trace['customer_found_by']})")
    for unit in trace["units"]:
        what = unit["unit_id"] or "the whole trace"
        click.echo(f"  usage of {what}: {_known_usage(unit)}{_problem(unit)}")
    for part in trace["components"]:
        click.echo(f"  {part['name']}: {part['formula']} = {part['credits']} credits")
    if trace["deleted_at"]:
        click.echo(f"  gone in Langfuse, found {trace['deleted_at']}")
    click.echo(f"  worth {trace['worth']} credits, billed {trace['billed']}, by rate card {trace['rate_card']}")
    for entry in trace["entries"]:
        _show_entry(entry)
    mark = trace["mark"]
    written = f", written {mark['written_at']}" if mark["written_at"] else ""
    click.echo(f"  mark: {mark['state']}{written}{', problem: ' + mark['problem'] if mark['problem'] else ''}")


def _known_usage(unit: Mapping[str, Any]) -> str:
    """What is known of a usage unit, and nothing of what is not; no tokens are none to speak of."""
    parts = [
        f"{unit['cost_usd']} USD" if unit["cost_usd"] is not None else "",
        f"{unit['duration_s']} s" if unit["duration_s"] is not None else "",
        f"{unit['tokens']:,} tokens" if unit["tokens"] else "",
        f"model {unit['model']}" if unit["model"] else "",
    ]
    return ", ".join(filter(None, parts)) or "nothing is known"


def _problem(unit: Mapping[str, Any]) -> str:
    return f" — {unit['problem']}" if unit["problem"] else ""


def _show_entry(entry: Mapping[str, Any]) -> None:
    start, end = entry["bucket"]
    click.echo(f"  {entry['kind']} of {entry['credits']} credits on meter {entry['meter']}, bucket {start} to {end}")
    if entry["decision"] is not None:
        click.echo(f"    {_decided(entry['decision'])}")
    event = entry["meter_event"]
    if event is None:
        click.echo("    not gathered into a meter event yet")
        return
    click.echo(
        f"    meter event {event['sent_as']}: {event['state']}, {event['credits']} whole credits "
        f"= bucket {event['bucket_credits']} + carry {event['carry_before']} - carry left {event['carry_after']}"
    )
    for attempt in event["attempts"]:
        total = f" as a total of {attempt['window_total']}" if attempt["window_total"] is not None else ""
        answer = f"{attempt['outcome']} ({attempt['answer'] or 'no answer stored'})"
        click.echo(f"    sent {attempt['sent_at']}{total}: {answer}")
    for decision in event["decisions"]:
        click.echo(f"    {decision['at']} {decision['who']}: {decision['verb']} ({decision['why']})")


def show_reconciliation(found: Reconciliation) -> None:
    """The way from Langfuse to Stripe, the causes, and the customers for whom more than the carry differs."""
    click.echo(f"compared {found.from_} to {found.to} by {found.by}")
    click.echo(f"{found.total.langfuse:>24}  credits in Langfuse, rated again")
    for cause, amount in found.total.differences.items():
        click.echo(f"{amount:>24}  {cause.replace('_', ' ')}")
    click.echo(f"{found.total.stripe or '0.000000':>24}  counted by Stripe")
    rows = [{**msgspec.structs.asdict(line), "traces": line.traces or None} for line in found.causes]
    print_table(rows, ("cause", "credits", "windows", "traces", "remedy"), "causes")
    marks = found.marks
    click.echo(f"marks: {marks.expected:,} expected, {marks.seen:,} seen, {marks.lost:,} lost")
    _show_unexplained(found)
    click.echo(
        "every difference has a cause" if found.explained else "NOT explained: see above; --report FILE.html shows all"
    )
    click.echo(
        f"requests: {found.requests.langfuse:,} Langfuse, {found.requests.stripe:,} Stripe; {found.seconds:.1f} s"
    )


def _show_unexplained(found: Reconciliation) -> None:
    rows = [
        {
            "customer": line.customer,
            "meter": line.meter,
            "window": line.window,
            "differences": ", ".join(
                f"{cause.replace('_', ' ')} {amount}" for cause, amount in line.differences.items()
            ),
        }
        for line in found.windows
        if any(cause in UNEXPLAINED for cause in line.differences)
    ]
    if rows:
        print_table(rows[:SHOWN_MAX], ("customer", "meter", "window", "differences"), "without a cause")


def _decided(decision: Mapping[str, Any]) -> str:
    what = "re-dated by" if decision["verb"] == "bill_now" else "by"
    return f"{what} decision {decision['decision']} ({decision['verb']} by {decision['who']}): {decision['why']}"


def show_findings(findings: Sequence[Finding]) -> None:
    """What the doctor found."""
    print_table([asdict(finding) for finding in findings], ("check", "status", "detail"))


CARD_COLUMNS = (
    "from",
    "to",
    "credit_price_usd",
    "margin",
    "ai",
    "compute_usd_per_minute",
    "storage_credits_per_gb_month",
)


def show_card(card: Mapping[str, Any]) -> None:
    """The rules of a rate card, and the token rates of those that have some."""
    click.echo(f"rate card {card['name']}, digest {card['digest']}")
    if not card["rules"]:
        click.echo("no rule holds at that time: such usage is held as unrated")
        return
    print_table(card["rules"], CARD_COLUMNS)
    for rule in card["rules"]:
        if rule["tokens"]:
            print_table(rule["tokens"], ("model", "per", "credits"), f"tokens, from {rule['from']}")


def show_checked_card(checked: Mapping[str, Any]) -> None:
    """A rate card and what was found in it."""
    show_card(checked)
    print_table(checked["findings"], ("check", "status", "detail"), "findings")


SIMULATION_COLUMNS = {
    "traces": "traces",
    "billed": "billed_credits",
    "simulated": "simulated_credits",
    "difference": "difference_credits",
    "%": "difference_percent",
    "USD": "difference_usd",
    "unrated": "unrated",
    "unpriced": "unpriced",
    "not simulated": "not_simulated",
    "held": "held",
}


def show_simulation(found: Mapping[str, Any]) -> None:
    """What a rate card would have billed, the total last, and why some traces could not be rated."""
    card, by = found["card"], found["by"]
    click.echo(f"usage from {found['from']} to {found['to']} by rate card {card['name']}, digest {card['digest']}")
    rows = [
        {by: row["key"], **{shown: row[column] for shown, column in SIMULATION_COLUMNS.items()}}
        for row in (*found["rows"], found["total"])
    ]
    print_table(rows, (by, *SIMULATION_COLUMNS))
    for reason in found["why"]:
        click.echo(f"{reason['traces']:,} {reason['end'].replace('_', ' ')}: {reason['detail']}")
    total = found["total"]
    if total["not_simulated"]:
        click.echo(f"not simulated: {total['not_simulated_credits']} credits, which were billed, are in no column")
    if total["held"]:
        click.echo(f"{total['held']:,} held: they wait for something else than a rate card (`tallymark held list`)")
