"""Every command on a ledger in PostgreSQL, as its users run it; and a ledger that moves between the databases."""

import json

import pytest

from databases import POSTGRES, ask, everything, fresh_ledgers, tables_of
from postgres_server import PASSWORD, ROLE
from worlds import open_world

SECRETS = (PASSWORD, "p%40ss")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Addresses of ledgers in PostgreSQL, by name."""
    with fresh_ledgers(POSTGRES, tmp_path_factory.mktemp("ledgers")) as address:
        yield address


@pytest.fixture(scope="module")
def synced(tmp_path_factory, addresses):
    """A world whose story was synced once, with what that said."""
    with open_world(tmp_path_factory.mktemp("synced"), traces=300, ledger_url=addresses("synced")) as world:
        ended = world.run("sync", "--json")
        assert (ended.status, ended.json["failed"]) == (1, 0), ended.err
        yield world


def run(world, *arguments, statuses=(0,), **settings):
    """Run a command, which must end so, and shows no password of the ledger."""
    ended = world.run(*arguments, **settings)
    assert ended.status in statuses, ended.err or ended.out
    for secret in SECRETS:
        assert secret not in ended.out + ended.err
    return ended


def sync(world, *arguments, **settings):
    """Sync; 1 tells of traces that are held."""
    return run(world, "sync", "--json", *arguments, statuses=(0, 1), **settings).json


def objects(ended):
    """What JSON a command printed: one object, or one a line."""
    return [json.loads(line) for line in ended.out.splitlines()]


def test_a_sync_bills_what_it_should(synced):
    """Exactly, and a second one finds nothing."""
    assert synced.billed() == dict(synced.expected.micros)
    assert sync(synced, "--full")["meter_events"]["accepted"] == 0
    assert synced.marked() == synced.owed_marks()


def test_a_dry_run_says_what_the_sync_then_does(tmp_path, addresses):
    """On a copy in a file: the schema stays empty, and the folder for copies too."""
    with open_world(tmp_path, traces=150, ledger_url=addresses("dry")) as world:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        dry = sync(world, "--dry-run", TMPDIR=str(scratch))
        assert tables_of(addresses("dry")) == []
        assert list(scratch.iterdir()) == []
        real = sync(world)
        before = everything(addresses("dry"))
        again = sync(world, "--dry-run", "--full")

        assert [dry[name] for name in ("processed", "held", "credits")] == [
            real[name] for name in ("processed", "held", "credits")
        ]
        assert again["processed"] == 0
        assert everything(addresses("dry")) == before


def test_what_was_billed_is_told(synced):
    """explain, usage, held."""
    ((trace_id,),) = synced.ask("select max(trace_id) from trace where outcome = 'billed'")
    assert "accepted" in run(synced, "explain", trace_id).out
    assert len(run(synced, "usage").out.splitlines()) > 20
    assert "no_customer" in run(synced, "held", "list", statuses=(0, 1)).out


def test_what_is_held_is_decided(synced):
    """A decision is a line of the ledger."""
    run(synced, "held", "waive", "--reason", "unpriced", "--all", "--why", "a test", "--yes", "--json")
    run(synced, "held", "release", "--user", "user-312", "--customer", "cus_held", "--why", "a test", "--yes", "--json")

    assert synced.ask("select verb from decision where who <> 'tallymark'")


def test_reconcile_finds_no_difference_that_it_cannot_explain(synced):
    """It reads Langfuse again into a copy of the ledger."""
    found = run(synced, "reconcile", "--json", statuses=(0, 1))

    assert '"unexplained": 0' in json.dumps(objects(found)) or found.status == 0, found.out


def test_doctor_finds_the_ledger_in_order(synced):
    """It can be opened and written; and the server of the tests does not wait for its disk, which is told."""
    found = run(synced, "doctor", "--json", statuses=(0, 1)).json["findings"]
    told = {each["detail"].partition(":")[0]: each["status"] for each in found if each["check"] == "ledger"}

    assert told["can be opened and written"] == "ok"
    assert {told[f"{name} is off on its server"] for name in ("fsync", "full_page_writes")} == {"warning"}
    assert "synchronous_commit is off on its server" not in told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://{ROLE}:p%40ss@127.0.0.1:1/ledger", "cannot be reached"),
        (f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:1/ledger", "percent-encoded"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named(synced, url, words):
    """By every command, in a sentence that says what to do and shows no password."""
    for command in ("sync", "usage", "doctor"):
        ended = run(synced, command, statuses=(2, 4), BILLING_LEDGER_URL=url)

        assert words in ended.out + ended.err
        assert "Traceback" not in ended.err


def test_a_ledger_is_verified_and_exported(synced, tmp_path):
    """As a ledger in a file is."""
    assert run(synced, "ledger", "verify", "--json").json["holds"]
    exported = run(synced, "ledger", "export", "--to", tmp_path / "out", "--json").json
    rows = {file["table"]: file["rows"] for file in exported["files"]}
    assert rows["entries"] == synced.ask("select count(*) from entry")[0][0] > 100


def test_a_ledger_moves_from_server_to_file_and_back(synced, addresses, tmp_path):
    """A backup is a file; restored, it is the same ledger in either database, row for row, and goes on."""
    file, restored = tmp_path / "backup.sqlite3", addresses("restored")
    sync(synced, "--full")
    backed_up = run(synced, "ledger", "backup", file, "--json").json
    again = run(synced, "ledger", "restore", file, "--json", BILLING_LEDGER_URL=restored).json
    kept = {table: rows for table, rows in everything(addresses("synced")).items() if table != "schema_version"}

    assert backed_up == again
    assert everything(f"sqlite:///{file}") == kept
    assert {table: rows for table, rows in everything(restored).items() if table != "schema_version"} == kept
    assert "is in use" in run(synced, "ledger", "restore", file, statuses=(2,), BILLING_LEDGER_URL=restored).err
    tally = synced.stripe.tally()
    for url in (restored, f"sqlite:///{file}"):
        assert sync(synced, "--full", BILLING_LEDGER_URL=url)["meter_events"]["accepted"] == 0
    assert synced.stripe.tally() == tally


def test_a_backup_that_was_edited_is_not_restored(synced, addresses, tmp_path):
    """Nothing of it is left on the server."""
    file, restored = tmp_path / "backup.sqlite3", addresses("refused")
    run(synced, "ledger", "backup", file)
    ask(f"sqlite:///{file}", "update trace set billed_micros = billed_micros + 1 where outcome = 'billed'")

    ended = run(synced, "ledger", "restore", file, statuses=(4,), BILLING_LEDGER_URL=restored)

    assert "does not verify" in ended.err
    assert tables_of(restored) == []


def test_what_was_tampered_with_is_found(synced, addresses, tmp_path):
    """Whoever may write to the server may edit; the chain and the sums show it."""
    file, tampered = tmp_path / "backup.sqlite3", addresses("tampered")
    run(synced, "ledger", "backup", file)
    run(synced, "ledger", "restore", file, BILLING_LEDGER_URL=tampered)
    ask(tampered, "update carry set amount_micros = amount_micros + 1")

    found = run(synced, "ledger", "verify", "--json", statuses=(1,), BILLING_LEDGER_URL=tampered).json

    assert {each["check"] for each in found["checks"] if each["findings"]} == {"carries", "balances"}
