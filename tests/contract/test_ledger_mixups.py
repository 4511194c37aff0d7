"""A ledger in the place of another: what can be noticed is said, and nothing is billed twice."""

import shutil

import pytest

from builders import CREDITS_OF_A_TRACE
from tallymark.failpoints import Side, Step
from tallymark.flows.doctor import doctor
from tallymark.flows.reconcile import reconcile
from tallymark.ledger import open_ledger


@pytest.fixture
def billed(put, run, tmp_path):
    """Three traces that the ledger of the test has billed, and a copy of it from before the third."""
    put("t1")
    put("t2")
    run()
    shutil.copy(tmp_path / "ledger.sqlite3", tmp_path / "older.sqlite3")
    put("t3", minutes_ago=20)
    run()


def said(caplog, words):
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def test_an_older_copy_of_the_ledger_says_so(billed, run, stripe, ledger_path, tmp_path, caplog):
    """Marks name the ledger that wrote them: what it does not know was billed by a later state of itself."""
    tally = stripe.tally()
    shutil.copy(tmp_path / "older.sqlite3", ledger_path)

    assert run().adopted == 1

    (line,) = said(caplog, "carry marks of this ledger")
    assert line.startswith(
        "1 traces carry marks of this ledger that it does not know of: it is an older copy of itself."
    )
    assert stripe.tally() == tally
    caplog.clear()
    run(full=True)
    assert said(caplog, "carry marks of") == []


@pytest.mark.parametrize("verb", ["sync", "backfill"])
def test_another_ledger_says_whose_marks_it_found(billed, run, run_backfill, settings, stripe, tmp_path, caplog, verb):
    """Such as that of the staging environment, or a fresh one where BILLING_LEDGER_URL has a slip."""
    tally = stripe.tally()
    other = settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'other.sqlite3'}")
    own = open_ledger(settings().ledger_url).fact("ledger_id")

    run(other) if verb == "sync" else run_backfill(other)

    (line,) = said(caplog, "carry marks of another ledger")
    assert f"3 traces carry marks of another ledger ({own})" in line
    assert "check BILLING_LEDGER_URL" in line
    assert stripe.tally() == tally


def test_marks_of_a_script_are_no_ledgers(put, run, caplog):
    """Who moves from a script has no other ledger to look for."""
    put("t1", metadata={"customerId": "cus_1", "billing_status": "processed", "meter_event_id": "mev_123"})

    assert run().adopted == 1

    assert said(caplog, "carry marks of") == []


def test_doctor_warns_of_a_ledger_of_other_projects(billed, settings, clock, tmp_path):
    """It has read some, and none of those that are configured; a ledger that has read nothing yet is no reason."""
    words = "it has read other projects, and none of these"

    def warned(changed):
        return [finding.status for finding in doctor(changed, clock) if words in finding.detail]

    assert warned(settings()) == []
    assert warned(settings(LANGFUSE_PUBLIC_KEY="pk-lf-another")) == ["warning"]
    assert (
        warned(
            settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'new.sqlite3'}", LANGFUSE_PUBLIC_KEY="pk-lf-another")
        )
        == []
    )


def test_two_deployments_at_once_are_noticed(put, run, settings, stripe, stopped, clock, tmp_path, caplog):
    """Neither sees the mark of the other in time, so both bill; a full run of the first says so, and so do the sums."""
    put("t1")
    put("t2")
    other = settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'other.sqlite3'}")
    with stopped(Step.LANGFUSE_WRITE, Side.BEFORE):
        run()
    assert run(other).processed == 2
    assert stripe.tally() == {("cus_1", "credits"): 4 * CREDITS_OF_A_TRACE}
    caplog.clear()

    run(full=True)

    (line,) = said(caplog, "both have billed them")
    assert line.startswith("2 traces that this ledger bills carry marks of another ledger (")
    clock.advance(2 * 3600)
    found, _ = reconcile(settings(), clock=clock)
    assert found.exit_status == 1
    assert found.total.differences["unexplained_stripe"] == f"{2 * CREDITS_OF_A_TRACE}.000000"


def test_one_deployment_after_the_other_bills_once(put, run, settings, stripe, tmp_path, caplog):
    """The second one sees the marks; what it bills itself later carries its own."""
    put("t1")
    run()
    other = settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'other.sqlite3'}")
    run(other)
    put("t2", minutes_ago=50)
    run(other, full=True)
    run(other, full=True)

    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
    assert said(caplog, "both have billed them") == []
