"""The ledger: record what traces are worth, gather meter events, claim, settle, owe marks.

The only owner of transactions: each public method that writes is one. The order of calls that flows make is the
guarantee: a meter event is committed before it is claimed, and claimed before its request leaves (DESIGN 3, G1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec

from .. import machine
from ..core.decisions import Decision, Known, TraceKey, key_of
from ..core.periods import Lateness
from ..core.states import Claim, MeterOutcome
from ..core.types import Trace
from ..failpoints import Step
from . import gathering, rows, sending, storing
from .database import Database, Row
from .meter_windows import meter_windows_txn
from .owner import this_process
from .rows import RunRef

_encode = msgspec.json.Encoder().encode
DEFAULT_LATENESS = Lateness()


Decide = Callable[[Trace, Known | None], Decision]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What part of a source's time was read and settled, for one purpose."""

    source_key: str
    purpose: str
    from_us: int
    to_us: int

    def believed(self, now_us: int, lookback_us: int) -> Coverage:
        """What ends in the future was written by a wrong clock: the look-back is to be read again."""
        if self.to_us <= now_us:
            return self
        return replace(self, to_us=max(self.from_us, now_us - lookback_us))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ledger knew of some traces at a moment."""

    known: Mapping[TraceKey, Known]
    version: object


class Ledger:
    """One process's hold on the ledger."""

    def __init__(self, database: Database, *, migrate: bool = True) -> None:
        self._db = database
        self._claimed = sending.FIRST_LANE
        if migrate:
            database.migrate()
            self._make_id()
        else:
            database.require_current()

    def _make_id(self) -> None:
        with self._db.transaction(Step.PUT_FACT):
            if self.fact("ledger_id") is None:
                self._db.write("put_fact", name="ledger_id", value=machine.current().random_hex(8))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def fact(self, name: str) -> str | None:
        """A fact about the ledger itself, such as its id or when a check was last passed."""
        row = self._db.row("get_fact", name=name)
        return row["value"] if row else None

    def put_fact(self, name: str, value: str) -> None:
        """Store a fact."""
        with self._db.transaction(Step.PUT_FACT):
            self._db.write("put_fact", name=name, value=value)

    def chain_head(self, name: str) -> str:
        """The newest link of the chain over "entry" or "decision": how many lines, and the digest of the last."""
        head = self._db.row("chain_head", name=name)
        return f"{head['length']}:{head['digest']}"

    # --- runs and coverage

    def start_run(
        self, run_id: str, verb: str, now_us: int, card_digest: str, card_text: str, asked_by: str = ""
    ) -> None:
        """Note that a run begins, under which rate card, and who asked for it: '' is by hand."""
        with self._db.transaction(Step.START_RUN):
            run = {"run_id": run_id, "verb": verb, "now_us": now_us, "asked_by": asked_by}
            self._db.write("start_run", **run, owner=this_process())
            self._db.write("put_rate_card", digest=card_digest, body=card_text, now_us=now_us)

    def finish_run(
        self, run_id: str, summary: bytes, now_us: int, compared: Sequence[rows.PutComparedDay] = ()
    ) -> None:
        """Note how a run ended; of a reconciliation also what it found of each day."""
        with self._db.transaction(Step.FINISH_RUN):
            self._db.write_many("put_compared_day", compared)
            self._db.write("finish_run", run_id=run_id, summary=summary.decode(), now_us=now_us)

    def coverage(self, source_key: str, purpose: str) -> Coverage | None:
        """What was read and settled before, if anything."""
        row = self._db.row("coverage_of", source_key=source_key, purpose=purpose)
        return Coverage(source_key, purpose, row["from_us"], row["to_us"]) if row else None

    def put_coverage(self, coverage: Coverage) -> None:
        """Store what is read and settled now."""
        with self._db.transaction(Step.PUT_COVERAGE):
            self._put_coverage_txn(coverage)

    def forget_coverage(self, source_key: str, purpose: str) -> None:
        """Forget what was read, so that the next run reads it again."""
        with self._db.transaction(Step.FORGET_COVERAGE):
            self._db.write("delete_coverage", source_key=source_key, purpose=purpose)

    def _put_coverage_txn(self, coverage: Coverage) -> None:
        self._db.write(
            "put_coverage",
            source_key=coverage.source_key,
            purpose=coverage.purpose,
            from_us=coverage.from_us,
            to_us=coverage.to_us,
        )

    def rate_cards(self) -> dict[str, str]:
        """The text of every rate card that was used, by digest."""
        return {row["digest"]: row["body"] for row in self._db.rows("rate_cards")}

    # --- collect

    def known(self, traces: Iterable[Trace]) -> dict[TraceKey, Known]:
        """What the ledger knows of these traces."""
        return self.known_by_keys(_encode([key_of(trace) for trace in traces]).decode())

    def snapshot(self, traces: Iterable[Trace]) -> Snapshot:
        """What the ledger knows of these traces, and a stamp that tells whether others have written since."""
        version = self._db.version_of_data()
        return Snapshot(self.known(traces), version)

    def known_by_keys(self, keys: str) -> dict[TraceKey, Known]:
        """What the ledger knows of traces that a JSON list of [project_id, trace_id] names."""
        return {(row["project_id"], row["trace_id"]): _known(row) for row in self._db.rows("known", keys=keys)}

    @contextlib.contextmanager
    def transaction(self, step: Step) -> Iterator[Database]:
        """One transaction, for the modules of this package."""
        with self._db.transaction(step):
            yield self._db

    @contextlib.contextmanager
    def one_moment(self) -> Iterator[Database]:
        """One moment of the ledger to read, for the modules of this package and flows that only read."""
        with self._db.one_moment():
            yield self._db

    def billed_by_meter(self, key: TraceKey) -> dict[str, int]:
        """What one trace was billed on each meter, in micro-credits."""
        rows = self._db.rows("billed_by_meter", project_id=key[0], trace_id=key[1])
        return {row["meter"]: row["billed_micros"] for row in rows}

    def waived_by_meter(self, key: TraceKey) -> dict[str, int]:
        """What one trace was not billed on each meter, by decisions, in micro-credits."""
        rows = self._db.rows("waived_by_meter", project_id=key[0], trace_id=key[1])
        return {row["meter"]: row["waived_micros"] for row in rows}

    def record(
        self,
        run: RunRef,
        traces: Sequence[Trace],
        decide: Decide,
        coverage: Coverage | None = None,
        snapshot: Snapshot | None = None,
    ) -> list[Decision]:
        """Decide and store a batch in one transaction, so that no other process can bill the usage in between.

        `snapshot` is what was known a moment ago; it is used if nobody has written since.
        """
        with self._db.transaction(Step.RECORD):
            fresh = snapshot is not None and snapshot.version == self._db.version_of_data()
            known = snapshot.known if snapshot is not None and fresh else self.known(traces)
            decisions = storing.store_txn(self._db, run, (decide(trace, known.get(key_of(trace))) for trace in traces))
            if coverage is not None:
                self._put_coverage_txn(coverage)
        return decisions

    def held_stale(self, run: RunRef, project_id: str, after_trace_id: str, limit: int) -> list[str]:
        """Ids of a project's held traces that were decided under other settings than today's, after a given one."""
        rows = self._db.rows(
            "held_stale",
            decision_digest=run.decision_digest,
            run_id=run.run_id,
            project_id=project_id,
            after_trace_id=after_trace_id,
            limit=limit,
        )
        return [row["trace_id"] for row in rows]

    # --- send

    def gather(self, run: RunRef, limit: int, lateness: Lateness = DEFAULT_LATENESS) -> int:
        """Fix meter events for up to `limit` open buckets: value, identifier, timestamp, payload. How many buckets."""
        ledger_id = self.fact("ledger_id") or ""
        with self._db.transaction(Step.GATHER):
            return gathering.gather_txn(self._db, run, ledger_id, limit, lateness)

    def claim(self, now_us: int, limit: int, lateness: Lateness = DEFAULT_LATENESS) -> list[Claim]:
        """Take up to `limit` meter events for sending, one of each (customer, meter). Committed before any send.

        Customers take turns from one call to the next. What has become too late for its invoice, or too old, is held
        instead.
        """
        with self._db.transaction(Step.CLAIM):
            return self._claim_txn(now_us, limit, lateness)

    def _claim_txn(self, now_us: int, limit: int, lateness: Lateness) -> list[Claim]:
        claims = sending.claim_txn(self._db, now_us, limit, lateness, self._claimed)
        if claims:
            self._claimed = claims[-1].customer_id, claims[-1].meter
        return claims

    def settle(self, settled: Sequence[tuple[Claim, MeterOutcome]], now_us: int) -> None:
        """Store the meter's answers, each fenced by its attempt, and owe marks for what was accepted."""
        with self._db.transaction(Step.SETTLE):
            for claim, outcome in settled:
                sending.settle_txn(self._db, claim, outcome, now_us)

    def settle_and_claim(
        self,
        settled: Sequence[tuple[Claim, MeterOutcome]],
        now_us: int,
        limit: int,
        lateness: Lateness = DEFAULT_LATENESS,
    ) -> list[Claim]:
        """Settle, and claim what is next, in one transaction: the disk is waited for once."""
        with self._db.transaction(Step.SETTLE):
            for claim, outcome in settled:
                sending.settle_txn(self._db, claim, outcome, now_us)
            return self._claim_txn(now_us, limit, lateness)

    def reopen_rejected(self) -> int:
        """Offer rejected meter events again: they were not counted, and their cause may be mended. How many."""
        with self._db.transaction(Step.REOPEN_REJECTED):
            return self._db.write("reopen_rejected")

    def open_meter_events(self) -> dict[str, int]:
        """How many meter events are pending, sending, rejected or in doubt."""
        return {row["state"]: row["meter_events"] for row in self._db.rows("count_open")}

    def next_attempt_at_us(self) -> int | None:
        """When the next open meter event may be offered; 0 while another process sends one; None if none is open."""
        name = "next_attempt_beside_totals" if meter_windows_txn(self._db) else "next_attempt"
        row = self._db.row(name)
        return row["next_attempt_at_us"] if row else None

    # --- marks

    def owed_marks(self, project_id: str, after_trace_id: str, limit: int) -> list[Row]:
        """Traces of a project whose marks are owed, in order of their ids, after a given one."""
        return list(self._db.rows("owed_marks", project_id=project_id, after_trace_id=after_trace_id, limit=limit))

    def settle_marks(self, written: Sequence[TraceKey], refused: Mapping[TraceKey, str], now_us: int) -> None:
        """Store which marks were taken and which were refused, and why; the refused stay owed."""
        with self._db.transaction(Step.SETTLE_MARKS):
            self._db.write_many("mark_written", [rows.MarkWritten(now_us, *key) for key in written])
            self._db.write_many("mark_refused", [rows.MarkRefused(why, *key) for key, why in refused.items()])

    def untagged(self, project_id: str, after_trace_id: str, limit: int) -> list[Row]:
        """Unbilled traces of a project without a billing tag, in order of their ids, after a given one."""
        return list(self._db.rows("untagged", project_id=project_id, after_trace_id=after_trace_id, limit=limit))

    def tagged(self, keys: Sequence[TraceKey]) -> None:
        """Note that traces now carry the tag billing:pending."""
        with self._db.transaction(Step.TAG):
            self._db.write_many("tagged", [rows.TraceRef(*key) for key in keys])

    # --- reading

    def unpaid(self, run_id: str) -> dict[str, int]:
        """How many processed traces, last read by a run, have money that is "open", "in_doubt" or held for a reason."""
        return {row["money"]: row["traces"] for row in self._db.rows("unpaid", run_id=run_id)}

    def failures(self, run_id: str, limit: int) -> list[tuple[str, str]]:
        """Traces of a run whose money was not accepted, and the meter's last answer."""
        rows = self._db.rows("failures", run_id=run_id, limit=limit)
        return [(row["trace_id"], row["answer"] or "not sent yet") for row in rows]

    def query(self, name: str, /, **values: Any) -> Iterator[Row]:
        """Stream the rows of a reading statement, for explain, usage, held and balances."""
        return self._db.stream(name, **values)


def _known(row: Row) -> Known:
    return Known(
        timestamp_us=row["timestamp_us"],
        outcome=row["outcome"],
        reason=row["reason"],
        detail=row["detail"],
        result=row["result"],
        last_run_id=row["last_run_id"],
        decision_digest=row["decision_digest"],
        customer_id=row["customer_id"],
        found_by=row["found_by"],
        worth_micros=row["worth_micros"],
        billed_micros=row["billed_micros"],
        components=row["components"],
        attributes=row["attributes"],
        card_digest=row["card_digest"],
        mark_state=row["mark_state"],
        mark_written_at_us=row["mark_written_at_us"],
        cost_usd=Decimal(row["cost_usd"]) if row["cost_usd"] is not None else None,
        duration_s=Decimal(row["duration_s"]) if row["duration_s"] is not None else None,
        generation=row["generation"],
        waived_micros=row["waived_micros"],
    )
