"""Failpoints are complete: each transaction and each request has a step, each step its places, and nothing arms one."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tallymark import failpoints
from tallymark.failpoints import Side, Step, arm, reach

PACKAGE = Path(__file__).parents[2] / "src" / "tallymark"

# Where each step is taken: the functions that name it. A new transaction or kind of request gets a row here and a
# scenario in tests/crash/scenarios.py.
PLACES = {
    Step.MIGRATE: {"ledger.sqlite.SqliteDatabase.migrate", "ledger.postgres.PostgresDatabase.migrate"},
    Step.PUT_FACT: {
        "ledger.ledger.Ledger._make_id",
        "ledger.ledger.Ledger.put_fact",
        "ledger.meter_windows.put_meter_windows",
    },
    Step.START_RUN: {"ledger.ledger.Ledger.start_run"},
    Step.FINISH_RUN: {"ledger.ledger.Ledger.finish_run"},
    Step.PUT_COVERAGE: {"ledger.ledger.Ledger.put_coverage"},
    Step.FORGET_COVERAGE: {"ledger.ledger.Ledger.forget_coverage"},
    Step.STAGE: {"ledger.staging.stage"},
    Step.DECIDE_STAGED: {"ledger.staging.decide_staged"},
    Step.PUT_SCORE_MARKS: {"ledger.staging.put_score_marks"},
    Step.OWE_LOST_MARKS: {"ledger.staging.owe_lost_score_marks"},
    Step.RECORD: {"ledger.ledger.Ledger.record"},
    Step.GATHER: {"ledger.ledger.Ledger.gather"},
    Step.CLAIM: {"ledger.ledger.Ledger.claim"},
    Step.SETTLE: {"ledger.ledger.Ledger.settle", "ledger.ledger.Ledger.settle_and_claim"},
    Step.CHANGE_METER_API: {"ledger.meter_api.use_api"},
    Step.REOPEN_REJECTED: {"ledger.ledger.Ledger.reopen_rejected"},
    Step.SETTLE_DOUBTS: {"ledger.doubts.settle_window", "ledger.doubts.doubt_streamed"},
    Step.PUT_NOTIFICATIONS: {"ledger.reports.put_notifications"},
    Step.APPLY_REPORT: {"ledger.reports.apply_report"},
    Step.CLOSE_REPORTS: {"ledger.reports.close_reports"},
    Step.REISSUE: {"ledger.reports.offer_again", "ledger.reports.reissue"},
    Step.PUT_PERIODS: {"ledger.periods.put_periods", "ledger.periods.doubt_periods"},
    Step.CLAIM_CANCEL: {"ledger.cancelling.claim_cancels"},
    Step.SETTLE_CANCEL: {"ledger.cancelling.settle_cancels"},
    Step.DECIDE_HELD: {
        "ledger.held.decide_meter_events",
        "ledger.rulings.rule_traces",
        "ledger.deletions.decide_deleted",
    },
    Step.BEGIN_INVOICING: {"ledger.held.begin_invoicing"},
    Step.FINISH_INVOICING: {"ledger.held.finish_invoicing", "ledger.held.refuse_invoicing"},
    Step.PUT_CUSTOMER_RULE: {"ledger.rulings.put_customer_rules", "ledger.rulings.remove_customer_rule"},
    Step.PUT_DELETED: {"ledger.deletions.credit_deleted", "ledger.deletions.note_deleted"},
    Step.SETTLE_MARKS: {"ledger.ledger.Ledger.settle_marks"},
    Step.SUM_USAGE: {"ledger.usage_sums.store_some_sums"},
    Step.BACK_UP: {"ledger.backups._publish"},
    Step.RESTORE: {"ledger.backups.fill", "ledger.backups._copy_to_file", "ledger.opening._copy_rows"},
    Step.TAG: {"ledger.ledger.Ledger.tagged"},
    Step.PUT_JOB: {f"ledger.jobs.{name}" for name in ("plan", "take", "renew", "finish", "release")},
    Step.PUT_ALERTS: {f"ledger.alerts.{name}" for name in ("note_alerts", "begin_telling", "end_telling")},
    Step.ALERT_SEND: {"remote.webhook.post"},
    Step.PUT_REQUEST: {f"ledger.run_requests.{name}" for name in ("ask", "take", "renew", "finish", "release")},
    Step.PUT_PLAN: {"ledger.plans.put_plan"},
    Step.END_PART: {"ledger.plans._end_part", "ledger.plans.try_part_again"},
    Step.MOVE_PLAN: {"ledger.plans._move", "ledger.plans.hand_back_readings"},
    Step.RESERVE: {"ledger.budgets.reserve"},
    Step.LANGFUSE_READ: {"remote.langfuse.LangfuseClient._once"},
    Step.LANGFUSE_WRITE: {"remote.langfuse.LangfuseClient._once"},
    Step.STRIPE_SEND: {"meter.stripe_events.StripeMeter.send_value", "meter.stripe_v2.StripeV2Meter.send"},
    Step.STRIPE_SESSION: {"meter.stripe_stream.StripeStream._open"},
    Step.STRIPE_STREAM: {"meter.stripe_stream.StripeStream._post"},
    Step.STRIPE_CANCEL: {"meter.stripe_events.StripeMeter.take_back"},
    Step.STRIPE_INVOICE_ITEM: {"meter.invoice_items.create_item"},
    Step.STRIPE_READ: {"meter.stripe_events.StripeMeter.patiently"},
}


@cache
def functions():
    """Every function and method of the package: its dotted name and its syntax."""
    return [
        found
        for file in sorted(PACKAGE.rglob("*.py"))
        for found in _functions_in(
            ast.parse(file.read_text("utf-8")), ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        )
    ]


def _functions_in(tree, name):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions_in(node, f"{name}.{node.name}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}.{node.name}", node


def calls(tree, name):
    """The calls of a function or method of that name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if name in (getattr(call.func, "attr", None), getattr(call.func, "id", None))]


def callers(name):
    """The functions that call one of that name."""
    return {caller for caller, function in functions() if calls(function, name)}


def steps_in(tree):
    """The names of the steps that are named."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr for node in found if isinstance(node.value, ast.Name) and node.value.id == "Step"}


def test_every_step_is_taken_where_the_table_says():
    """No step is left over, and none is shared by places that are not the same step."""
    found = defaultdict(set)
    for name, function in functions():
        for step in steps_in(function):
            found[Step[step]].add(name)

    assert dict(found) == PLACES
    assert set(PLACES) == set(Step)


def test_every_transaction_names_its_step():
    """Only `Ledger.transaction`, which modules of the ledger go through, hands on what it was given."""
    unnamed = {
        name
        for name, function in functions()
        for call in calls(function, "transaction")
        if len(call.args) != 1 or not steps_in(call.args[0])
    }

    assert unnamed == {"ledger.ledger.Ledger.transaction"}


def test_every_step_is_reached_through_one_of_four():
    """Transactions in one place, which alone begins and commits; requests in one of each client; files in one."""
    assert callers("_exclusive") == {"ledger.database.Database.transaction"}
    assert callers("reach") == {
        "ledger.backups._publish",
        "ledger.database.Database.transaction",
        "remote.langfuse.LangfuseClient._once",
        "remote.webhook.post",
        "meter.stripe_events.StripeMeter.once",
    }


def test_nothing_in_the_package_arms_a_failpoint():
    """No command, setting or environment variable can stop a process that bills; only a test, in its own child."""
    users = {
        file
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.alias) and node.name in ("arm", "failpoints")
    }

    assert callers("arm") | users == set()
    assert failpoints._stop is None


@pytest.fixture
def reached():
    """The failpoints that are reached, in order."""
    found = []
    arm(lambda step, side: found.append((step, side)))
    yield found
    arm(None)


def test_what_is_armed_is_called_and_disarmed_again(reached):
    """A stop function hears of each step, until it is taken away."""
    reach(Step.CLAIM, Side.BEFORE)
    arm(None)
    reach(Step.CLAIM, Side.AFTER)

    assert reached == [(Step.CLAIM, Side.BEFORE)]
