"""`tallymark backfill --plan` as people and scripts run it: it shows, asks, and starts only what somebody wants."""

import pytest

from worlds import on_a_terminal, open_world, until

TRACES = 60


@pytest.fixture
def world(tmp_path):
    """A world with some history and no ledger."""
    with open_world(tmp_path, traces=TRACES) as world:
        yield world


def test_json_shows_an_estimate_and_starts_nothing(world):
    """Exit 0, no ledger, nothing sent or tagged, also with --yes."""
    found = world.run("backfill", "--plan", "--yes", "--json").json

    assert found["traces"] == found["sampled_traces"] > 0
    assert found["meter_events"] > 0
    assert float(found["credits"]["low"]) <= float(found["credits"]["about"]) <= float(found["credits"]["high"])
    assert not world.has_ledger()
    assert world.stripe.counts() == {}


def test_where_nobody_can_be_asked_nothing_is_started(world):
    """It says how to go on; --yes does, and the summary of the backfill follows."""
    shown = world.run("backfill", "--plan")

    assert shown.status == 0
    assert "--yes goes on" in shown.out
    assert not world.has_ledger()

    ended = world.run("backfill", "--plan", "--yes")

    assert "traces fetched" in ended.out
    assert world.ask("select count(*) from trace") != [(0,)]


@pytest.mark.parametrize(("answer", "started"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_terminal_is_asked(world, answer, started):
    """No is what is meant by nothing."""
    status, said = on_a_terminal(world, answer, "backfill", "--plan")

    assert "Go on? [y/N]" in said
    assert ("traces fetched" in said, world.has_ledger()) == (started, started)
    assert status in ((0, 1) if started else (0,))


def pages_of(langfuse):
    return langfuse.counts().get("GET /api/public/traces", 0)


def test_a_backfill_that_is_stopped_is_completed_by_the_next(tmp_path):
    """Ctrl-C under a budget: exit 130; run again it completes, and every trace is billed once."""
    with open_world(tmp_path, traces=300) as world:
        world.run("backfill", "--plan", "--json")
        counted = pages_of(world.langfuse)
        child = world.start(
            "backfill", "--json", BILLING_LANGFUSE_REQUESTS_PER_MINUTE="60", BILLING_SYNC_WINDOW_HOURS="1"
        )
        until(lambda: pages_of(world.langfuse) > counted + 2, child)
        child.interrupt()
        assert child.end().status == 130

        ended = world.run("backfill", "--json")
        again = world.run("sync", "--json", "--full")

        assert ended.status in (0, 1)
        assert again.json["failed"] == 0
        assert world.billed() == dict(world.expected.micros)
