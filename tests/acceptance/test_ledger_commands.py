"""`tallymark ledger` as scripts run it: exit statuses, JSON, and a ledger that is in use meanwhile."""

import contextlib
import csv
import itertools
import os
import sqlite3
import threading

import pytest

from tallymark.clock import SystemClock
from tallymark.sandbox.stripe import SandboxStripe
from worlds import open_world, until


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """A world whose story was synced once."""
    with open_world(tmp_path_factory.mktemp("synced"), traces=300) as world:
        assert world.run("sync").status == 1
        yield world


def at(path):
    """The settings that name another ledger."""
    return {"BILLING_LEDGER_URL": f"sqlite:///{path}"}


def test_verify_ends_with_0_if_everything_holds(synced):
    """And prints the heads to keep."""
    ended = synced.run("ledger", "verify")
    found = synced.run("ledger", "verify", "--json").json

    assert (ended.status, ended.err) == (0, "")
    assert f"entries {found['entries']}, decisions 0:" in ended.out
    assert (found["holds"], found["findings"]) == (True, [])
    assert {each["check"] for each in found["checks"]} >= {"chain of entries", "meter events", "traces"}


def test_verify_ends_with_1_if_something_does_not(synced, tmp_path):
    """With the row, what is wrong and what to do; and with the head that was noted, if it is another ledger's."""
    head = synced.run("ledger", "verify", "--json").json["entries"]
    copy = tmp_path / "copy.sqlite3"
    assert synced.run("ledger", "backup", copy).status == 0
    database = sqlite3.connect(copy)
    database.execute("update trace set billed_micros = billed_micros + 1 where rowid = 7 and outcome = 'billed'")
    database.execute("update carry set amount_micros = amount_micros + 1")
    database.commit()
    database.close()

    ended = synced.run("ledger", "verify", **at(copy))
    assert ended.status == 1
    assert "what does not hold" in ended.out
    assert "what to do: nothing in tallymark writes this" in ended.out
    assert synced.run("ledger", "verify", "--expect", head).status == 0
    assert synced.run("ledger", "verify", "--expect", "1:" + "0" * 64).status == 1
    assert synced.run("ledger", "verify", "--expect-decisions", "1:" + "0" * 64).status == 1
    assert synced.run("ledger", "verify", "--expect", "rubbish").status == 2


def test_verify_ends_with_4_if_there_is_no_ledger(synced, tmp_path):
    """As every command that only reads."""
    ended = synced.run("ledger", "verify", "--json", **at(tmp_path / "none.sqlite3"))

    assert (ended.status, ended.json["exit_status"]) == (4, 4)
    assert "there is no ledger at" in ended.err


def test_a_ledger_moves_by_backup_and_restore(synced, tmp_path):
    """The words say that it is the same ledger; the objects, which file and which heads."""
    file, new = tmp_path / "backup.sqlite3", at(tmp_path / "new.sqlite3")
    backed_up = synced.run("ledger", "backup", file, "--json").json
    restored = synced.run("ledger", "restore", file, "--json", **new).json
    again = synced.run("ledger", "restore", file, **new)
    words = synced.run("ledger", "restore", file, **at(tmp_path / "newer.sqlite3"))

    assert backed_up == restored
    assert backed_up["bytes"] == file.stat().st_size
    assert backed_up["entries"] == synced.run("ledger", "verify", "--json", **new).json["entries"]
    assert (again.status, "is in use" in again.err) == (2, True)
    assert f"It is the ledger {backed_up['ledger_id']}" in words.out
    assert "backed up to" in synced.run("ledger", "backup", tmp_path / "another.sqlite3").out


def test_an_export_is_written(synced, tmp_path):
    """As CSV unless Parquet is asked for; the object names the folder and what is in it."""
    found = synced.run("ledger", "export", "--to", tmp_path / "out", "--json").json
    parquet = synced.run("ledger", "export", "--to", tmp_path / "out2", "--format", "parquet", "--table", "entries")
    empty = synced.run("ledger", "export", "--to", tmp_path / "x", "--from", "2026-11-02", "--until", "2026-11-01")

    assert found["folder"] == str(tmp_path / "out")
    with (tmp_path / "out" / "entries.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == found["files"][0]["rows"] > 100
    assert (parquet.status, "written to" in parquet.out) == (0, True)
    assert sorted(path.name for path in (tmp_path / "out2").iterdir()) == ["entries.parquet", "manifest.json"]
    assert (empty.status, "before it begins" in empty.err) == (2, True)
    assert synced.run("ledger", "export", "--to", tmp_path / "out").status == 2


def test_usage_goes_into_a_file(synced, tmp_path):
    """Parquet must, CSV may, a table cannot."""
    file = tmp_path / "usage.parquet"
    assert synced.run("usage", "--format", "parquet", "--output", file).out == f"wrote {file}\n"
    as_json = synced.run("usage", "--format", "csv", "--output", tmp_path / "u.csv", "--json").json

    assert file.read_bytes()[:4] == b"PAR1"
    assert as_json == {
        "written": str(tmp_path / "u.csv"),
        "rows": len((tmp_path / "u.csv").read_text().splitlines()) - 1,
    }
    assert synced.run("usage", "--format", "parquet").status == 2
    assert synced.run("usage", "--output", file).status == 2


class GatedStripe(SandboxStripe):
    """A Stripe that answers so many meter events and then waits for a gate to open."""

    def __init__(self, answered):
        super().__init__(clock=SystemClock())
        self.add_meter("credits")
        self.gate, self.is_waiting = threading.Event(), threading.Event()
        self._answered, self._numbers = answered, itertools.count(1)

    def handle(self, request):
        if request.path == "/v1/billing/meter_events" and next(self._numbers) > self._answered:
            self.is_waiting.set()
            assert self.gate.wait(60)
        return super().handle(request)


def test_a_backup_in_the_middle_of_a_sync_verifies(tmp_path):
    """While meter events are in flight a backup is taken: it is one moment, and the sync goes on and bills exactly."""
    stripe, file = GatedStripe(40), tmp_path / "backup.sqlite3"
    with open_world(tmp_path, traces=400, stripe=stripe) as world:
        sync = world.start("sync", "--json")
        until(stripe.is_waiting.is_set, sync)
        assert world.run("ledger", "backup", file).status == 0
        assert world.run("ledger", "verify", **at(file)).status == 0
        with contextlib.closing(sqlite3.connect(file)) as database:
            states = dict(database.execute("select state, count(*) from meter_event group by state"))
        assert states["sending"] > 0
        assert stripe.meter_events()
        stripe.gate.set()

        assert sync.end().status == 1
        assert world.billed() == dict(world.expected.micros)


DAMAGED = {"cut": lambda content: content[: len(content) // 2], "notes": lambda content: b"notes" * 1000}


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize(
    "arguments",
    [
        ("sync",),
        ("sync", "--dry-run"),
        ("backfill",),
        ("explain", "t"),
        ("held", "list"),
        ("usage",),
        ("ledger", "verify"),
        ("ledger", "backup", "b"),
        ("ledger", "restore", "damaged"),
        ("ledger", "export", "--to", "e"),
    ],
    ids=" ".join,
)
def test_a_damaged_ledger_ends_every_command_with_4(synced, how, arguments):
    """One sentence for people, one object for scripts, and no traceback."""
    path = synced.folder / "damaged"
    path.write_bytes(DAMAGED[how](synced.ledger.read_bytes()))

    ended = synced.run(*arguments, "--json", **at(path if "restore" not in arguments else synced.folder / "new"))

    assert (ended.status, ended.json["exit_status"]) == (4, 4)
    assert len([line for line in ended.err.splitlines() if line.startswith("tallymark: the ")]) == 1
    assert "Traceback" not in ended.err
    assert not (synced.folder / "b").exists()
    assert not (synced.folder / "e").exists()


def test_a_pipe_is_refused_and_not_waited_for(synced, tmp_path):
    """Nobody writes into it, and a command that opened it would never end."""
    pipe = tmp_path / "ledger.sqlite3"
    os.mkfifo(pipe)

    ended = synced.run("ledger", "backup", tmp_path / "b.sqlite3", **at(pipe))

    assert (ended.status, "is a pipe or a device" in ended.err) == (4, True)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite3"]
