"""Plans for people: how far they are, waiting for one, and ending one before it is done."""

from __future__ import annotations

import msgspec

from ..clock import SystemClock
from ..config import Config
from ..core.clock import SECOND_US, Clock, format_time
from ..errors import ConfigError, NotFound
from ..ledger import Ledger
from ..ledger.guard import using_ledger
from ..ledger.plans import (
    CANCELLED,
    DONE,
    ENDS,
    FAILED,
    OPEN,
    READ,
    STAGE_WORDS,
    Plan,
    newest_plans,
    part_problems,
    parts_by_state,
    plan_of,
    stop_plan,
)
from .backfill import BackfillSummary
from .plan_counts import all_counts
from .planning import BACKFILL
from .progress import Progress
from .summary import SyncSummary

LOOK_SECONDS = 0.5
CANCELLED_BY = "cancelled by hand"


class PartProblem(msgspec.Struct):
    """What went wrong with a part: one that is open is tried again."""

    stage: str
    number: int
    from_: str | None = msgspec.field(name="from")
    to: str | None
    state: str
    tries: int
    problem: str


class PlanStatus(msgspec.Struct):
    """How far a plan is. `state` is going on, done, failed or cancelled; `stage` what it does, or what it ended in.

    `done` of `total` parts of the stage have ended: windows to read, shards to send, batches to mark. `rows` is how
    many rows of traces or observations were read; rate and seconds left are those of the stage.
    """

    plan_id: str
    kind: str
    state: str
    stage: str
    from_: str = msgspec.field(name="from")
    to: str | None
    made_at: str
    done: int
    total: int
    rows: int
    per_second: float | None
    seconds_left: int | None
    problem: str
    problems: list[PartProblem]


def list_plans(config: Config, limit: int, clock: Clock | None = None) -> list[PlanStatus]:
    """The newest plans. Raises LedgerError."""
    now_us = (clock or SystemClock()).now_us()
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return [status_of(ledger, plan, now_us) for plan in newest_plans(ledger, limit)]


def one_plan(config: Config, plan_id: str, clock: Clock | None = None) -> PlanStatus:
    """How far a plan is. Raises NotFound or LedgerError."""
    now_us = (clock or SystemClock()).now_us()
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return status_of(ledger, _found(ledger, plan_id), now_us)


def _found(ledger: Ledger, plan_id: str) -> Plan:
    plan = plan_of(ledger, plan_id)
    if plan is None:
        raise NotFound(f"there is no plan {plan_id!r:.60}; `tallymark plans` lists them.")
    return plan


def status_of(ledger: Ledger, plan: Plan, now_us: int) -> PlanStatus:
    """How far one plan is."""
    done, total = _parts(ledger, plan)
    seconds = (now_us - plan.stage_at_us) / SECOND_US
    per_second = done / seconds if seconds > 0 and done and not plan.has_ended else None
    return PlanStatus(
        plan_id=plan.plan_id,
        kind=plan.kind,
        state=plan.stage if plan.has_ended else "going on",
        stage=plan.stage,
        from_=format_time(plan.from_us),
        to=format_time(plan.to_us) if plan.to_us is not None else None,
        made_at=format_time(plan.made_at_us),
        done=done,
        total=total,
        rows=all_counts(ledger, plan).rows,
        per_second=round(per_second, 2) if per_second else None,
        seconds_left=round((total - done) / per_second) if per_second else None,
        problem=plan.problem,
        problems=[_problem(row) for row in part_problems(ledger, plan.plan_id)],
    )


def _parts(ledger: Ledger, plan: Plan) -> tuple[int, int]:
    """How many parts have ended, and of how many: of the stage, or of reading when the plan has ended."""
    stage = READ if plan.stage in ENDS else plan.stage
    states = {state: parts for (of, state), parts in parts_by_state(ledger, plan.plan_id).items() if of == stage}
    total = sum(states.values())
    return total - states.get(OPEN, 0), total


def _problem(row: object) -> PartProblem:
    named = {name: row[name] for name in ("stage", "number", "state", "tries", "problem")}  # type: ignore[index]
    times = [row[name] for name in ("from_us", "to_us")]  # type: ignore[index]
    from_, to = (format_time(moment) if moment is not None else None for moment in times)
    return PartProblem(**named, from_=from_, to=to)


def wait_for(
    config: Config, plan_id: str, progress: Progress, clock: Clock | None = None
) -> BackfillSummary | SyncSummary:
    """Wait until workers have done a plan, and tell how far it is; what it came to.

    Raises ConfigError if it failed or was cancelled: what was recorded stays.
    """
    plan = until_ended(config, plan_id, progress, clock)
    if plan.stage != DONE:
        raise ConfigError(
            f"the workers' {plan.kind} {'failed' if plan.stage == FAILED else 'was cancelled'}: "
            f"{plan.problem.rstrip('.')}. What they recorded stays; mend that and run it again."
        )
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return _summary(ledger, plan)


def until_ended(config: Config, plan_id: str, progress: Progress, clock: Clock | None = None) -> Plan:
    """Wait until a plan has ended, well or not. Raises NotFound."""
    clock = clock or SystemClock()
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        while True:
            plan = _found(ledger, plan_id)
            if plan.has_ended:
                return plan
            done, total = _parts(ledger, plan)
            progress(STAGE_WORDS[plan.stage], done, total)
            clock.sleep(LOOK_SECONDS)


def _summary(ledger: Ledger, plan: Plan) -> BackfillSummary | SyncSummary:
    row = next(iter(ledger.query("one_run", id=plan.plan_id)))
    if plan.kind == BACKFILL:
        return msgspec.json.decode(row["summary"], type=BackfillSummary)
    return msgspec.json.decode(row["summary"], type=SyncSummary)


def cancel_plan(config: Config, plan_id: str, clock: Clock | None = None) -> PlanStatus:
    """End a plan; what was recorded stays, and is billed. Raises NotFound, ConfigError if it has ended, LedgerError."""
    now_us = (clock or SystemClock()).now_us()
    with using_ledger(config.ledger_url) as ledger:
        plan = _found(ledger, plan_id)
        if plan.has_ended:
            raise ConfigError(f"the plan {plan_id} has ended already: it is {plan.stage}.")
        while not stop_plan(ledger, plan, CANCELLED, CANCELLED_BY, now_us):
            # It went on to its next stage in this moment.
            plan = _found(ledger, plan_id)
            if plan.has_ended:
                break
        return status_of(ledger, _found(ledger, plan_id), now_us)
