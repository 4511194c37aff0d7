"""Exports: tables of one moment as files, exact in every amount, private, whole or not there at all."""

import csv
import hashlib
import json
import stat
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import NOW_US
from databases import DATABASES
from ledger_lines import bill
from proved_ledgers import fill, quiet
from tallymark.commands.ledger import TABLES as NAMES
from tallymark.core.clock import HOUR_US, to_datetime
from tallymark.core.credits import ENTRY_MICROS_MAX
from tallymark.errors import ConfigError
from tallymark.flows.export import Wanted, export
from tallymark.flows.usage import COLUMNS, write_usage
from tallymark.ledger import open_ledger
from tallymark.ledger.export import TABLES
from tallymark.ledger.sqlite import MIGRATIONS
from tallymark.sandbox.clock import VirtualClock

pytestmark = pytest.mark.databases(*DATABASES)

CLOCK = VirtualClock(NOW_US)


@pytest.fixture
def used(ledger):
    """A ledger with every kind of line."""
    return fill(ledger)


@pytest.fixture
def folder(tmp_path):
    """Where exports go."""
    return tmp_path / "export"


def write(ledger, folder, form="csv", from_us=None, until_us=None, tables=()):
    return export(ledger, folder, Wanted(form, from_us, until_us, tables), CLOCK, quiet)


def rows_in(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_leaves_with_exact_amounts(used, folder, look):
    """Micro-credits as they are, and as credits with six decimals; times in UTC; what is unknown stays empty."""
    write(used, folder)

    entries = rows_in(folder / "entries.csv")
    expected = look("select entry_id, amount_micros, meter_event_id, decision_id from entry order by 1")
    got = [(e["entry_id"], e["amount_micros"], e["meter_event_id"] or None, e["decision_id"] or None) for e in entries]
    assert got == [(str(n), str(a), m, str(d) if d is not None else None) for n, a, m, d in expected]
    assert [entries[3][name] for name in ("amount_credits", "bucket_start", "created_at")] == [
        "-0.400000",
        "2026-11-23T11:00:00.000000Z",
        "2026-11-23T12:00:00.000000Z",
    ]
    assert len(rows_in(folder / "traces.csv")) == 9
    assert {row["state"] for row in rows_in(folder / "meter_events.csv")} >= {"accepted", "cancelled", "carried"}
    assert [row["verb"] for row in rows_in(folder / "decisions.csv")] == ["cancel"] * 3
    (balance,) = [row for row in rows_in(folder / "balances.csv") if row["customer_id"] == "cus_waived"]
    assert (balance["entries_credits"], balance["carry_micros"]) == ("0.000000", "0")


def test_parquet_says_the_same_in_types_that_can_be_added_up(used, folder, tmp_path):
    """64-bit integers, decimals of six places, and times in UTC; nothing passes through a float."""
    write(used, tmp_path / "csv")
    write(used, folder, "parquet")

    for table in TABLES:
        found = pq.read_table(folder / f"{table.name}.parquet")
        texts = rows_in(tmp_path / "csv" / f"{table.name}.csv")
        assert [{name: shown(value) for name, value in row.items()} for row in found.to_pylist()] == texts
    entries = pq.read_table(folder / "entries.parquet")
    kinds = {name: entries.schema.field(name).type for name in ("amount_micros", "amount_credits", "timestamp", "kind")}
    assert kinds == {
        "amount_micros": pa.int64(),
        "amount_credits": pa.decimal128(19, 6),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "kind": pa.string(),
    }


def shown(value):
    """A value of Parquet as the CSV has it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def test_the_largest_amounts_fit(ledger, folder):
    """Sums of the largest entries, up and down, as decimals."""
    for number in range(3):
        bill(ledger, f"t{number}", ENTRY_MICROS_MAX)
    bill(ledger, "down", -ENTRY_MICROS_MAX, customer="cus_2")
    write(ledger, folder, "parquet")

    balances = pq.read_table(folder / "balances.parquet").to_pylist()

    assert [row["entries_credits"] for row in balances] == [Decimal(3 * 999_999_999), Decimal(-999_999_999)]


def test_text_that_is_awkward_in_csv_comes_back_as_it_was(ledger, folder):
    """Quotes, commas, line ends and letters of every kind in a customer's id."""
    customer = 'cus "1",\n2\r\né漢'
    bill(ledger, "t1", customer=customer)

    write(ledger, folder)

    assert rows_in(folder / "entries.csv")[0]["customer_id"] == customer


def test_the_manifest_says_what_the_files_are(used, folder):
    """Who made them, of which ledger and which state of it, and how to tell that a file is whole."""
    returned = write(used, folder, from_us=0)

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == returned
    assert manifest["ledger_id"] == used.fact("ledger_id")
    assert (manifest["schema"], manifest["from"], manifest["until"]) == (
        len(MIGRATIONS),
        "1970-01-01T00:00:00.000Z",
        None,
    )
    assert manifest["exported_at"] == "2026-11-23T12:00:00.000Z"
    assert (manifest["entries"][:3], manifest["decisions"][:2]) == ("15:", "3:")
    assert [file["table"] for file in manifest["files"]] == [table.name for table in TABLES] == list(NAMES)
    for file in manifest["files"]:
        content = (folder / file["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert content.decode().count("\n") == file["rows"] + 1


def test_a_range_of_time_narrows_what_has_a_time(used, folder):
    """From inclusive, until exclusive; a balance is always of the whole ledger."""
    start_us = NOW_US - NOW_US % HOUR_US - HOUR_US
    manifest = write(used, folder, from_us=start_us, until_us=start_us + HOUR_US)

    counts = {file["table"]: file["rows"] for file in manifest["files"]}
    # One trace is of an hour before; what was rebooked is of the hour after.
    assert counts == {"entries": 12, "meter_events": 8, "decisions": 0, "traces": 8, "balances": 7}
    assert all(row["timestamp"] >= to_datetime(start_us).strftime("%FT%T") for row in rows_in(folder / "entries.csv"))


def test_only_the_tables_that_were_asked_for_are_written(used, folder):
    """And the manifest."""
    write(used, folder, tables=("entries", "balances"))

    assert sorted(path.name for path in folder.iterdir()) == ["balances.csv", "entries.csv", "manifest.json"]


def test_an_export_is_its_owners_alone(used, folder):
    """Customer ids and usage are nobody else's business."""
    write(used, folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_nothing_is_overwritten(used, folder):
    """Not even an empty folder."""
    folder.mkdir()

    with pytest.raises(ConfigError, match="export is there already, and nothing is overwritten"):
        write(used, folder)


def test_an_export_that_fails_leaves_nothing(used, folder, monkeypatch):
    """Neither under its name nor beside it."""

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tallymark.flows.export.sha256_of", full)
    with pytest.raises(ConfigError, match=r"export cannot be written: No space left on device; free space"):
        write(used, folder)

    assert [path.name for path in folder.parent.iterdir() if "export" in path.name] == []


def test_one_moment_is_exported_while_others_write(used, folder, ledger_url, monkeypatch):
    """Between two tables another process bills; the sums of what is exported agree."""
    other = open_ledger(ledger_url)
    stream = type(used._db).stream

    def write_meanwhile(database, name, /, **values):
        bill(other, f"meanwhile {name}", 3_300_000)
        return stream(database, name, **values)

    monkeypatch.setattr(type(used._db), "stream", write_meanwhile)
    manifest = write(used, folder)
    monkeypatch.undo()
    other.close()

    entered = sum(int(row["amount_micros"]) for row in rows_in(folder / "entries.csv"))
    assert entered == sum(int(row["entries_micros"]) for row in rows_in(folder / "balances.csv"))
    assert manifest["entries"].startswith("15:")


def test_parquet_without_its_library_says_what_to_install(used, folder, monkeypatch, tmp_path):
    """Before anything is read or written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigError, match=r"Parquet needs pyarrow: pip install 'tallymark\[bulk\]', or .* csv"):
        write(used, folder, "parquet")
    with pytest.raises(ConfigError, match="Parquet needs pyarrow"):
        write_usage(tmp_path / "usage.parquet", "parquet", [])

    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite3" not in path.name) == []


def test_a_long_table_is_written_in_batches(ledger, folder, monkeypatch):
    """Memory does not grow with it; the number of row groups tells."""
    monkeypatch.setattr("tallymark.tables.ROWS", 10)
    for number in range(25):
        bill(ledger, f"t{number}", 1)
    write(ledger, folder, "parquet")

    found = pq.ParquetFile(folder / "entries.parquet")
    assert [found.metadata.row_group(place).num_rows for place in range(found.num_row_groups)] == [10, 10, 5]
    found.close()


# ---- usage

USAGE = [
    {"key": "cus_1", "traces": 3, "credits": "12.345678", "cost_usd": "0.000000000001", "revenue_usd": "999999999.5",
     "margin_usd": "-0.1"},
]  # fmt: skip


def test_usage_leaves_as_parquet(tmp_path):
    """Amounts as decimals of twelve places."""
    path = tmp_path / "usage.parquet"
    write_usage(path, "parquet", USAGE)

    found = pq.read_table(path)

    assert found.column_names == list(COLUMNS)
    assert found.to_pylist() == [
        {name: Decimal(value) if name.endswith(("usd", "credits")) else value for name, value in USAGE[0].items()}
    ]
    assert found.schema.field("cost_usd").type == pa.decimal128(38, 12)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_usage_leaves_as_csv(tmp_path):
    """A file of yesterday is replaced by the one of today, whole."""
    path = tmp_path / "usage.csv"
    path.write_text("of yesterday")
    write_usage(path, "csv", USAGE)

    assert rows_in(path) == [{name: str(value) for name, value in USAGE[0].items()}]
    assert [each.name for each in tmp_path.iterdir()] == ["usage.csv"]


def test_usage_that_cannot_be_written_says_where(tmp_path):
    """A folder that is not there."""
    with pytest.raises(ConfigError, match=r"missing/usage.csv cannot be written: No such file or directory"):
        write_usage(tmp_path / "missing" / "usage.csv", "csv", USAGE)
