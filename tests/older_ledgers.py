"""Ledgers as older versions of tallymark left them: every schema that has landed, with a story that adds up."""

import contextlib
import sqlite3
from importlib import resources
from unittest import mock

from tallymark.core.clock import HOUR_US, parse_time
from tallymark.core.ids import meter_event_id
from tallymark.ledger import sqlite
from tallymark.ledger.sqlite import MIGRATIONS

START_US = parse_time("2026-11-20T10:00:00Z")
LEDGER_ID = "0badcafe"
CARD = (
    'name = "standard"\n\n[[rule]]\nfrom = "beginning"\ncredit_price_usd = "0.00004"\ncompute_usd_per_minute = "0.05"\n'
)
# What parse_card makes of the text above.
CARD_DIGEST = "bef3afa8cdcc184d"
BUCKET = {"customer_id": "cus_1", "meter": "credits", "bucket_start_us": START_US, "bucket_end_us": START_US + HOUR_US,
          "bucket_key": ""}  # fmt: skip
METER_EVENT_ID = meter_event_id(LEDGER_ID, **BUCKET, revision=0)

ROWS = [
    ("fact", {"name": "ledger_id", "value": LEDGER_ID}),
    ("run", {"run_id": "run-1", "verb": "sync", "started_at_us": START_US}),
    ("rate_card", {"digest": CARD_DIGEST, "body": CARD, "first_used_at_us": START_US}),
    ("trace", {
        "project_id": "p", "trace_id": "t1", "timestamp_us": START_US + 5, "outcome": "billed", "reason": "",
        "detail": "", "result": "processed", "first_run_id": "run-1", "last_run_id": "run-1", "read_at_us": START_US,
        "decision_digest": "d", "customer_id": "cus_1", "found_by": "metadata", "worth_micros": 2_500_000,
        "billed_micros": 2_500_000, "card_digest": CARD_DIGEST, "components": "{}", "environment": "default",
        "public": 0, "bookmarked": 0, "tags": "[]", "attributes": "{}", "marked": "",
        "mark_state": "owed", "generation": "traces", "root_seen": 1,
    }),
    ("meter_event", {
        **BUCKET, "meter_event_id": METER_EVENT_ID, "revision": 0, "timestamp_s": START_US // 1_000_000, "credits": 2,
        "entries_micros": 2_500_000, "carry_before_micros": 0, "carry_after_micros": 500_000, "payload": "{}",
        "state": "accepted", "attempt": 1, "next_attempt_at_us": 0, "created_at_us": START_US, "run_id": "run-1",
    }),
    ("attempt", {
        "meter_event_id": METER_EVENT_ID, "attempt": 1, "idempotency_key": "k", "sent_at_us": START_US,
        "outcome": "accepted",
    }),
    ("carry", {"customer_id": "cus_1", "meter": "credits", "amount_micros": 500_000}),
    ("entry", {
        **BUCKET, "entry_id": 1, "project_id": "p", "trace_id": "t1", "sequence": 0, "kind": "charge",
        "amount_micros": 2_500_000, "timestamp_us": START_US + 5, "card_digest": CARD_DIGEST, "components": "{}",
        "run_id": "run-1", "created_at_us": START_US, "meter_event_id": METER_EVENT_ID,
    }),
]  # fmt: skip


def make_older(path, schema):
    """Write a ledger file of an older schema, by its number, and migrate it that far; one trace was billed in it."""
    first = resources.files("tallymark.ledger").joinpath("migrations", f"{MIGRATIONS[0]}.sqlite.sql").read_text("utf-8")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(first)
        for table, row in ROWS:
            places = ", ".join("?" for _ in row)
            database.execute(f"insert into {table} ({', '.join(row)}) values ({places})", tuple(row.values()))
        database.execute("pragma user_version = 1")
    with mock.patch.object(sqlite, "MIGRATIONS", MIGRATIONS[:schema]):
        older = sqlite.SqliteDatabase(str(path))
        older.migrate()
        older.close()
    return path
