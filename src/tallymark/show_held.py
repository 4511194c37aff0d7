"""What is held, and what was decided, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .console import print_table
from .core.credits import format_micros
from .flows.held_decisions import Plan
from .show import show_trace


def show_held(found: Mapping[str, Any]) -> None:
    """What is held, by reason first."""
    if found["reasons"]:
        print_table(found["reasons"], ("reason", "traces", "meter_events", "credits", "remedy"))
    if found["traces"]:
        print_table(found["traces"], ("trace_id", "time", "reason", "credits", "user_id", "detail"), "traces")
    if found["meter_events"]:
        columns = ("identifier", "customer", "bucket", "amount", "credits", "state", "reason", "attempts", "answer")
        print_table(found["meter_events"], columns, "meter events that are not settled")
    if found["reports"]:
        rows = [{**report, "codes": ", ".join(report["codes"])} for report in found["reports"]]
        shown = ("notification", "time", "meter", "codes", "state", "reported", "matched")
        print_table(rows, shown, "reports of Stripe on usage that it did not count, not explained yet")
    if found["negative_carries"]:
        title = "given back with the customer's next usage"
        print_table(found["negative_carries"], ("customer", "meter", "credits", "since"), title)
    if not any(found[part] for part in ("reasons", "traces", "meter_events", "reports", "negative_carries")):
        click.echo("nothing is held")
    else:
        click.echo(f"decided by: {_policy(found['policy'])}; `tallymark held show ID` has the choices")


def _policy(policy: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in policy.items())


def show_subject(found: Mapping[str, Any]) -> None:
    """A held trace or a waiting meter event, and each choice."""
    if found["kind"] == "meter_event":
        _show_meter_event(found)
    else:
        show_trace(found["trace_id"], found["trace"])
        for event in found["meter_events"]:
            _show_meter_event(event)
    _show_decided(found)
    _show_choices(found)


def _show_meter_event(event: Mapping[str, Any]) -> None:
    start, end = event["bucket"]
    why = f" ({event['reason'].replace('_', ' ')})" if event["reason"] else ""
    click.echo(f"meter event {event['identifier']}: {event['state'].replace('_', ' ')}{why}")
    click.echo(f"  customer {event['customer']}, meter {event['meter']}, usage from {start} to {end}")
    click.echo(
        f"  {event['amount']} credits of usage; {event['credits']} whole credits to send, dated {event['timestamp']} "
        f"(carry before {event['carry_before']}, after {event['carry_after']})"
    )
    for attempt in event["attempts"]:
        click.echo(f"  sent {attempt['sent_at']}: {attempt['outcome']} ({attempt['answer'] or 'no answer stored'})")
    if event["traces"]:
        print_table(event["traces"], ("trace_id", "project_id", "time", "credits"), "  traces in it")
    if event["choices"] or event["decisions"]:
        _show_decided(event)
        _show_choices(event)


def _show_decided(found: Mapping[str, Any]) -> None:
    for one in found["decisions"]:
        click.echo(f"decision {one['decision']}, {one['at']}: {one['verb']} by {one['who']}: {one['why']}")


def _show_choices(found: Mapping[str, Any]) -> None:
    if found["choices"]:
        print_table(found["choices"], ("does", "command"), "choices")


def show_plan(plan: Plan) -> None:
    """What is about to be decided, on standard error."""
    number = len(plan.subjects)
    things = f"{number:,} held {'thing' if number == 1 else 'things'}"
    click.echo(f"{plan.choice}: {things}, {format_micros(plan.amount_micros)} credits together", err=True)
    for identity, item in plan.items.items():
        click.echo(
            f"  {identity}: invoice item of {item.amount} {item.currency.upper()} cents for {item.customer} "
            f"({item.price})",
            err=True,
        )


def show_answer(answer: Mapping[str, Any]) -> None:
    """What was decided."""
    for one in answer["decisions"]:
        amount = f" ({one['credits']} credits)" if "credits" in one else ""
        click.echo(f"decision {one['decision']}: {one['subject']}{amount}")
