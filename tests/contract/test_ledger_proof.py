"""What the ledger's proofs and copies are worth, judged by what the sandbox Stripe counted."""

import shutil

import pytest

from builders import PROJECT, ingested
from tallymark.flows import proof
from tallymark.ledger.verify import NOTHING_NOTED, Noted, parse_head
from tallymark.sandbox.faults import Fault, Faults, nth

METER_EVENTS = "/v1/billing/meter_events"


def quiet(stage, done, total):
    """Nobody listens to the progress."""


@pytest.fixture
def many(put):
    """Traces of three customers in several hours, of odd amounts, one without a customer."""
    for number in range(40):
        customer = f"cus_{number % 3}"
        put(f"t{number}", minutes_ago=30 + 17 * number, customer=customer, cost=f"0.0{number}137", seconds=number)
    put("nobody", customer=None)


@pytest.fixture
def verify(settings):
    """A function that verifies the ledger of the settings."""
    return lambda noted=NOTHING_NOTED: proof.verify_ledger(settings().ledger_url, noted, quiet)


def tally(stripe):
    """What Stripe counted, by customer."""
    return {customer: credits for (customer, _), credits in stripe.tally().items()}


def test_a_ledger_holds_after_everything_that_a_sync_does(many, run, verify, langfuse, settings, clock):
    """First bill, refusals and lost answers, late usage, a second look: what sync writes, verify finds in order."""
    faults = Faults.script(
        [(nth(2, "POST", METER_EVENTS), Fault.RESET_AFTER), (nth(4, "POST", METER_EVENTS), Fault.ERROR_AFTER)]
    )
    run(settings(stripe_faults=faults))
    first = verify()
    trace, observations = ingested("t3", minutes_ago=30 + 17 * 3, customer="cus_0", cost="0.9", seconds=3)
    langfuse.put_trace(PROJECT, trace, observations)
    clock.advance(3600)
    run(full=True)

    report = verify(Noted(parse_head(first.entries)))

    assert first.findings == report.findings == []
    assert {each.check: each.rows for each in report.checks}["chain of entries"] == 41
    assert report.entries.startswith("41:")


def test_a_lost_ledger_is_restored_and_bills_nothing_twice(many, run, settings, stripe, tmp_path, ledger_path, verify):
    """The backup was made after the last run: nothing is new, and Stripe's tally stays."""
    run()
    before = tally(stripe)
    file = tmp_path / "backup.sqlite3"
    proof.backup_ledger(settings().ledger_url, file, quiet)
    ledger_path.unlink()

    proof.restore_ledger(settings().ledger_url, file, quiet)
    summary = run(full=True)

    assert (summary.meter_events.accepted, summary.adopted, summary.credits) == (0, 0, "0.000000")
    assert tally(stripe) == before
    assert verify().holds


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "not marked"])
def test_an_older_backup_bills_nothing_twice(many, run, put, settings, stripe, tmp_path, ledger_path, clock, marked):
    """What was billed after the backup is known by its mark, or goes to Stripe under the identifier that it had."""
    run()
    file = tmp_path / "backup.sqlite3"
    proof.backup_ledger(settings().ledger_url, file, quiet)
    put("later", minutes_ago=20, customer="cus_9", cost="0.5")
    no_marks = Faults.script(
        [(nth(number, "POST", "/api/public/ingestion"), Fault.ERROR_BEFORE) for number in range(1, 50)]
    )
    run(settings() if marked else settings(langfuse_faults=no_marks))
    before = tally(stripe)
    assert before["cus_9"] == 12750
    ledger_path.unlink()

    proof.restore_ledger(settings().ledger_url, file, quiet)
    clock.advance(60)
    summary = run(full=True)

    assert tally(stripe) == before
    assert (summary.adopted, summary.meter_events.accepted) == ((1, 0) if marked else (0, 1))


def test_a_backup_is_sent_on_from_where_it_stood(many, run, settings, stripe, tmp_path, ledger_path):
    """Made while meter events were unanswered, it knows of them, and they keep their identifiers."""
    lost = Faults.script([(lambda request: request.path == METER_EVENTS, Fault.RESET_AFTER)])
    with_nothing_answered = settings(stripe_faults=lost)
    run(with_nothing_answered)
    file = tmp_path / "backup.sqlite3"
    proof.backup_ledger(settings().ledger_url, file, quiet)
    shutil.move(ledger_path, tmp_path / "gone.sqlite3")

    proof.restore_ledger(settings().ledger_url, file, quiet)
    run()
    run()

    identifiers = [received.identifier for received in stripe.meter_events()]
    assert len(identifiers) == len(set(identifiers)) > 3
