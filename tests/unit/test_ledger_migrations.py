"""A ledger of an older schema is carried over whole, once, and is never changed by reading."""

from __future__ import annotations

import contextlib
import sqlite3
from importlib import resources

import pytest

from tallymark.errors import LedgerUnusable
from tallymark.ledger import open_ledger
from tallymark.ledger.sqlite import MIGRATIONS

TRACE = {
    "project_id": "p", "trace_id": "t1", "timestamp_us": 5, "outcome": "billed", "reason": "", "detail": "",
    "result": "processed", "first_run_id": "r", "last_run_id": "r", "read_at_us": 6, "decision_digest": "d",
    "customer_id": "cus_a", "found_by": "metadata", "worth_micros": 7, "billed_micros": 7, "card_digest": "c",
    "components": "{}", "environment": "default", "public": 0, "bookmarked": 1, "tags": "[]", "attributes": "{}",
    "marked": "", "mark_state": "owed", "generation": "traces", "root_seen": 1,
}  # fmt: skip
UNIT = {"project_id": "p", "trace_id": "t1", "unit_id": "", "cost_usd": "0.01", "duration_s": "1.5",
        "updated_at_us": 0, "read_at_us": 6}  # fmt: skip
OBSERVATION = {**UNIT, "trace_id": "t2", "unit_id": "o1", "cost_usd": "0.02", "duration_s": None, "tokens": 3,
               "start_us": 1, "end_us": 2}  # fmt: skip


@pytest.fixture
def old_ledger(tmp_path):
    """A ledger file as the first schema made it, with a trace that was read whole and an observation."""
    path = tmp_path / "ledger.sqlite3"
    script = resources.files("tallymark.ledger").joinpath("migrations", f"{MIGRATIONS[0]}.sqlite.sql").read_text()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        for table, row in (("trace", TRACE), ("unit", UNIT), ("unit", OBSERVATION)):
            insert(connection, table, row)
        connection.execute("pragma user_version = 1")
        connection.commit()
    return f"sqlite:///{path}"


def insert(connection, table, row):
    """One row by its columns."""
    places = ", ".join("?" for _ in row)
    connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", tuple(row.values()))


def test_traces_and_observations_are_carried_over(old_ledger):
    """Every column of a trace stays; the usage of a whole trace moves into its row."""
    with contextlib.closing(open_ledger(old_ledger)) as ledger:
        (trace,) = ledger._db._connection.execute("select * from trace").fetchall()
        units = [dict(row) for row in ledger.query("units_of", project_id="p", trace_id="t2")]
        whole = list(ledger.query("units_of", project_id="p", trace_id="t1"))

    assert {name: trace[name] for name in TRACE} == TRACE
    assert (trace["cost_usd"], trace["duration_s"]) == ("0.01", "1.5")
    assert [(unit["unit_id"], unit["cost_usd"], unit["tokens"]) for unit in units] == [("o1", "0.02", 3)]
    assert whole == []


def test_a_second_opening_changes_nothing(old_ledger):
    """Migrations are done once."""
    for _ in range(2):
        with contextlib.closing(open_ledger(old_ledger)) as ledger:
            assert ledger.known_by_keys('[["p", "t1"]]')["p", "t1"].billed_micros == 7


def test_reading_an_older_ledger_says_what_to_do(old_ledger):
    """`usage` and `explain` open the ledger for reading only."""
    with pytest.raises(LedgerUnusable, match="older tallymark; `tallymark sync` brings it up to date"):
        open_ledger(old_ledger, read_only=True)
