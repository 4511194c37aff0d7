"""Leases of jobs: one process at a time, the next one when it is dead or silent; who was given up stores nothing."""

import subprocess
import sys

import pytest

from builders import NOW_US
from databases import DATABASES
from tallymark.core.clock import MINUTE_US, SECOND_US
from tallymark.ledger import open_ledger, owner
from tallymark.ledger.jobs import LEASE_US, Done, Planned, finish, jobs_of, plan, release, renew, take

pytestmark = pytest.mark.databases(*DATABASES)
NEXT_US = NOW_US + 5 * MINUTE_US


@pytest.fixture
def planned(ledger):
    """A ledger in which "sync" is due."""
    plan(ledger, {"sync": Planned(NOW_US, NEXT_US)})
    return ledger


@pytest.fixture
def other(planned, ledger_url):
    """Another connection to it, as a second service has."""
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


def elsewhere(monkeypatch, name="another-machine/boot/pid:[1]|1|1"):
    """Take in the name of another process."""
    monkeypatch.setattr("tallymark.ledger.jobs.this_process", lambda: name)


def test_two_never_hold_one_job(planned, other):
    """The second one gets nothing, before and after the run."""
    assert take(planned, "sync", NOW_US) is not None
    assert take(other, "sync", NOW_US + SECOND_US) is None


def test_what_ended_is_not_due_again(planned, other):
    """One that comes a moment later finds the next time there."""
    lease = take(planned, "sync", NOW_US)
    assert finish(planned, lease, Done("", 3, 2, 1), NEXT_US, NOW_US + SECOND_US)

    assert take(other, "sync", NOW_US + 2 * SECOND_US) is None
    assert take(other, "sync", NEXT_US).attempt == 2


def test_a_job_of_a_dead_process_is_free_at_once(planned, other, monkeypatch):
    """Its lease has minutes to go, but the machine knows that nobody is there."""
    script = "from tallymark.ledger import owner; print(owner.this_process())"
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    elsewhere(monkeypatch, dead)
    assert take(planned, "sync", NOW_US) is not None
    monkeypatch.setattr("tallymark.ledger.jobs.this_process", owner.this_process)

    assert take(other, "sync", NOW_US + SECOND_US).attempt == 2


def test_a_job_of_another_machine_is_free_when_its_lease_ends(planned, other, monkeypatch):
    """Only time can tell; a renewed lease goes on."""
    elsewhere(monkeypatch)
    lease = take(planned, "sync", NOW_US)
    assert renew(planned, lease, NOW_US + MINUTE_US)

    assert take(other, "sync", NOW_US + LEASE_US) is None
    assert take(other, "sync", NOW_US + MINUTE_US + LEASE_US).attempt == 2


def test_who_was_given_up_stores_nothing(planned, other, monkeypatch):
    """It comes back late: neither its renewal nor its end nor its release touches the lease of the next one."""
    elsewhere(monkeypatch)
    late = take(planned, "sync", NOW_US)
    now_us = NOW_US + LEASE_US
    lease = take(other, "sync", now_us)

    assert renew(planned, late, now_us) is False
    assert finish(planned, late, Done(), NEXT_US, now_us) is False
    release(planned, late)
    (job,) = jobs_of(other)
    assert (job["attempt"], job["lease_until_us"], job["runs"]) == (lease.attempt, now_us + LEASE_US, 0)


def test_a_lease_of_a_wrong_clock_ends(planned, other, monkeypatch):
    """Given in the year after next, on another machine."""
    elsewhere(monkeypatch)
    take(planned, "sync", NOW_US + 700 * 24 * 60 * MINUTE_US)

    assert take(other, "sync", NOW_US) is not None


def test_a_released_job_is_still_due(planned, other):
    """A stopped run is done by whoever is there."""
    release(planned, take(planned, "sync", NOW_US))

    assert take(other, "sync", NOW_US) is not None


def test_planning_again_moves_nothing_later_and_what_was_due_stays_due(planned, other):
    """Downtime: due in the past stays there; a shorter interval counts from today."""
    plan(other, {"sync": Planned(NEXT_US, NEXT_US + MINUTE_US)})
    assert [job["due_at_us"] for job in jobs_of(planned)] == [NOW_US]

    finish(planned, take(planned, "sync", NOW_US), Done(), NEXT_US, NOW_US)
    plan(other, {"sync": Planned(NOW_US, NOW_US + MINUTE_US)})
    assert [job["due_at_us"] for job in jobs_of(planned)] == [NOW_US + MINUTE_US]


def test_runs_failures_and_requests_add_up(planned, look):
    """What the metrics tell; a failure leaves the time of the last run that worked."""
    finish(planned, take(planned, "sync", NOW_US), Done("", 3, 2, 1), NOW_US, NOW_US + 4 * SECOND_US)
    finish(planned, take(planned, "sync", NOW_US), Done("Stripe is away", 1, 1, 0), NEXT_US, NOW_US + SECOND_US)

    assert look(
        "select runs, failures, run_us, langfuse_requests, stripe_requests, accepted, succeeded_at_us, problem from job"
    ) == [(2, 1, 5 * SECOND_US, 4, 3, 1, NOW_US + 4 * SECOND_US, "Stripe is away")]
