"""The page on PostgreSQL: its statements make a ledger that the daily role can bill on, and can not edit."""

import re
from pathlib import Path

import psycopg
import pytest

from databases import ask
from postgres_server import PASSWORD, as_superuser, server
from worlds import open_world

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "postgres.md").read_text("utf-8")
ADMINISTRATORS, OWNERS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
ROLES = ("billing", "billing_owner")


def execute(url, script):
    """Run statements one by one, as psql does."""
    with psycopg.connect(url, autocommit=True) as database:
        for statement in script.split(";"):
            if statement.strip():
                database.execute(statement)


@pytest.fixture
def roles():
    """The addresses of the page's ledger for its roles, set up as the page says, with one password for all."""
    admin = as_superuser(server().url())
    execute(admin, ADMINISTRATORS.replace("change-me-too", PASSWORD).replace("change-me", PASSWORD))
    yield {role: server().url("billing", role=role) for role in ROLES}
    execute(admin, "drop database billing (force); drop role billing; drop role billing_owner")


def test_the_page_sets_up_a_ledger_that_its_daily_role_cannot_edit(roles, tmp_path):
    """The owner makes it; the other one syncs, decides and verifies; no edit passes, and no trigger can be dropped."""
    with open_world(tmp_path, traces=100, ledger_url=roles["billing_owner"]) as world:
        made = world.run("doctor", "--json")
        assert made.status in (0, 1), made.out
        execute(roles["billing_owner"], OWNERS)

        world.settings["BILLING_LEDGER_URL"] = roles["billing"]
        ended = world.run("sync", "--json")
        assert (ended.status, ended.json["failed"]) == (1, 0), ended.err
        assert world.billed() == dict(world.expected.micros)
        waived = world.run("held", "waive", "--reason", "no_customer", "--all", "--why", "a test", "--yes", "--json")
        assert waived.status == 0, waived.err
        for arguments in (("sync", "--full"), ("backfill",), ("ledger", "verify"), ("usage",), ("reconcile",)):
            ended = world.run(*arguments)
            assert ended.status in (0, 1), ended.err

    for edit in (
        "update entry set amount_micros = 1",
        "delete from entry",
        "update decision set why = 'so'",
        "truncate decision",
        "drop trigger entry_is_append_only on entry",
        "alter table entry disable trigger all",
        "create or replace function refuse_edit() returns trigger language plpgsql as 'begin return new; end'",
    ):
        with pytest.raises(psycopg.Error):
            ask(roles["billing"], edit)
