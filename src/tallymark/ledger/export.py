"""The tables of an export: which rows of the ledger, as which columns. No prompt is in them, as none is in the ledger.

A column `X_us` leaves as the time `X`, and `X_micros` as itself and as `X_credits`, exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..core.columns import Column, Kind
from .database import Database


@dataclass(frozen=True, slots=True)
class Table:
    """A table of an export: the statement that reads it, and the ledger's columns in order, `name` or `name:kind`."""

    name: str
    statement: str
    words: str

    @property
    def columns(self) -> list[Column]:
        """The columns that leave."""
        return [column for word in self.words.split() for column in _columns(word)]

    def rows(self, db: Database, from_us: int, until_us: int) -> Iterator[list[Any]]:
        """Rows of from_us <= time < until_us, as values in the order of the columns. Balances have no time."""
        sources = [_source(word) for word in self.words.split() for _ in _columns(word)]
        bounds = {} if self.statement == "balances" else {"from_us": from_us, "until_us": until_us}
        for row in db.stream(self.statement, **bounds):
            yield [row[source] for source in sources]


def _source(word: str) -> str:
    return word.partition(":")[0]


def _columns(word: str) -> list[Column]:
    name, _, kind = word.partition(":")
    if name.endswith("_us"):
        return [Column(name.removesuffix("_us"), Kind.TIME)]
    if name.endswith("_micros"):
        return [Column(name, Kind.INTEGER), Column(f"{name.removesuffix('_micros')}_credits", Kind.CREDITS)]
    return [Column(name, Kind(kind or "text"))]


TABLES = (
    Table(
        "entries",
        "export_entries",
        "entry_id:integer project_id trace_id meter sequence:integer kind customer_id amount_micros timestamp_us "
        "bucket_start_us bucket_end_us bucket_key card_digest components run_id created_at_us meter_event_id "
        "decision_id:integer digest",
    ),
    Table(
        "meter_events",
        "export_meter_events",
        "meter_event_id customer_id meter bucket_start_us bucket_end_us bucket_key revision:integer timestamp_us "
        "credits:integer entries_micros carry_before_micros carry_after_micros payload state reason attempt:integer "
        "reissue:integer unanswered_since_us answered_at_us answer reported_at_us released_by:integer "
        "created_at_us run_id",
    ),
    Table(
        "decisions",
        "export_decisions",
        "decision_id:integer at_us who verb subject_kind subject amount_micros why detail digest",
    ),
    Table(
        "traces",
        "export_traces",
        "project_id trace_id timestamp_us outcome reason detail customer_id found_by worth_micros billed_micros "
        "waived_micros cost_usd duration_s card_digest components name user_id session_id environment attributes "
        "mark_state mark_written_at_us mark_problem generation read_at_us deleted_at_us last_run_id",
    ),
    Table(
        "balances",
        "balances",
        "customer_id meter entries_micros open_micros accepted_credits:integer owed_credits:integer carry_micros",
    ),
)
