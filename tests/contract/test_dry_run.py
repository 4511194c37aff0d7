"""A dry run reads and rates, and writes nothing anywhere: no ledger, no Stripe, no Langfuse."""

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark import config
from tallymark.core.clock import DAY_US
from tallymark.sandbox.story import expect, tell


@pytest.fixture
def story(langfuse):
    """The sandbox filled with a story; what it should come to."""
    for told in tell(200, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
    return expect(tell(200, NOW_US))


def files_in(folder):
    """What is on disk, without the index that SQLite makes for readers and without empty files."""
    content = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    return {name: found for name, found in content.items() if found}


def test_a_first_dry_run_says_what_would_happen_and_leaves_no_file(story, run, langfuse, stripe, tmp_path):
    """The same counts as the real run that follows; the services saw reads only, Stripe nothing at all."""
    dry = run(from_us=NOW_US - 40 * DAY_US, dry_run=True)

    assert list(tmp_path.iterdir()) == []
    assert {line.split()[0] for line in langfuse.counts()} == {"GET"}
    assert stripe.counts() == {}
    assert dry.requests.stripe == 0

    real = run(from_us=NOW_US - 40 * DAY_US)
    for name in ("fetched", "processed", "skipped", "held", "failed", "healed", "untagged", "credits"):
        assert getattr(dry, name) == getattr(real, name), name
    assert dry.meter_events.accepted == real.meter_events.accepted
    assert dry.marks.written == real.marks.written
    assert dry.dry_run
    assert not real.dry_run
    assert dry.processed == story.results["processed"]


def test_a_later_dry_run_leaves_the_ledger_as_it_is(put, run, langfuse, stripe, tmp_path):
    """Not a byte of it changes, and what it would bill is only what is new."""
    put("t1")
    run()
    put("t2")
    before, sent = files_in(tmp_path), len(stripe.meter_events())
    langfuse.clear_requests()

    dry = run(dry_run=True)

    assert (dry.processed, dry.credits) == (1, f"{CREDITS_OF_A_TRACE}.000000")
    assert files_in(tmp_path) == before
    assert len(stripe.meter_events()) == sent
    assert {line.split()[0] for line in langfuse.counts()} == {"GET"}
    assert run().processed == 1


def test_a_dry_run_needs_no_stripe_key(put, run, settings, tmp_path):
    """What would be billed can be seen before there is an account."""
    put("t1")
    base = settings()
    keys = {"LANGFUSE_PUBLIC_KEY": base.projects[0].public_key, "LANGFUSE_SECRET_KEY": base.projects[0].secret_key}
    to = config.load(
        None,
        {**keys, "LANGFUSE_BASE_URL": base.projects[0].base_url, "BILLING_LEDGER_URL": f"sqlite:///{tmp_path / 'x'}"},
    )

    assert run(to, dry_run=True).processed == 1


def test_a_dry_backfill_writes_nothing(put, run_backfill, langfuse, stripe, tmp_path):
    """It says what it would tag, and that this is not done."""
    put("t1", tags=[], minutes_ago=3 * 24 * 60)

    summary = run_backfill(dry_run=True)

    assert (summary.owed, summary.tagged, summary.tag_filtering_safe) == (1, 1, False)
    assert any("dry run" in why for why in summary.why_not)
    assert list(tmp_path.iterdir()) == []
    assert {line.split()[0] for line in langfuse.counts()} == {"GET"}
    assert stripe.counts() == {}
