"""`tallymark held`: what waits for a person, and what the person decides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import begin, common

if TYPE_CHECKING:
    from ..flows.held_decisions import Plan

CHOICES = {
    "bill_now": "Bill it now: dated with the moment of the decision, and said so.",
    "invoice_item": "Bill it by an invoice item on the customer's next invoice; made at once.",
    "as_is": "As it is: send a meter event, read a trace again, leave a deleted trace billed.",
    "arrived": "It was in doubt, and Stripe does count it.",
    "not_sent": "It was in doubt, and Stripe does not count it.",
}


@click.group()
def held() -> None:
    """What waits for a person, and what is decided about it."""


def _decision(command: Any) -> Any:
    """The options of every decision."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask. Needed with --json, and where nobody can be asked."),
        click.option("--by", help="Who decides; the user of this machine unless given."),
        click.option("--why", required=True, help="Why; kept with the decision."),
    ):
        command = option(command)
    return command


def _subjects(command: Any) -> Any:
    """The options that name what is decided about."""
    for option in (
        click.option("--all", "every", is_flag=True, help="Everything that is held for --reason."),
        click.option("--reason", help="With --all: for which reason, such as late_period."),
        click.argument("ids", metavar="[ID]...", nargs=-1),
    ):
        command = option(command)
    return command


@held.command("list")
@common
@click.option("--reason", help="Only this reason, such as no_customer.")
@click.option("--limit", default=1000, show_default=True, help="At most this many rows.")
def held_list(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, reason: str, limit: int) -> None:
    """List what is held, why, what it is worth, and what to do."""
    config = begin(config_file, verbose, quiet)
    from ..api import held as ask
    from ..console import print_json
    from ..show_held import show_held

    found = ask(config, reason, limit)
    print_json(found) if as_json else show_held(found)


@held.command("show")
@common
@click.argument("identity", metavar="ID")
def held_show(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, identity: str) -> None:
    """Show a held trace or a waiting meter event: amounts, evidence, and each choice with its command."""
    config = begin(config_file, verbose, quiet)
    from ..api import show_held as ask
    from ..console import print_json
    from ..show_held import show_subject

    found = ask(config, identity)
    print_json(found) if as_json else show_subject(found)


@held.command("release")
@common
@_subjects
@click.option("--customer", "customer_id", help="Bill this Stripe customer.")
@click.option("--bill-now", is_flag=True, help=CHOICES["bill_now"])
@click.option("--invoice-item", is_flag=True, help=CHOICES["invoice_item"])
@click.option("--as-is", is_flag=True, help=CHOICES["as_is"])
@click.option("--arrived", is_flag=True, help=CHOICES["arrived"])
@click.option("--not-sent", is_flag=True, help=CHOICES["not_sent"])
@click.option("--user", help="With --customer, a rule: bill it for all traces of this user.")
@click.option("--organization", help="With --customer, a rule: bill it for all traces of this organization.")
@click.option("--session", help="With --customer, a rule: bill it for all traces of this session.")
@_decision
def held_release(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    ids: tuple[str, ...],
    reason: str | None,
    every: bool,
    customer_id: str | None,
    why: str,
    by: str | None,
    yes: bool,
    **options: Any,
) -> None:
    """Release what is held, by one of the choices that `tallymark held show` offers; or make a rule on whom to bill."""
    config = begin(config_file, verbose, quiet)
    rules = [(kind, options[kind]) for kind in ("session", "user", "organization") if options[kind] is not None]
    flags = [name for name in CHOICES if options[name]]
    if rules:
        _refuse(bool(ids or every or flags), "a rule stands alone: no ids, no --all, and only --customer with it")
        _add_rules(config, rules, customer_id, why, by, as_json)
        return
    _refuse(len(flags) > 1, "name one choice, not several")
    _refuse(not flags and customer_id is None, "name a choice, such as --bill-now; `tallymark held show ID` lists them")
    from ..flows.held_decisions import release

    choice = flags[0].replace("_", "-") if flags else "customer"
    answer = release(
        config,
        ids,
        choice,
        why=why,
        by=by or _user(),
        customer_id=customer_id,
        reason=_reason(reason, every),
        confirm=_confirm(yes, as_json),
    )
    _print(answer, as_json)


@held.command("waive")
@common
@_subjects
@_decision
def held_waive(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    ids: tuple[str, ...],
    reason: str | None,
    every: bool,
    why: str,
    by: str | None,
    yes: bool,
) -> None:
    """Bill what is held to nobody; of a billed trace that is deleted in Langfuse, give back what it was billed."""
    config = begin(config_file, verbose, quiet)
    from ..flows.held_decisions import waive

    confirm = _confirm(yes, as_json)
    answer = waive(config, ids, why=why, by=by or _user(), reason=_reason(reason, every), confirm=confirm)
    _print(answer, as_json)


@held.command("decisions")
@common
@click.option("--limit", default=1000, show_default=True, help="At most this many rows.")
def held_decisions(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, limit: int) -> None:
    """List what was decided about money, by whom, when and why; the newest first."""
    config = begin(config_file, verbose, quiet)
    from ..api import held_decisions as ask
    from ..console import print_json, print_table

    found = ask(config, limit)
    columns = ("decision", "at", "who", "verb", "subject", "credits", "why")
    print_json({"decisions": found}) if as_json else print_table(found, columns)


@held.group()
def rules() -> None:
    """Rules on whom to bill, made by `tallymark held release --user U --customer C`."""


@rules.command("list")
@common
def rules_list(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool) -> None:
    """List the rules, and who made them."""
    config = begin(config_file, verbose, quiet)
    from ..console import print_json, print_table
    from ..core.clock import format_time
    from ..flows.held_decisions import customer_rules as ask

    rows = [
        {
            "kind": rule.kind,
            "value": rule.value,
            "customer": rule.customer_id,
            "decision": rule.decision_id,
            "at": format_time(rule.at_us),
            "who": rule.who,
            "why": rule.why,
        }
        for rule in ask(config)
    ]
    columns = ("kind", "value", "customer", "decision", "at", "who", "why")
    print_json({"rules": rows}) if as_json else print_table(rows, columns)


@rules.command("remove")
@common
@click.argument("kind", type=click.Choice(["user", "organization", "session"]))
@click.argument("value")
@click.option("--why", required=True, help="Why; kept with the decision.")
@click.option("--by", help="Who decides; the user of this machine unless given.")
def rules_remove(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, kind: str, value: str, why: str, by: str | None
) -> None:
    """Withdraw a rule; what was billed by it stays."""
    config = begin(config_file, verbose, quiet)
    from ..flows.held_decisions import remove_customer_rule

    _print(remove_customer_rule(config, kind, value, why=why, by=by or _user()), as_json)


def _add_rules(
    config: Any, rules: list[tuple[str, str]], customer_id: str | None, why: str, by: str | None, as_json: bool
) -> None:
    _refuse(customer_id is None, "a rule needs --customer: whom to bill")
    from ..flows.held_decisions import add_customer_rules

    _print(add_customer_rules(config, rules, customer_id or "", why=why, by=by or _user()), as_json)


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise click.UsageError(message)


def _reason(reason: str | None, every: bool) -> str | None:
    _refuse((reason is None) == every, "--reason and --all go together: everything that is held for one reason")
    return reason


def _user() -> str:
    """The user of this machine."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}"


def _confirm(yes: bool, as_json: bool) -> Callable[[Plan], bool]:
    """Say what is about to be decided, and ask, unless it is a single thing worth nothing."""
    _refuse(as_json and not yes, "--json asks nobody: it needs --yes")

    def ask(plan: Plan) -> bool:
        from ..show_held import show_plan

        show_plan(plan)
        if yes or (len(plan.subjects) == 1 and not plan.amount_micros):
            return True
        _refuse(not sys.stdin.isatty(), "nobody can be asked here: look at the amount, then add --yes")
        return click.confirm("Go on?", abort=True, err=True)

    return ask


def _print(answer: dict[str, Any], as_json: bool) -> None:
    from ..console import print_json
    from ..show_held import show_answer

    print_json(answer) if as_json else show_answer(answer)
