"""Seeds of the simulation: no guarantee is violated, and whatever may happen does happen somewhere in them."""

from collections import Counter

import pytest

from sim.happenings import HAPPENINGS
from sim.network import FAULT_KINDS
from sim.run import explain, run_seed
from sim.runs import RUNS
from tallymark.failpoints import Step

# In one process, since all of them together must have tried everything.
pytestmark = pytest.mark.xdist_group("simulation")

SEEDS, CHUNKS = 200, 8
# Copies of a ledger are commands of their own (tests/crash/test_killed_copies.py), and so is backfill, which tags and
# forgets (tests/crash/test_failpoints.py).
NOT_SIMULATED = {Step.BACK_UP, Step.RESTORE, Step.TAG, Step.FORGET_COVERAGE}
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

happened = Counter()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_violates_a_guarantee(chunk):
    """G1 to G5 hold after every step, and every sum is exact in the end; `make sim SEEDS=…` runs many more."""
    for seed in range(1 + chunk * SEEDS // CHUNKS, 1 + (chunk + 1) * SEEDS // CHUNKS):
        result = run_seed(seed)
        assert not result.problem, explain(result)
        happened.update(result.counts)
    happened["chunk", str(chunk)] += 1


def kinds(group):
    """What happened of a group."""
    return {kind for which, kind in happened if which == group}


def test_whatever_may_happen_has_happened():
    """No step, fault, choice of a person or failpoint that no seed ever tries."""
    if len(kinds("chunk")) < CHUNKS:
        pytest.skip("only the seeds of all chunks together try everything")

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
