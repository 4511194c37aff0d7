"""docs/howto/upgrade.md, step by step: its commands, in its order, on ledgers that older versions left."""

import contextlib
import re
from pathlib import Path
from sqlite3 import connect
from unittest import mock

import pytest
from click.testing import CliRunner

from older_ledgers import make_older
from tallymark.cli import cli
from tallymark.errors import LedgerNewer
from tallymark.ledger import sqlite
from tallymark.ledger.sqlite import MIGRATIONS
from tallymark.ledger.statements import migration
from worlds import open_world

NEXT = "create table next (name text primary key) strict;"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "upgrade.md"


def commands():
    """The lines of the page's blocks: one list for each block."""
    return [
        [line.strip() for line in block.splitlines() if line.strip()]
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    ]


@pytest.fixture
def shell(tmp_path):
    """A function: run the lines of a block, in the folder of the test; the last one's exit status."""
    with open_world(tmp_path, traces=40) as world:
        settings = dict(world.settings)

        def run(lines, **changes):
            status = 0
            for line in lines:
                words = line.replace("/backups", str(tmp_path)).replace("/srv/billing", str(tmp_path)).split()
                if words[0] == "export":
                    settings.update([words[1].split("=", 1)])
                    continue
                assert words[0] == "tallymark"
                done = CliRunner().invoke(cli, words[1:], env={**settings, **changes})
                if done.exception is not None and not isinstance(done.exception, SystemExit):
                    raise done.exception
                status = done.exit_code
            return status

        run.world, run.settings = world, settings
        yield run


@contextlib.contextmanager
def next_version():
    """As the next version of tallymark, whose schema has a table more."""
    with (
        mock.patch.object(sqlite, "MIGRATIONS", (*MIGRATIONS, "next")),
        mock.patch.object(
            sqlite, "migration", lambda name, dialect: NEXT if name == "next" else migration(name, dialect)
        ),
    ):
        sqlite._made_by_migrations.cache_clear()
        yield
    sqlite._made_by_migrations.cache_clear()


@pytest.mark.parametrize("schema", [1, 5, len(MIGRATIONS) - 1])
def test_the_steps_upgrade_a_ledger_of_an_older_version(shell, tmp_path, schema):
    """Tried, which leaves the ledger as it is, and upgraded. Only the ledger of those versions is here."""
    _, tried, billed, _, _ = commands()
    path = make_older(tmp_path / "ledger.sqlite3", schema)
    shell.settings["BILLING_LEDGER_URL"] = f"sqlite:///{path}"
    assert shell(tried) in (0, 1)
    assert version_of(path) == schema
    assert shell(billed) == 0
    assert version_of(path) == len(MIGRATIONS)
    assert shell.world.stripe.tally()


def test_the_steps_upgrade_to_the_next_version_and_go_back(shell, tmp_path):
    """Proved, backed up, tried, upgraded; then refused by the version of before, restored, and billed once."""
    backed_up, tried, billed, restored, again = commands()
    path = make_older(tmp_path / "ledger.sqlite3", len(MIGRATIONS))
    shell.settings["BILLING_LEDGER_URL"] = f"sqlite:///{path}"
    assert shell(backed_up) == 0
    with next_version():
        assert shell(tried) in (0, 1)
        assert version_of(path) == len(MIGRATIONS)
        assert shell(billed) == 0
    assert version_of(path) == len(MIGRATIONS) + 1
    tally = shell.world.stripe.tally()
    assert tally

    with pytest.raises(LedgerNewer):
        shell(["tallymark sync"])
    assert shell(restored) == 0
    assert shell(again) == 0
    assert version_of(tmp_path / "ledger-restored.sqlite3") == len(MIGRATIONS)
    assert shell.world.stripe.tally() == tally


def version_of(path):
    """The schema of a ledger file."""
    with contextlib.closing(connect(path)) as database:
        return database.execute("pragma user_version").fetchone()[0]
