"""`tallymark reconcile` as people and scripts run it: exit statuses, JSON, and the files it writes."""

import csv
import stat
from decimal import Decimal

import pytest

from tallymark.core.balance import Cause
from worlds import open_world


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """A world whose story was synced once."""
    with open_world(tmp_path_factory.mktemp("synced"), traces=300) as world:
        assert world.run("sync").status == 1
        yield world


def test_agreement_ends_with_0_and_says_so(synced):
    """Held traces and the carry are explained; people see the way from Langfuse to Stripe."""
    ended = synced.run("reconcile")

    assert ended.status == 0, ended.err
    assert "every difference has a cause" in ended.out
    assert "credits in Langfuse, rated again" in ended.out and "counted by Stripe" in ended.out
    assert "tallymark held list" in ended.out


def test_json_adds_up_to_stripes_own_tally(synced):
    """The total is what the sandbox counted."""
    found = synced.run("reconcile", "--json").json

    counted = sum(synced.stripe.tally().values())
    assert Decimal(found["total"]["stripe"]) == counted
    differences = sum(map(Decimal, found["total"]["differences"].values()))
    assert Decimal(found["total"]["langfuse"]) + differences == counted
    assert found["explained"] is True


def test_a_report_is_private_and_complete(synced, tmp_path):
    """The page is a whole document without anything from elsewhere; the table has a column for each cause."""
    page, table = tmp_path / "october.html", tmp_path / "october.csv"

    assert synced.run("reconcile", "--report", page).status == 0
    assert synced.run("reconcile", "--report", table).status == 0

    assert stat.S_IMODE(page.stat().st_mode) == stat.S_IMODE(table.stat().st_mode) == 0o600
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "Signature" in text
    assert "http" not in text and "<script" not in text
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert sum(Decimal(row["stripe"] or "0") for row in rows) == sum(synced.stripe.tally().values())
    for row in rows:
        differences = sum(Decimal(row[cause]) for cause in Cause)
        assert Decimal(row["langfuse"]) + differences == Decimal(row["stripe"] or row["accepted"])


def test_a_report_of_another_kind_is_refused_before_anything_is_read(synced, tmp_path):
    """Nobody waits for a comparison that cannot be written."""
    before = synced.langfuse.counts()

    ended = synced.run("reconcile", "--report", tmp_path / "october.docx")

    assert ended.status == 2
    assert "must end with .html or .csv" in ended.err
    assert synced.langfuse.counts() == before


def test_a_report_that_cannot_be_written_is_named(synced, tmp_path):
    """Exit 2 and a sentence."""
    ended = synced.run("reconcile", "--report", tmp_path / "missing" / "october.html")

    assert ended.status == 2
    assert "cannot be written" in ended.err and "Traceback" not in ended.err


def test_a_range_that_ends_before_it_begins_is_refused(synced):
    """As everywhere."""
    assert synced.run("reconcile", "--from", "1h", "--to", "2h").status == 2


def test_what_is_unexplained_ends_with_1(tmp_path):
    """Stripe counted something that this ledger never sent."""
    with open_world(tmp_path, traces=50) as world:
        world.run("sync")
        meter_event = world.stripe.meter_events()[0]
        meter_event.value += 3

        ended = world.run("reconcile", "--json")

    assert ended.status == 1
    assert ended.json["total"]["differences"]["unexplained_stripe"] == "3.000000"
