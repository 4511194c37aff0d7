"""What tallymark and the people around it do: each runs processes, some of which die on the way."""

from sim.world import CUSTOMERS, WEBHOOK_SECRET
from tallymark.core.choices import OF_TRACE, Choice
from tallymark.core.clock import DAY_US
from tallymark.core.ids import sent_identifier
from tallymark.errors import ConfigError, NotificationRefused
from tallymark.failpoints import Step
from tallymark.flows import held_decisions
from tallymark.flows.reconcile import reconcile
from tallymark.flows.reports import receive_webhook

# Reached by most runs, and most often; at any other step a process is as likely to die as not.
COMMON = frozenset(
    {
        Step.PUT_FACT,
        Step.START_RUN,
        Step.FINISH_RUN,
        Step.PUT_COVERAGE,
        Step.STAGE,
        Step.DECIDE_STAGED,
        Step.RECORD,
        Step.GATHER,
        Step.CLAIM,
        Step.SETTLE,
        Step.REOPEN_REJECTED,
        Step.LANGFUSE_READ,
        Step.STRIPE_READ,
        Step.STRIPE_SEND,
    }
)
DIES_COMMON, DIES_RARE = 0.01, 0.4


# ---- when a process dies


def fate_of(world):
    """When the next process dies: never, after so many failpoints, or by chance, most likely where few come by."""
    chance = world.chance
    if chance.random() < 0.55:
        return None
    if chance.random() < 0.4:
        return _after(chance.randrange(1, 120))
    return lambda step, _side: chance.random() < (DIES_COMMON if step in COMMON else DIES_RARE)


def _after(times):
    left = times

    def fate(_step, _side):
        nonlocal left
        left -= 1
        return left == 0

    return fate


# ---- syncs


def sync(world):
    """What is new."""
    world.sync(fate_of(world))
    return ""


def sync_full(world):
    """The whole look-back."""
    world.sync(fate_of(world), full=True)
    return ""


def sync_range(world):
    """A range that reaches far back."""
    days = world.chance.choice([1, 10, 40])
    world.sync(fate_of(world), from_us=world.clock.now_us() - days * DAY_US)
    return f"{days} days"


def sync_trace(world):
    """One trace."""
    living = [trace.trace_id for trace in world.model.traces.values() if not trace.deleted]
    if not living:
        return "none"
    trace_id = world.chance.choice(living)
    # It may be too young to be seen.
    world.sync(fate_of(world), trace_id=trace_id, expected=(ConfigError,))
    return trace_id


def two_workers(world):
    """A sync, and in the middle of it another one."""
    world.meanwhile = world.chance.randrange(1, 60)
    world.sync(fate_of(world), full=world.chance.random() < 0.3)
    world.meanwhile = 0
    return ""


def compare(world):
    """A reconciliation, with or without repair."""
    repair, by = world.chance.random() < 0.5, world.chance.choice([None, "hour", "day"])
    from_us = world.clock.now_us() - world.chance.choice([1, 7, 30]) * DAY_US
    found = world.run(
        lambda: reconcile(world.config(), from_us=from_us, by=by, repair=repair, clock=world.clock), fate_of(world)
    )
    return f"repair {repair}, {'not finished' if found is None else 'done'}"


def webhooks(world):
    """Stripe delivers the notifications that wait."""

    def deliver(body, signature):
        done = world.run(
            lambda: receive_webhook(world.config(), body, signature, world.clock) or True,
            fate_of(world),
            expected=(NotificationRefused,),
        )
        return 200 if done else 500

    return f"{list(world.stripe.push(deliver, WEBHOOK_SECRET))}"


# ---- people


def person_decides(world):
    """A person decides about something that waits."""
    waiting = [*_waiting_traces(world), *_waiting_meter_events(world)]
    if not waiting:
        return "nothing waits"
    identity, reason, choices = world.chance.choice(waiting)
    choice = world.chance.choice(choices)
    customer_id = world.chance.choice(CUSTOMERS) if choice is Choice.ASSIGN else None
    world.decided_about(identity, choice, customer_id)

    def decide():
        return held_decisions.release(
            world.config(),
            [identity],
            choice,
            why="simulated",
            by="ann",
            customer_id=customer_id,
            clock=world.clock,
        )

    done = world.run(decide, fate_of(world), expected=(ConfigError,))
    world.events.count("decision", f"{choice} of {reason}" if done else "refused or died")
    return f"{identity} ({reason}): {choice} {customer_id or ''}"


def _waiting_traces(world):
    for row in world.judge.ask("select * from trace where outcome = 'held' or reason = 'deleted' order by trace_id"):
        if choices := OF_TRACE.get(row["reason"]):
            yield row["trace_id"], row["reason"], choices


def _waiting_meter_events(world):
    """What a person sees who looks into Stripe before deciding about doubt."""
    question = "select * from meter_event where state in ('in_doubt', 'held', 'rejected') order by meter_event_id"
    received = {one.identifier for one in world.stripe.meter_events() if one.counted}
    for row in world.judge.ask(question):
        if row["state"] == "in_doubt":
            arrived = sent_identifier(row["meter_event_id"], row["reissue"]) in received
            if world.window_s:
                arrived = arrived and world.judge.is_in_total(row)
            yield row["meter_event_id"], "in_doubt", (Choice.ARRIVED if arrived else Choice.NOT_SENT,)
        else:
            choices = (Choice.AS_IS, Choice.BILL_NOW, Choice.INVOICE_ITEM, Choice.ASSIGN, Choice.WAIVE)
            yield row["meter_event_id"], row["reason"] or row["state"], choices


def rule_for_user(world):
    """A person makes a rule for a user, or withdraws it."""
    user, customer_id = f"user-{world.chance.randrange(4)}", world.chance.choice(CUSTOMERS)
    if user in world.rules:
        world.run(
            lambda: held_decisions.remove_customer_rule(
                world.config(), "user", user, why="simulated", by="ann", clock=world.clock
            ),
            expected=(ConfigError,),
        )
        world.rules.discard(user)
        return f"{user} withdrawn"
    for trace in world.model.traces.values():
        if trace.user == user:
            trace.customers.add(customer_id)
    world.rules_ever.setdefault(user, set()).add(customer_id)
    world.run(
        lambda: held_decisions.add_customer_rules(
            world.config(), [("user", user)], customer_id, why="simulated", by="ann", clock=world.clock
        ),
        fate_of(world),
    )
    world.rules.add(user)
    return f"{user} is {customer_id}"


RUNS = {
    sync: 16,
    sync_full: 4,
    sync_range: 3,
    sync_trace: 1,
    two_workers: 4,
    compare: 2,
    webhooks: 3,
    person_decides: 6,
    rule_for_user: 1,
}
"""How often each happens, against the others."""
