"""The scheduler with a virtual clock: what is due when, once, by one, and that nothing ends it but being told to."""

import logging
import random
import threading

import pytest

from builders import NOW_US
from databases import DATABASES
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.errors import LedgerLocked, Unavailable
from tallymark.flows import service
from tallymark.flows.service import DAILY_JITTER_US, Daily, Every, Job, Scheduler, by_chance
from tallymark.ledger.jobs import Done

MIDNIGHT_US = NOW_US - NOW_US % DAY_US


def never_later(most):
    """No jitter."""
    return 0


class Runs:
    """A job that notes when it ran, and does what it is told."""

    def __init__(self, clock):
        self.clock = clock
        self.at_us = []
        self.does = lambda clock, progress: Done()

    def __call__(self, clock, progress, _asked):
        self.at_us.append(self.clock.now_us())
        return self.does(clock, progress)


@pytest.fixture
def runs(clock):
    """When "sync" ran."""
    return Runs(clock)


@pytest.fixture
def stop():
    """What stops the schedulers."""
    return threading.Event()


@pytest.fixture
def scheduler(ledger_url, clock, runs, stop):
    """A function: another scheduler that syncs every five minutes, on the ledger of the test."""

    def make(schedule=Every(5 * MINUTE_US), jitter=never_later):  # noqa: B008 - a frozen value
        made = Scheduler(ledger_url, [Job("sync", schedule, runs)], clock, stop, jitter)
        made.plan()
        return made

    return make


def minutes(at_us):
    """Whole minutes after the beginning of a test."""
    return [(moment - NOW_US) // MINUTE_US for moment in at_us]


def live(scheduler, clock, minutes_long, step_seconds=10):
    """Let time pass, and look again and again what is due."""
    for _ in range(minutes_long * 60 // step_seconds):
        scheduler.run_due()
        clock.advance(step_seconds)


# ---- when


def test_the_first_sync_is_at_once_and_then_every_five_minutes(scheduler, clock, runs):
    """On a new ledger nothing was ever read."""
    live(scheduler(), clock, 16)

    assert minutes(runs.at_us) == [0, 5, 10, 15]


def test_a_daily_job_waits_for_its_time(scheduler, clock, runs):
    """It is not made up for on a new ledger: the first sync reads the whole look-back anyway."""
    at_us = (NOW_US + 30 * MINUTE_US) % DAY_US
    live(scheduler(Daily(at_us)), clock, 40)

    assert minutes(runs.at_us) == [30]


@pytest.mark.parametrize("seed", range(50))
def test_jitter_stays_within_its_bounds(seed):
    """Never early, at most a tenth of the interval or ten minutes of a day late."""
    chance = random.Random(seed)

    def jitter(most):
        return chance.randint(0, most)

    after_us = MIDNIGHT_US + chance.randrange(DAY_US)
    every = Every(5 * MINUTE_US).next_us(after_us, jitter)
    assert 5 * MINUTE_US <= every - after_us <= 5.5 * MINUTE_US

    daily = Daily(2 * HOUR_US).next_us(after_us, jitter)
    assert after_us < daily <= after_us + DAY_US + DAILY_JITTER_US
    assert 0 <= (daily - 2 * HOUR_US) % DAY_US <= DAILY_JITTER_US


def test_a_daily_run_that_jitter_made_late_is_followed_by_tomorrow():
    """Not by the same day again."""
    at_us = Daily(2 * HOUR_US).next_us(MIDNIGHT_US + HOUR_US, lambda most: most)

    assert Daily(2 * HOUR_US).next_us(at_us, never_later) == MIDNIGHT_US + DAY_US + 2 * HOUR_US


def test_chance_gives_different_numbers_within_the_bound():
    """Two services do not wait alike."""
    found = {by_chance(1000) for _ in range(100)}

    assert len(found) > 50
    assert found <= set(range(1001))


def test_what_was_due_while_it_was_off_runs_once_and_at_once(scheduler, clock, runs):
    """Twelve hours off: one sync, not 144."""
    live(scheduler(), clock, 6)
    clock.advance(12 * 3600)
    live(scheduler(), clock, 6)

    assert minutes(runs.at_us) == [0, 5, 726, 731]


def test_a_restart_runs_nothing_that_is_not_due(scheduler, clock, runs):
    """A service that is started again and again does not ask Langfuse each time."""
    for _ in range(5):
        scheduler().run_due()
        clock.advance(10)

    assert minutes(runs.at_us) == [0]


def test_a_run_longer_than_its_interval_is_followed_by_one(scheduler, clock, runs):
    """Those that were missed are not made up for."""
    one = scheduler()

    def slowly(waiting, _progress):
        waiting.sleep(12 * 60)
        return Done()

    runs.does = slowly
    one.run_due()
    runs.does = lambda *_: Done()
    live(one, clock, 6)

    assert minutes(runs.at_us) == [0, 12, 17]


# ---- failures


def test_a_failure_is_one_line_and_is_tried_again_at_the_next_time(scheduler, clock, runs, caplog):
    """Stripe is away for a while."""
    one = scheduler()

    def fail(*_):
        raise Unavailable("Stripe answered 503")

    runs.does = fail
    live(one, clock, 6)
    runs.does = lambda *_: Done()
    live(one, clock, 5)

    assert minutes(runs.at_us) == [0, 5, 10]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2
    assert all(line.startswith("sync failed: Stripe answered 503 (next at ") for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_mistake_in_a_run_does_not_end_the_service_and_its_text_is_not_logged(scheduler, clock, runs, caplog, look):
    """What nobody foresaw may hold a prompt."""

    def err(*_):
        raise RuntimeError("Dear model, my name is")

    runs.does = err
    live(scheduler(), clock, 6)

    assert minutes(runs.at_us) == [0, 5]
    assert "RuntimeError" in caplog.text
    assert "Dear model" not in caplog.text
    assert "Dear model" not in str(look("select problem from job"))


def test_a_ledger_that_is_away_does_not_end_the_loop_and_is_told_once(scheduler, stop, caplog, monkeypatch):
    """It is looked at again, every few seconds; the log has one line when it goes and one when it comes back."""
    one, looked = scheduler(), []

    def locked():
        looked.append(True)
        if len(looked) < 4:
            raise LedgerLocked("another process holds the ledger")
        stop.set()

    monkeypatch.setattr(one, "run_due", locked)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0)
    one.run_forever()

    assert len(looked) == 4
    away, back = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert away.endswith("is looked at again: another process holds the ledger")
    assert back == "what is due can be told again"


# ---- stopping


@pytest.mark.parametrize("how", ["in a step", "while it waits"])
def test_a_stopped_run_ends_at_its_next_step_and_stays_due(scheduler, clock, runs, stop, look, how):
    """Nothing is stored of it, and the next service does it at once."""

    def stopped(waiting, progress):
        stop.set()
        progress("read", 1, 2) if how == "in a step" else waiting.sleep(3600)
        raise AssertionError("it went on")

    runs.does = stopped
    scheduler().run_forever()
    assert look("select owner, runs, due_at_us from job") == [("", 0, NOW_US)]
    assert clock.now_us() - NOW_US < 2 * SECOND_US

    stop.clear()
    runs.does = lambda *_: Done()
    scheduler().run_due()
    assert len(runs.at_us) == 2


def test_a_stopped_service_begins_nothing(scheduler, runs, stop):
    """Due or not."""
    one = scheduler()
    stop.set()
    one.run_due()

    assert runs.at_us == []


# ---- two


@pytest.mark.databases(*DATABASES)
def test_two_schedulers_never_run_one_job_at_once(scheduler, clock, runs):
    """The second one looks in the middle of each run of the first, and right after it."""
    one, other = scheduler(), scheduler()

    def meanwhile(*_):
        assert other.run_due() == []
        return Done()

    runs.does = meanwhile
    for _ in range(40):
        one.run_due()
        assert other.run_due() == []
        clock.advance(20)

    assert minutes(runs.at_us) == [0, 5, 10]


def test_a_run_that_has_lost_its_lease_ends(scheduler, runs, look, monkeypatch):
    """It was given up for dead, and somebody else runs the job now: two would only get in each other's way."""
    monkeypatch.setattr(service, "RENEW_SECONDS", 0.01)
    went_on = []

    def given_up(_waiting, progress):
        look("update job set attempt = attempt + 1, owner = 'another|1|1'")
        give_up = threading.Event()
        for _ in range(500):
            progress("read", 1, 2)
            give_up.wait(0.01)
        went_on.append(True)
        return Done()

    runs.does = given_up
    scheduler().run_due()
    assert went_on == []

    assert look("select owner, attempt, runs from job") == [("another|1|1", 2, 0)]
