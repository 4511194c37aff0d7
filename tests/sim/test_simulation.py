"""Seeds of the simulation: no guarantee is violated, and whatever may happen does happen somewhere in them."""

import json
import os

import pytest

from sim.happenings import HAPPENINGS
from sim.network import FAULT_KINDS
from sim.run import explain, run_seed
from sim.runs import RUNS
from tallymark.failpoints import Step

SEEDS = 200
# So that no process is left alone with all of them at the end.
SHARES = 10
# Copies of a ledger are commands of their own (tests/crash/test_killed_copies.py), and so are backfill, which tags and
# forgets (tests/crash/test_failpoints.py), and serve with its alerts (tests/acceptance/test_serve.py).
NOT_SIMULATED = {Step.BACK_UP, Step.RESTORE, Step.TAG, Step.FORGET_COVERAGE, Step.PUT_JOB, Step.PUT_REQUEST}
NOT_SIMULATED |= {Step.PUT_ALERTS, Step.ALERT_SEND}
# It sends by v1, and knows no workers (tests/crash/test_failpoints.py, tests/crash/test_workers_killed.py).
NOT_SIMULATED |= {Step.STRIPE_STREAM, Step.STRIPE_SESSION, Step.CHANGE_METER_API}
NOT_SIMULATED |= {Step.PUT_PLAN, Step.END_PART, Step.MOVE_PLAN, Step.RESERVE}
# Reached, and by chance no process may die there in so few seeds; crash tests try each, and `make sim SEEDS=2000` too.
SELDOM = {
    Step.SETTLE_CANCEL,
    Step.STRIPE_CANCEL,
    Step.BEGIN_INVOICING,
    Step.FINISH_INVOICING,
    Step.STRIPE_INVOICE_ITEM,
    Step.PUT_DELETED,
    Step.SETTLE_DOUBTS,
}


@pytest.fixture
def noted(tmp_path_factory):
    """A folder of this whole run of pytest, in which all its processes find what happened in each share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "simulated"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("share", range(SHARES))
def test_no_seed_violates_a_guarantee_and_all_that_may_happen_happens(noted, share):
    """G1 to G5 hold after every step of each seed, and every sum is exact in the end; `make sim SEEDS=…` runs more.

    Shares run in processes of their own; whichever sees that all are done looks at what has happened in them.
    """
    happened = set()
    for seed in range(1 + share, 1 + SEEDS, SHARES):
        result = run_seed(seed)
        assert not result.problem, explain(result)
        happened.update(result.counts)
    unfinished = noted / f"{share}.unfinished"
    unfinished.write_text(json.dumps(sorted(happened)))
    unfinished.rename(noted / f"{share}.json")
    done = list(noted.glob("*.json"))
    if len(done) == SHARES:
        check_that_all_happens({tuple(each) for file in done for each in json.loads(file.read_text())})


def check_that_all_happens(happened):
    """No step, fault, choice of a person or failpoint that no seed ever tries."""

    def kinds(group):
        return {kind for which, kind in happened if which == group}

    assert kinds("step") == {step.__name__ for step in (*HAPPENINGS, *RUNS)}
    assert kinds("fault") == FAULT_KINDS
    assert kinds("other") == {"second worker"}
    assert {kind.partition(" ")[2] for kind in kinds("crash")} >= set(Step) - NOT_SIMULATED - SELDOM
    assert {kind.partition(" ")[2] for kind in kinds("reached")} >= set(Step) - NOT_SIMULATED
    assert {kind.partition(" of ")[0] for kind in kinds("decision")} >= {
        "as-is",
        "bill-now",
        "customer",
        "invoice-item",
        "waive",
    }
