"""Plans: what several workers do together, kept in the ledger as stages and their parts.

The queue only says what to do next. What is done, and what is left, stands here: a job that is lost, or comes twice,
changes nothing (docs/adr/0039).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..failpoints import Step
from .database import Database, Row
from .ledger import Ledger

READ, SEND, MARK = "read", "send", "mark"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ENDS = (DONE, FAILED, CANCELLED)
OPEN = "open"
# What people are told of a stage; windows are no traces, which "read" counts.
STAGE_WORDS = {READ: "windows", SEND: "shards", MARK: "batches"}
PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A backfill or a sync that workers do. `plan_id` is its run, and all of its parts decide by `made_at_us`.

    `request` and `counts` are JSON of the flows' own.
    """

    plan_id: str
    kind: str
    stage: str
    from_us: int
    to_us: int | None
    made_at_us: int
    stage_at_us: int
    card_digest: str
    request: str
    counts: str = "{}"
    problem: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.stage in ENDS


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker does of a stage: a window of a source to read, a shard to send, or a batch of traces to mark."""

    plan_id: str
    stage: str
    number: int
    source_key: str = ""
    from_us: int | None = None
    to_us: int | None = None
    after_trace_id: str = ""
    through_trace_id: str = ""
    tries: int = 0

    @property
    def staged_by(self) -> str:
        """Under which name it stages what it reads; the same when it is tried again."""
        return f"{self.plan_id}/{self.number}"


class _PutPlanPart(NamedTuple):
    """A new part as its row."""

    plan_id: str
    stage: str
    number: int
    source_key: str
    from_us: int | None
    to_us: int | None
    after_trace_id: str
    through_trace_id: str


def put_plan(ledger: Ledger, plan: Plan, parts: Sequence[Part]) -> None:
    """Store a plan and the parts of its first stage; from now on its run is the workers'."""
    with ledger.transaction(Step.PUT_PLAN) as db:
        db.write(
            "put_plan",
            plan_id=plan.plan_id,
            kind=plan.kind,
            stage=plan.stage,
            from_us=plan.from_us,
            to_us=plan.to_us,
            now_us=plan.made_at_us,
            card_digest=plan.card_digest,
            request=plan.request,
            counts=plan.counts,
        )
        _put_parts_txn(db, parts)
        _tell_progress_txn(db, plan, plan.made_at_us)
        db.write("hand_over_run", run_id=plan.plan_id)


def _put_parts_txn(db: Database, parts: Sequence[Part]) -> None:
    rows = [
        _PutPlanPart(
            part.plan_id,
            part.stage,
            part.number,
            part.source_key,
            part.from_us,
            part.to_us,
            part.after_trace_id,
            part.through_trace_id,
        )
        for part in parts
    ]
    db.write_many("put_plan_part", rows)


def plan_of(ledger: Ledger, plan_id: str) -> Plan | None:
    """A plan by its id."""
    return next((_plan(row) for row in ledger.query("plan", plan_id=plan_id)), None)


def open_plans(ledger: Ledger) -> list[Plan]:
    """The plans that go on, the oldest first."""
    return [_plan(row) for row in ledger.query("open_plans")]


def newest_plans(ledger: Ledger, limit: int) -> list[Plan]:
    """Plans, whether they go on or not, the newest first."""
    return [_plan(row) for row in ledger.query("plans", limit=limit)]


def open_parts(ledger: Ledger, plan_id: str) -> list[Part]:
    """What is left to do of the stage that a plan is in."""
    return [_part(row) for row in ledger.query("open_parts", plan_id=plan_id)]


def open_part(ledger: Ledger, plan_id: str, stage: str, number: int) -> Part | None:
    """A part that is still to be done; None if it has ended, its stage is over, or its plan was cancelled."""
    found = ledger.query("open_plan_part", plan_id=plan_id, stage=stage, number=number)
    return next((_part(row) for row in found), None)


def parts_by_state(ledger: Ledger, plan_id: str) -> dict[tuple[str, str], int]:
    """How many parts of a plan there are, by (stage, state)."""
    rows = ledger.query("parts_by_state", plan_id=plan_id)
    return {(row["stage"], row["state"]): row["parts"] for row in rows}


def part_counts(ledger: Ledger, plan_id: str) -> list[str]:
    """What each part of a plan that is done counted, as JSON."""
    return [row["counts"] for row in ledger.query("part_counts", plan_id=plan_id)]


def part_problems(ledger: Ledger, plan_id: str) -> list[Row]:
    """Parts that went wrong and are not done, with the reason: some of them, if they are many."""
    return list(ledger.query("part_problems", plan_id=plan_id, limit=PROBLEMS_MAX))


def end_part(ledger: Ledger, part: Part, counts: str, now_us: int) -> bool:
    """Note that a part is done and what it counted; whether that was the last of its stage."""
    return _end_part(ledger, part, DONE, counts, "", now_us)


def fail_part(ledger: Ledger, part: Part, problem: str, now_us: int) -> bool:
    """Note that a part cannot be done, and why; whether that was the last of its stage."""
    return _end_part(ledger, part, FAILED, "{}", problem, now_us)


def _end_part(ledger: Ledger, part: Part, state: str, counts: str, problem: str, now_us: int) -> bool:
    place = {"plan_id": part.plan_id, "stage": part.stage, "number": part.number}
    with ledger.transaction(Step.END_PART) as db:
        db.write("end_part", **place, state=state, counts=counts, problem=problem, now_us=now_us)
        row = db.row("plan", plan_id=part.plan_id)
        return row["stage"] == part.stage and not _tell_progress_txn(db, _plan(row), now_us)


def try_part_again(ledger: Ledger, part: Part, problem: str) -> None:
    """Note that a part went wrong, and why; it stays to be done."""
    with ledger.transaction(Step.END_PART) as db:
        place = {"plan_id": part.plan_id, "stage": part.stage, "number": part.number}
        db.write("try_part_again", **place, problem=problem)


def move_plan(
    ledger: Ledger, plan: Plan, stage: str, now_us: int, *, parts: Sequence[Part] = (), counts: str = "{}"
) -> bool:
    """Bring a plan to its next stage, or to its end; False if somebody else has moved it meanwhile."""
    return _move(ledger, plan, stage, now_us, parts, counts, "")


def stop_plan(ledger: Ledger, plan: Plan, stage: str, problem: str, now_us: int) -> bool:
    """End a plan before it is done: FAILED or CANCELLED, and why. False if it has moved meanwhile."""
    return _move(ledger, plan, stage, now_us, (), plan.counts, problem)


def _move(
    ledger: Ledger, plan: Plan, stage: str, now_us: int, parts: Sequence[Part], counts: str, problem: str
) -> bool:
    with ledger.transaction(Step.MOVE_PLAN) as db:
        place = {"plan_id": plan.plan_id, "before": plan.stage, "stage": stage}
        if not db.write("move_plan", **place, now_us=now_us, counts=counts, problem=problem):
            return False
        _put_parts_txn(db, parts)
        if stage in ENDS:
            _end_plan_txn(db, plan.plan_id, problem, now_us)
        else:
            _tell_progress_txn(db, _plan(db.row("plan", plan_id=plan.plan_id)), now_us)
        return True


def _end_plan_txn(db: Database, plan_id: str, problem: str, now_us: int) -> None:
    db.write("delete_progress", run_id=plan_id)
    hand_back_readings_txn(db, plan_id)
    if problem:
        db.write("fail_run", run_id=plan_id, problem=problem, now_us=now_us)


def hand_back_readings(ledger: Ledger, plan_id: str) -> None:
    """Leave what the parts of a plan that ended early have staged to whoever reads next."""
    with ledger.transaction(Step.MOVE_PLAN) as db:
        hand_back_readings_txn(db, plan_id)


def hand_back_readings_txn(db: Database, plan_id: str) -> None:
    """The same, inside the caller's transaction."""
    db.write("hand_back_readings", plan_id=plan_id)
    db.write("drop_readings", plan_id=plan_id)


def _tell_progress_txn(db: Database, plan: Plan, now_us: int) -> int:
    """Note how far the stage of a plan is, where runs are shown; how many of its parts are open."""
    states: Mapping[str, int] = {
        row["state"]: row["parts"]
        for row in db.rows("parts_by_state", plan_id=plan.plan_id)
        if row["stage"] == plan.stage
    }
    left = states.get(OPEN, 0)
    db.write(
        "put_progress",
        run_id=plan.plan_id,
        stage=STAGE_WORDS[plan.stage],
        stage_at_us=plan.stage_at_us,
        done=sum(states.values()) - left,
        total=sum(states.values()),
        now_us=now_us,
    )
    return left


def _plan(row: Row) -> Plan:
    return Plan(**{name: row[name] for name in Plan.__dataclass_fields__})


def _part(row: Row) -> Part:
    return Part(**{name: row[name] for name in Part.__dataclass_fields__})
