"""A dry run reads and rates, and writes nothing anywhere: no ledger, no Stripe, no Langfuse."""

import pytest

from tallymark.sandbox.process import Options, start
from worlds import Child, environment

COUNTED = ("fetched", "processed", "skipped", "held", "failed", "adjusted", "healed", "untagged", "credits")


@pytest.fixture
def run(tmp_path, sandbox):
    """A function that runs a command against the sandbox, with a ledger of the test."""
    settings = {**sandbox.environment(), "BILLING_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}"}
    return lambda *arguments: Child(arguments, environment(tmp_path, settings), tmp_path).end()


@pytest.fixture
def sandbox():
    """A sandbox in a process of its own, with a story."""
    with start(Options(story=300)) as sandbox:
        yield sandbox


def received(sandbox):
    """Every request that the sandbox's Langfuse got, as lines that begin with the method; and Stripe's counts."""
    return sandbox.get("/sandbox/requests", "langfuse")["requests"], sandbox.counts("stripe")


def test_a_dry_run_writes_nothing_and_says_what_the_sync_then_does(run, sandbox, tmp_path):
    """Reads only; no ledger; the same counts as the real run that follows."""
    dry = run("sync", "--dry-run", "--json")

    lines, stripe = received(sandbox)
    assert {line.split()[0] for line in lines} == {"GET"}
    assert stripe == {}
    assert sandbox.tally() == {}
    assert list(tmp_path.glob("ledger*")) == []

    real = run("sync", "--json")
    assert (dry.status, dry.json["dry_run"], real.json["dry_run"]) == (real.status, True, False)
    assert {name: dry.json[name] for name in COUNTED} == {name: real.json[name] for name in COUNTED}
    assert (
        dry.json["meter_events"]["accepted"]
        == real.json["meter_events"]["accepted"]
        == sandbox.counts("stripe")["POST /v1/billing/meter_events"]
    )


def test_a_dry_run_leaves_the_ledger_that_is_there_as_it_is(run, sandbox, tmp_path):
    """Not a byte, in the file or in its journal; what was billed is known to the dry run."""
    run("sync")
    before = contents_of(tmp_path)
    tally = sandbox.tally()

    dry = run("sync", "--dry-run", "--full", "--json").json

    assert contents_of(tmp_path) == before
    assert (dry["processed"], dry["credits"], sandbox.tally()) == (0, "0.000000", tally)


def contents_of(folder):
    """The ledger's file and its journal; the third file of SQLite, -shm, only holds the locks of those who read."""
    journal = folder / "ledger.sqlite3-wal"
    return (folder / "ledger.sqlite3").read_bytes(), journal.read_bytes() if journal.exists() else b""


def test_a_dry_backfill_tags_nothing(run, sandbox, tmp_path):
    """It says how many it would tag, and that they are not tagged yet."""
    dry = run("backfill", "--dry-run", "--json").json

    lines, _ = received(sandbox)
    assert {line.split()[0] for line in lines} == {"GET"}
    assert list(tmp_path.glob("ledger*")) == []
    assert dry["tagged"] > 0
    assert dry["tag_filtering_safe"] is False
    assert any("dry run" in reason for reason in dry["why_not"])
