"""Backups and restores that are killed: no backup under its name, no ledger half filled, and a second try works."""

import signal
import subprocess
import sys

import pytest

from databases import DATABASES
from tallymark.failpoints import Side, Step
from worlds import environment, open_world

pytestmark = pytest.mark.databases(*DATABASES)
# Runs a command in a process that kills itself where a step is reached.
ARMED = """
import os, signal, sys
from tallymark import cli, failpoints

step, side = sys.argv.pop(1), sys.argv.pop(1)
failpoints.arm(lambda *reached: os.kill(os.getpid(), signal.SIGKILL) if reached == (step, side) else None)
cli.main()
"""
ENTRIES = "select count(*), sum(amount_micros) from entry"


@pytest.fixture
def world(tmp_path, ledger_url):
    """A world whose story is billed."""
    with open_world(tmp_path, traces=100, ledger_url=ledger_url) as opened:
        assert opened.run("sync").status == 1
        yield opened


def killed(world, step, side, *arguments, **settings):
    """Run a command that dies at a step."""
    done = subprocess.run(
        [sys.executable, "-c", ARMED, step, side, *map(str, arguments)],
        env=environment(world.folder, {**world.settings, **settings}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_backup_killed_before_its_name_is_given_is_not_there(world):
    """Whole and verified, and not published: the next one is made beside what is left over."""
    file = world.folder / "backup.sqlite3"
    killed(world, Step.BACK_UP, Side.BEFORE, "ledger", "backup", file)
    assert not file.exists()
    assert len(list(world.folder.glob("backup.sqlite3.*.partial"))) == 1

    assert world.run("ledger", "backup", file).status == 0
    assert world.run("ledger", "verify", BILLING_LEDGER_URL=f"sqlite:///{file}").status == 0


def test_a_backup_killed_after_its_name_is_given_is_whole(world):
    """The name comes last."""
    file = world.folder / "backup.sqlite3"
    killed(world, Step.BACK_UP, Side.AFTER, "ledger", "backup", file)

    assert world.run("ledger", "verify", BILLING_LEDGER_URL=f"sqlite:///{file}").status == 0


@pytest.mark.parametrize(
    ("step", "side"),
    [
        (Step.MIGRATE, Side.BEFORE),
        (Step.MIGRATE, Side.AFTER),
        (Step.PUT_FACT, Side.BEFORE),
        (Step.PUT_FACT, Side.AFTER),
        (Step.RESTORE, Side.BEFORE),
    ],
)
def test_a_restore_that_is_killed_leaves_an_empty_ledger(world, new_ledger, step, side):
    """Or none at all; the same command then fills it, and nothing is billed twice."""
    file, url = world.folder / "backup.sqlite3", new_ledger("restored")
    assert world.run("ledger", "backup", file).status == 0
    expected, tally = world.ask(ENTRIES), world.stripe.tally()
    killed(world, step, side, "ledger", "restore", file, BILLING_LEDGER_URL=url)
    world.settings["BILLING_LEDGER_URL"] = url
    assert not world.has_ledger() or world.ask(ENTRIES) == [(0, None)]

    assert world.run("ledger", "restore", file).status == 0

    assert world.ask(ENTRIES) == expected
    assert world.run("sync", "--full", "--json").json["meter_events"]["accepted"] == 0
    assert world.stripe.tally() == tally


def test_a_restore_killed_after_its_commit_is_whole(world, new_ledger):
    """A second try is refused, as the ledger is in use."""
    file, url = world.folder / "backup.sqlite3", new_ledger("restored")
    assert world.run("ledger", "backup", file).status == 0
    expected = world.ask(ENTRIES)
    killed(world, Step.RESTORE, Side.AFTER, "ledger", "restore", file, BILLING_LEDGER_URL=url)
    world.settings["BILLING_LEDGER_URL"] = url

    assert world.ask(ENTRIES) == expected
    assert world.run("ledger", "verify").status == 0
    assert world.run("ledger", "restore", file).status == 2
