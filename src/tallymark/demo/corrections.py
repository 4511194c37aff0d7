"""The story of corrections: late and lower costs, deletions, rejections, a closed period; and no credit is unclear."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..core.clock import DAY_US, HOUR_US, format_time, parse_time
from ..core.credits import format_micros
from ..flows.held_decisions import release, waive
from ..flows.reconciliation import Reconciliation
from ..sandbox.story import StoryTrace, tell
from .arrivals import Generation, delete, report
from .stage import LOOKBACK_US, Stage, StageClock

CLOSED_CUSTOMERS = ("cus_001", "cus_002", "cus_003")
# A day ago and some hours their week ended; an hour later its invoice was final.
CLOSED_AGO_US = 30 * HOUR_US
HOUR_SECONDS, WEEK_SECONDS = 3600, 7 * 86_400
REJECTED_EVENTS = 25
LATE_COST_USD, LOWER_COST_USD = "0.0123", "0.00005"
# One in so many plain traces is told again later, with another cost, or deleted.
LATE_SHARE, LOWER_SHARE, DELETED_SHARE = 10, 20, 40
BY = "demo"


@dataclass(frozen=True, slots=True)
class Plot:
    """The traces of the story as they were told, and what becomes of some: each appears in one list at most."""

    told: Sequence[StoryTrace]
    late: Sequence[StoryTrace]
    lower: Sequence[StoryTrace]
    deleted: Sequence[StoryTrace]


def tell_story(stage: Stage) -> None:
    """Bill into a closed period, be rejected, let costs change and traces go; then reconcile, decide, reconcile."""
    clock = stage.clock
    plot = _plot(stage)
    _bill(stage, clock)
    _change(stage, clock, plot)
    _find_the_rejected(stage, clock)
    _reconcile_waiting(stage, clock, plot)
    _decide(stage, clock)


def _plot(stage: Stage) -> Plot:
    now_us = stage.sandbox.ready.now_us
    told = list(tell(stage.sandbox.ready.traces, now_us))
    plain = [one for one in told if one.kind == "plain"]
    # Not the oldest of all: to lose those looks like retention, which gives nothing back by itself.
    deleted = [one for one in plain[0::DELETED_SHARE] if _start_us(one) > now_us - DAY_US]
    return Plot(told, plain[1::LATE_SHARE], plain[2::LOWER_SHARE], deleted)


def _start_us(one: StoryTrace) -> int:
    return parse_time(one.trace["timestamp"])


# ---- what happens


def _bill(stage: Stage, clock: StageClock) -> None:
    stage.say(
        f"\n== first sync: the week of {len(CLOSED_CUSTOMERS)} customers is closed; Stripe will reject some events"
    )
    ended_us = stage.sandbox.ready.now_us - CLOSED_AGO_US
    for customer in CLOSED_CUSTOMERS:
        started_us = ended_us - WEEK_SECONDS * 1_000_000
        stage.sandbox.add_subscription(customer, started_at_us=started_us, period=WEEK_SECONDS)
    stage.sandbox.reject_next(REJECTED_EVENTS)
    summary = stage.sync(clock, from_us=stage.sandbox.ready.now_us - LOOKBACK_US)
    stage.report["first_sync"] = summary
    stage.check("usage of the closed week is held, not sent to a final invoice", summary.held.get("late_period", 0) > 0)


def _change(stage: Stage, clock: StageClock, plot: Plot) -> None:
    stage.say(
        f"\n== an hour passes: {len(plot.late):,} traces cost more, {len(plot.lower):,} cost less, "
        f"{len(plot.deleted):,} are deleted; Stripe has reported {REJECTED_EVENTS} events as rejected"
    )
    clock.pass_time(HOUR_SECONDS)
    report(stage, [*map(_late, plot.late), *map(_lower, plot.lower)], clock.now_us())
    delete(stage, [one.trace["id"] for one in plot.deleted])
    summary = stage.sync(clock, from_us=stage.sandbox.ready.now_us - LOOKBACK_US)
    stage.report["second_sync"] = summary
    changed = len(plot.late) + len(plot.lower) + len(plot.deleted)
    stage.check("each of them is one adjustment", summary.adjusted == changed)


def _find_the_rejected(stage: Stage, clock: StageClock) -> None:
    stage.say(
        "\n== two hours pass: Stripe named only some of those that it rejected; its sums tell which the others are"
    )
    clock.pass_time(2 * HOUR_SECONDS)
    before = stage.report["second_sync"].meter_events.reported
    summary = stage.sync(clock)
    stage.report["third_sync"] = summary
    stage.check("every rejection is found", before + summary.meter_events.reported == REJECTED_EVENTS)


def _late(one: StoryTrace) -> Generation:
    end_us = parse_time(one.observations[-1]["endTime"])
    return Generation(f"{one.trace['id']}-late", one.trace["id"], end_us, end_us, LATE_COST_USD)


def _lower(one: StoryTrace) -> Generation:
    first = one.observations[0]
    times = parse_time(first["startTime"]), parse_time(first["endTime"])
    return Generation(first["id"], one.trace["id"], *times, LOWER_COST_USD)


# ---- what it comes to, by the story's own arithmetic


def _expected_micros(plot: Plot, customers_before: Counter[str], settled_us: int) -> dict[str, int]:
    """What every customer's usage comes to now; the time of some traces of the future has come."""
    micros = Counter(customers_before)
    for one in plot.told:
        if one.kind == "future" and _start_us(one) < settled_us:
            micros[one.customer] += one.micros
    for before, after in itertools.chain(_with_late(plot), _with_lower(plot)):
        micros[before.customer] += after.micros - before.micros
    for gone in plot.deleted:
        micros[gone.customer] -= gone.micros
    return dict(micros)


def _with_late(plot: Plot) -> Iterator[tuple[StoryTrace, StoryTrace]]:
    for one in plot.late:
        end = one.observations[-1]["endTime"]
        late = {"startTime": end, "endTime": end, "costDetails": {"total": float(LATE_COST_USD)}}
        yield one, replace(one, observations=_in_time([*one.observations, late]))


def _with_lower(plot: Plot) -> Iterator[tuple[StoryTrace, StoryTrace]]:
    for one in plot.lower:
        first = {**one.observations[0], "costDetails": {"total": float(LOWER_COST_USD)}}
        yield one, replace(one, observations=[first, *one.observations[1:]])


def _in_time(observations: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(observations, key=lambda one: str(one["startTime"]))


# ---- what reconcile says


def _reconcile_waiting(stage: Stage, clock: StageClock, plot: Plot) -> None:
    stage.say("\n== reconcile: what waits for a person, and why; nothing is unexplained")
    found = stage.reconcile(clock)
    stage.report["reconcile_before"] = found
    stage.check("every difference has a cause", found.explained)
    stage.check("the closed week is one of them, the rejections another", {"late", "rejected"} <= _causes(found))
    stage.check_tally(waiting=True)
    assert stage.expected is not None
    settled_us = parse_time(stage.report["third_sync"].to) - stage.config.settle_us
    micros = _expected_micros(plot, stage.expected.micros, settled_us)
    expected = {customer: format_micros(amount) for customer, amount in micros.items()}
    what = "the entries equal the story's own arithmetic, to the micro-credit"
    stage.check(what, stage.credits_by_customer() == expected)


def _decide(stage: Stage, clock: StageClock) -> None:
    stage.say(
        "\n== held: what was rejected is sent again; of the closed week, one customer's is billed now, others' waived"
    )
    with stage.ledger() as ledger:
        rows = list(ledger.query("list_open_meter_events", reason="", limit=100_000))
    rejected = [row["meter_event_id"] for row in rows if row["reason"].startswith("meter_event_")]
    late = {row["meter_event_id"]: row["customer_id"] for row in rows if row["reason"] == "late_period"}
    first = [one for one, customer in late.items() if customer == CLOSED_CUSTOMERS[0]]
    others = [one for one, customer in late.items() if customer != CLOSED_CUSTOMERS[0]]
    release(stage.config, rejected, "as-is", why="the payload was in order", by=BY, clock=clock)
    release(stage.config, first, "bill-now", why="agreed with the customer", by=BY, clock=clock)
    waive(stage.config, others, why="goodwill", by=BY, clock=clock)
    stage.sync(clock)
    stage.say("\n== reconcile: nothing waits any more")
    found = stage.reconcile(clock)
    stage.report["reconcile_after"] = found
    stage.check("every difference has a cause", found.explained)
    stage.check("nothing is late or rejected any more", not {"late", "rejected", "in_flight"} & _causes(found))
    stage.check("what was waived and what was dated anew is told", {"waived", "moved"} <= _causes(found))
    stage.check_tally()
    stage.say(
        f"reconciled at {format_time(clock.now_us())}; `tallymark held decisions` lists who decided what, and why"
    )


def _causes(found: Reconciliation) -> set[str]:
    return {line.cause for line in found.causes}
