"""What leads to each failpoint: a command, the steps that it takes, and what happened before it.

A new member of `failpoints.Step` gets a row of its own or a place in one; test_failpoints.py does the rest.
"""

import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from children import SMALL, CrashChild
from observation_services import HEADERS

from child import Stop
from databases import DATABASES, POSTGRES, SQLITE, fresh_ledgers
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, SECOND_US, format_time, parse_time
from tallymark.failpoints import Side, Step
from tallymark.queue.tasks import Beats
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.wire import Request
from worlds import PROJECT, World, open_world

# Traces and customers so few that a run is short: what it costs are its requests. Each customer has one call in flight
# at most, so two processes find something to send side by side only if a batch takes fewer than half of them.
TRACES, CUSTOMERS = 110, 10
CLAIMS = SMALL["tallymark.flows.send.CLAIMS_MAX"]
# Windows so few, and lost workers given up so soon, that a test is over in a moment.
WORKERS = {
    "tallymark.flows.planning.WINDOWS": 6,
    "tallymark.flows.planning.WINDOW_US_MAX": 100 * DAY_US,
    "tallymark.flows.plan_stages.MARKS_EACH": 25,
    "tallymark.flows.working.AGAIN_SECONDS": 0,
    "tallymark.flows.working.BEATS": Beats(0.1, 0.7),
    "tallymark.queue.tasks.LOOK_AFTER_CRON": "* * * * * *",
}
WORK = ("worker", "--until-idle", "--json")
PLAN_BACKFILL, PLAN_FULL_SYNC = ("backfill", "--no-wait", "--json"), ("sync", "--full", "--no-wait", "--json")
SYNC, FULL_SYNC, BACKFILL = ("sync", "--json"), ("sync", "--json", "--full"), ("backfill", "--json")
LEGACY, EVENTS_ONLY = "legacy", "events_only"
# One of the story's, with a trace that names no customer.
RULED_USER = "user-312"


def nothing(_world):
    """Nothing has happened before."""


@dataclass(frozen=True)
class Scenario:
    """A command that takes some steps: killed on each side of each, of `often` at the last time too."""

    name: str
    steps: tuple[Step, ...]
    command: tuple[str, ...] = SYNC
    generation: str = LEGACY
    often: tuple[Step, ...] = ()
    before: Callable[[World], None] = nothing
    constants: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[str, ...] = DATABASES
    # What a person does at the end of it, and how the command may end when there is nothing left for it to do.
    then: Callable[[World], None] = nothing
    ends: tuple[int, ...] = (0, 1)


@cache
def _story():
    """The same traces for all scenarios, so that every run of one takes the same steps."""
    return [_of_few_customers(told) for told in tell(TRACES, SystemClock().now_us())]


def _of_few_customers(told):
    """A trace of the story, which belongs to one of a few customers."""
    customer = f"cus_{int(told.customer.removeprefix('cus_')) % CUSTOMERS + 1:03d}"
    metadata = {**told.trace["metadata"]}
    if "customerId" in metadata:
        metadata["customerId"] = customer
    return replace(told, customer=customer, trace={**told.trace, "metadata": metadata})


@contextlib.contextmanager
def world_of(folder, scenario, database=SQLITE, **services):
    """A world in which everything has happened that comes before a scenario's command."""
    langfuse = SandboxLangfuse(clock=SystemClock(), generation=scenario.generation)
    with (
        fresh_ledgers(database, folder) as address,
        open_world(folder, langfuse=langfuse, ledger_url=address(), **services) as world,
    ):
        world.told = list(_story())
        world.expected = expect(iter(world.told))
        for told in world.told:
            langfuse.put_trace(PROJECT, {**told.trace, "bookmarked": told.bookmarked}, told.observations)
        scenario.before(world)
        yield world


def run(world, arguments, ends=(0, 1), **changes):
    """Run a command in a child to its end, which must be a good one: 0, or 1 for the traces that are held."""
    child = CrashChild(world, arguments, **changes)
    ended = child.end()
    assert ended.status in ends, ended.err
    assert ended.json.get("failed", 0) == 0, ended.out
    return ended.json


# --- what happened before


def planned(world):
    """A full sync is planned for workers, and none has begun."""
    run(world, PLAN_FULL_SYNC, constants=WORKERS)


def let_workers_do(world):
    """Workers do what is planned."""
    run(world, WORK, constants=WORKERS)


def late_usage(world):
    """All is billed and marked; then every fourth plain trace turns out to have cost more."""
    run(world, SYNC)
    for place, told in enumerate(world.told):
        if told.kind == "plain" and place % 4 == 0:
            world.told[place] = replace(told, observations=[*told.observations, _later_observation(told)])
            world.langfuse.put_trace(PROJECT, told.trace, world.told[place].observations)
    world.expected = expect(iter(world.told))


def _later_observation(told):
    start_us = parse_time(told.observations[-1]["endTime"])
    return {
        **told.observations[-1],
        "id": f"{told.trace['id']}-late",
        "startTime": format_time(start_us),
        "endTime": format_time(start_us + SECOND_US),
        "costDetails": {"total": 0.0123},
    }


def lost_scores(world):
    """All is billed and marked; then the server loses every third score."""
    run(world, SYNC)
    scores = [score for trace in sorted(world.marked()) for score in world.langfuse.scores(PROJECT, trace)]
    for score in scores[::3]:
        path = f"/api/public/scores/{score['id']}"
        assert world.langfuse.handle(Request("DELETE", path, (), HEADERS)).status == 202


def refused(world):
    """The meter was inactive when everything was sent, and is active again."""
    run(world, (*SYNC, "--from", "6d", "--to", "5d"))  # No trace is so old; the meter is checked, and found in order.
    _switch_meter(world, "deactivate")
    ended = CrashChild(world, SYNC).end()
    assert ended.json["meter_events"]["rejected"] > 0
    _switch_meter(world, "reactivate")


def _switch_meter(world, how):
    headers = {"authorization": "Bearer sk_test_sandbox"}
    path = f"/v1/billing/meters/mtr_sandbox_0001/{how}"
    assert world.stripe.handle(Request("POST", path, (), headers)).status == 200


def counted_and_broken(world):
    """Stripe is going to answer its first meter events with 500, after it has counted them."""
    world.stripe.break_next(CLAIMS, counted=True)


def broken(world):
    """Stripe is going to answer its first meter events with 500, and count none of them."""
    world.stripe.break_next(CLAIMS, counted=False)


def unanswered(world):
    """A run was killed with its second batch of meter events on their way; Stripe has got some of them."""
    ended = CrashChild(world, SYNC, Stop(Step.STRIPE_SEND, Side.AFTER, CLAIMS + CLAIMS // 2)).end()
    assert ended.status == -signal.SIGKILL, ended.err


def rejected(world):
    """Stripe took everything, found three meter events wrong, and reports it; what was wrong is mended since."""
    world.stripe.reject_next(3, "meter_event_customer_not_found")
    run(world, SYNC)
    world.stripe_clock.advance(60)
    assert len(world.stripe.rejected_later()) == 3


def old_ledger(world):
    """The ledger is of the first schema, and owes a customer 2.5 credits."""
    script = resources.files("tallymark.ledger").joinpath("migrations", "0001_first.sqlite.sql").read_text()
    now_us = SystemClock().now_us()
    with contextlib.closing(sqlite3.connect(world.ledger)) as database:
        database.executescript(script)
        database.execute(
            "insert into entry (project_id, trace_id, meter, sequence, kind, customer_id, amount_micros, timestamp_us,"
            " bucket_start_us, bucket_end_us, bucket_key, card_digest, components, run_id, created_at_us)"
            " values ('p', 'old', 'credits', 0, 'charge', 'cus_old', 2500000, ?, ?, ?, '', 'card', '{}', 'run', 0)",
            [now_us, now_us, now_us + 1],
        )
        database.execute("pragma user_version = 1")
        database.commit()
    world.expected.micros["cus_old"] += 2_500_000


def lower_usage(world):
    """All is billed, each trace by a meter event of its own; then every fourth plain trace cost hardly anything.

    Nothing at all would be no price for its tokens.
    """
    run(world, SYNC, **CANCEL)
    for place, told in enumerate(world.told):
        if told.kind == "plain" and place % 4 == 0:
            cheap = [{**observation, "costDetails": {"total": 0.0001}} for observation in told.observations]
            world.told[place] = replace(told, observations=cheap)
            world.langfuse.put_trace(PROJECT, told.trace, cheap)
    world.expected = expect(iter(world.told))


def settle_cancels(world):
    """A person looks at Stripe's sums, and says of each meter event that may have been taken back whether it counts."""
    counted = {meter_event.identifier: meter_event.counted for meter_event in world.stripe.meter_events()}
    for (identifier,) in world.ask("select meter_event_id from meter_event where state = 'in_doubt'"):
        word = "--arrived" if counted[identifier] else "--not-sent"
        run(world, ("held", "release", identifier, word, *WHY))
    run(world, FULL_SYNC, **CANCEL)


def deleted(world):
    """All is billed; then five plain traces are deleted, none of them the oldest."""
    run(world, SYNC)
    plain = sorted((told.trace["timestamp"], place) for place, told in enumerate(world.told) if told.kind == "plain")
    gone = {place for _, place in plain[20:70:10]}
    for place in gone:
        world.langfuse.delete_trace(PROJECT, world.told[place].trace["id"])
    world.told = [told for place, told in enumerate(world.told) if place not in gone]
    world.expected = expect(iter(world.told))
    # The ledger keeps them: billed, and given back.
    world.expected.results["processed"] += len(gone)


def assigned(world):
    """All is billed but what has no customer, which is going to be another one's."""
    run(world, SYNC)
    for place, told in enumerate(world.told):
        if told.kind == "no customer":
            world.told[place] = replace(told, kind="plain", customer="cus_held")
    world.expected = expect(iter(world.told))


def ruled(world):
    """All is billed but what has no customer; that of one user is going to be another one's."""
    run(world, SYNC)
    for place, told in enumerate(world.told):
        if told.kind == "no customer" and told.trace["userId"] == RULED_USER:
            world.told[place] = replace(told, kind="plain", customer="cus_held")
    world.expected = expect(iter(world.told))


def late(world):
    """Usage of two customers is too late for its invoice where it is older than a day; invoice items will bill it."""
    now_us = SystemClock().now_us()
    for customer in ("cus_001", "cus_002"):
        world.stripe.add_subscription(
            customer, "credits", started_at_us=now_us - 40 * DAY_US, anchor_us=now_us - DAY_US, period="month"
        )
    run(world, SYNC)
    held = "select customer_id, entries_micros from meter_event where state = 'held' and reason = 'late_period'"
    found = world.ask(held)
    assert len(found) > 2
    for customer, micros in found:
        world.expected.micros[customer] -= micros


def check_invoice_items(world):
    """Each meter event that is billed by an invoice item has one, and there are no others."""
    request = Request("GET", "/v1/invoiceitems", (("limit", "100"),), {"authorization": "Bearer sk_test_sandbox"})
    items = json.loads(world.stripe.handle(request).body)["data"]
    made = sorted(item["metadata"]["tallymark_meter_event"] for item in items)
    billed = world.ask("select meter_event_id from meter_event where answer like 'billed by invoice item%'")
    assert made == sorted(identifier for (identifier,) in billed)
    assert made


# --- the table

WHY = ("--why", "a test", "--yes", "--json")
CANCEL = {"BILLING_METER_BUCKET": "trace", "BILLING_CORRECTIONS": "cancel"}
TO_ANOTHER = ("--customer", "cus_held", *WHY)
BEGINS_AND_ENDS = (Step.MIGRATE, Step.START_RUN, Step.FINISH_RUN)
SENDS = (Step.GATHER, Step.CLAIM, Step.SETTLE, Step.STRIPE_SEND)
READS = (Step.STRIPE_READ, Step.LANGFUSE_READ)
MARKS = (Step.SETTLE_MARKS, Step.LANGFUSE_WRITE)
STAGES = (Step.STAGE, Step.DECIDE_STAGED)

STREAM = {"BILLING_METER_API": "stream"}
# What was streamed is asked about at once.
STREAM_AT_ONCE = {"tallymark.ledger.sending.FIRST_PROOF_US": 0, "tallymark.core.states.FIRST_PROOF_US": 0}

# Stripe forgets identifiers at once, and its sums are never late.
NO_PROMISE = {
    "tallymark.ledger.sending.STRIPE_PROMISE_US": 0,
    "tallymark.ledger.sending.STRIPE_PROMISE_MARGIN_US": 0,
    "tallymark.core.doubt.SUMMARY_MARGIN_US": 0,
}

SCENARIOS = (
    Scenario(
        "first sync",
        (*BEGINS_AND_ENDS, Step.PUT_COVERAGE, Step.PUT_PERIODS, Step.REOPEN_REJECTED, Step.SUM_USAGE, *READS),
        often=(Step.PUT_FACT, Step.RECORD, *SENDS, *MARKS),
    ),
    Scenario(
        "first sync by observations",
        (*BEGINS_AND_ENDS, Step.PUT_FACT, Step.LANGFUSE_READ, *SENDS),
        generation=EVENTS_ONLY,
        often=(*STAGES, Step.PUT_COVERAGE, *MARKS),
    ),
    Scenario(
        "backfill",
        (*BEGINS_AND_ENDS, Step.PUT_FACT, Step.PUT_COVERAGE, Step.LANGFUSE_READ, Step.FORGET_COVERAGE),
        BACKFILL,
        often=(Step.RECORD, Step.TAG, Step.LANGFUSE_WRITE),
        constants={"tallymark.marks.langfuse.BODY_BYTES_MAX": 2_500},
    ),
    Scenario(
        "backfill by observations",
        (Step.PUT_FACT, *STAGES, Step.PUT_COVERAGE, Step.FORGET_COVERAGE),
        BACKFILL,
        generation=EVENTS_ONLY,
    ),
    Scenario("late usage", (Step.RECORD, *SENDS, *MARKS), FULL_SYNC, before=late_usage),
    Scenario(
        "lost scores",
        (Step.OWE_LOST_MARKS, *MARKS),
        FULL_SYNC,
        EVENTS_ONLY,
        often=(Step.PUT_SCORE_MARKS,),
        before=lost_scores,
        constants={"tallymark.flows.read.MARK_VISIBLE_AFTER_US": 0},
    ),
    Scenario("after a refusal", (Step.REOPEN_REJECTED, *SENDS), before=refused),
    Scenario("Stripe counts and fails", (Step.STRIPE_SEND, Step.SETTLE), before=counted_and_broken),
    Scenario("Stripe fails", (Step.STRIPE_SEND, Step.SETTLE), before=broken),
    Scenario(
        "past Stripe's promise",
        (*SENDS, *MARKS),
        often=(Step.SETTLE_DOUBTS,),
        before=unanswered,
        constants=NO_PROMISE,
    ),
    Scenario(
        "by the stream",
        (Step.STRIPE_SESSION, *MARKS),
        often=(Step.STRIPE_STREAM, Step.SETTLE_DOUBTS),
        constants=STREAM_AT_ONCE,
        settings=STREAM,
    ),
    Scenario(
        "to another API",
        (Step.CHANGE_METER_API, Step.STRIPE_SEND, Step.SETTLE_DOUBTS),
        before=unanswered,
        constants={"tallymark.core.doubt.SUMMARY_MARGIN_US": 0},
        settings={"BILLING_METER_API": "v2"},
    ),
    Scenario(
        "Stripe rejects later",
        (Step.PUT_NOTIFICATIONS, Step.APPLY_REPORT, Step.CLOSE_REPORTS, Step.REISSUE, *SENDS, *MARKS),
        before=rejected,
        constants={"tallymark.flows.reports.POLL_EVERY_US": 0},
    ),
    Scenario(
        "lower usage",
        (Step.CLAIM_CANCEL, Step.STRIPE_CANCEL, Step.SETTLE_CANCEL, *SENDS),
        FULL_SYNC,
        before=lower_usage,
        settings=CANCEL,
        then=settle_cancels,
    ),
    Scenario("deleted traces", (Step.PUT_DELETED, Step.GATHER), FULL_SYNC, before=deleted),
    Scenario(
        "held traces are assigned",
        (Step.DECIDE_HELD, Step.START_RUN, Step.FINISH_RUN),
        ("held", "release", "--reason", "no_customer", "--all", *TO_ANOTHER),
        before=assigned,
    ),
    Scenario(
        "a rule",
        (Step.PUT_CUSTOMER_RULE,),
        ("held", "release", "--user", RULED_USER, *TO_ANOTHER),
        before=ruled,
    ),
    Scenario(
        "late usage by invoice items",
        (Step.BEGIN_INVOICING, Step.STRIPE_INVOICE_ITEM, Step.FINISH_INVOICING),
        ("held", "release", "--reason", "late_period", "--all", "--invoice-item", *WHY),
        before=late,
        then=check_invoice_items,
        ends=(0, 2),
    ),
    Scenario(
        "a plan for workers",
        (Step.PUT_PLAN,),
        PLAN_BACKFILL,
        constants=WORKERS,
        then=let_workers_do,
        databases=(POSTGRES,),
    ),
    Scenario(
        "workers",
        (Step.END_PART, Step.MOVE_PLAN, Step.RESERVE),
        WORK,
        before=planned,
        constants=WORKERS,
        databases=(POSTGRES,),
    ),
    Scenario("old ledger", (Step.MIGRATE, Step.GATHER), before=old_ledger, databases=(SQLITE,)),
)
