"""Tag filtering is a way to read less, never a way to bill less: on and off bill the same once history is tagged."""

import pytest

from worlds import CREDIT_MICROS, open_world

TRACES = 250


def expected(world):
    """The story's micro-credits by customer."""
    return dict(world.expected.micros)


def test_off_bills_the_story(tmp_path):
    """The measure for the others."""
    with open_world(tmp_path, traces=TRACES) as world:
        world.run("sync")

        assert world.billed() == expected(world)


def test_on_after_a_backfill_bills_the_same(tmp_path):
    """The way that is documented: backfill, then switch it on."""
    with open_world(tmp_path, traces=TRACES) as world:
        assert world.run("backfill", "--from", "7d").status == 1
        assert world.stripe.meter_events() == []
        world.run("sync", BILLING_USE_TAG_FILTERING="true")

        assert world.billed() == expected(world)


def test_the_tags_alone_are_enough(tmp_path):
    """Another ledger, which knows nothing of the backfill, finds every unbilled trace by its tag."""
    with open_world(tmp_path, traces=TRACES) as world:
        world.run("backfill", "--from", "7d")
        found = world.run(
            "sync", "--json", "--use-tag-filtering", BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'other.sqlite3'}"
        ).json

        tally = {customer: int(credits) for (customer, _), credits in world.stripe.tally().items()}
        # Whole credits only: what is below one is in the other ledger's carry.
        assert tally == {customer: micros // CREDIT_MICROS for customer, micros in expected(world).items()}
        assert found["skipped"]["already_processed"] == 0


@pytest.mark.parametrize("first", ["--use-tag-filtering", "--no-use-tag-filtering"])
def test_switching_between_runs_bills_once(tmp_path, first):
    """Whichever came first, the other finds what is left and nothing else."""
    second = {"--use-tag-filtering": "--no-use-tag-filtering"}.get(first, "--use-tag-filtering")
    with open_world(tmp_path, traces=TRACES) as world:
        world.run("sync", first)
        world.run("sync", second)

        assert world.billed() == expected(world)


def test_on_without_a_backfill_misses_untagged_traces(tmp_path):
    """That is why it is off by default and why backfill says whether it is safe."""
    with open_world(tmp_path, traces=TRACES) as world:
        world.run("sync", "--use-tag-filtering")

        missed = expected(world).keys() - world.billed().keys() or {
            customer for customer, micros in world.billed().items() if micros < expected(world)[customer]
        }
        assert missed
