"""Many workers on one PostgreSQL ledger: plans, their parts, and a queue that may lose anything.

Workers run here in the test's own process, until no plan goes on; tests/crash kills real ones.
"""

import contextlib
import threading
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from procrastinate import exceptions
from psycopg_pool import PoolTimeout

from builders import NOW_US, PROJECT, settings_for
from databases import DATABASES, POSTGRES, SQLITE
from tallymark import config as configuration
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.core.readings import Reading
from tallymark.core.types import Unit
from tallymark.errors import ConfigError, LedgerUnreachable, NotFound
from tallymark.flows import plan_stages, planning, working
from tallymark.flows.backfill import backfill
from tallymark.flows.budgets import SharedPace
from tallymark.flows.decide import Decider
from tallymark.flows.plan_status import cancel_plan, list_plans, wait_for
from tallymark.flows.progress import quiet
from tallymark.flows.reading import range_of
from tallymark.flows.reconcile import reconcile
from tallymark.flows.runs import one_run
from tallymark.flows.sync import sync
from tallymark.flows.working import plan_for_workers, queue_of, work
from tallymark.ledger import open_ledger
from tallymark.ledger.budgets import reserve
from tallymark.ledger.plans import CANCELLED, READ, Part, Plan, end_part, open_part, put_plan, stop_plan
from tallymark.ledger.rows import RunRef
from tallymark.ledger.staging import decide_staged, stage
from tallymark.queue import tasks
from tallymark.queue.tasks import Beats
from tallymark.sandbox.faults import Fault, Faults, nth
from tallymark.sandbox.langfuse import SandboxLangfuse
from worlds import open_world

pytestmark = pytest.mark.databases(POSTGRES)
TRACES = 90
SOON = Beats(0.1, 0.5)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few windows and small batches; what is lost is looked for every second."""
    monkeypatch.setattr(planning, "WINDOWS", 5)
    monkeypatch.setattr(planning, "WINDOW_US_MAX", 100 * DAY_US)
    monkeypatch.setattr(plan_stages, "MARKS_EACH", 20)
    monkeypatch.setattr(tasks, "LOOK_AFTER_CRON", "* * * * * *")
    monkeypatch.setattr(working, "AGAIN_SECONDS", 0)


@pytest.fixture
def world(tmp_path, ledger_url):
    """A function that opens a world with a story on the test's ledger."""
    with contextlib.ExitStack() as worlds:

        def open_one(generation="legacy", traces=TRACES, **faults):
            langfuse = SandboxLangfuse(clock=SystemClock(), generation=generation)
            return worlds.enter_context(
                open_world(tmp_path, traces=traces, langfuse=langfuse, ledger_url=ledger_url, **faults)
            )

        yield open_one


def settings_of(world, **changes):
    """The settings of a world, for flows in this process."""
    return configuration.load(None, {**world.settings, **changes})


def let_work(config, **options):
    """Work until no plan goes on."""
    assert not work(config, until_idle=True, beats=SOON, **options)


def planned(config, kind, **options):
    """What workers make of a plan."""
    plan_id = plan_for_workers(config, kind, **options)
    let_work(config, concurrency=2)
    return wait_for(config, plan_id, quiet)


def counts(summary):
    """What a summary counts, without what differs between two runs of the same."""
    found = msgspec.to_builtins(summary)
    for name in ("run_id", "from", "to", "requests", "seconds", "why_not"):
        del found[name]
    return found


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_a_backfill_by_workers_counts_what_one_process_counts(world, tmp_path, generation):
    """The same traces, reasons, credits and tags; nothing is sent; and the progress is gone at the end."""
    here = world(generation)
    config = settings_of(here)
    alone = backfill(replace(config, ledger_url=f"sqlite:///{tmp_path / 'alone.sqlite3'}"), dry_run=True)

    together = planned(config, "backfill")

    assert counts(together) == {**counts(alone), "dry_run": False, "tag_filtering_safe": together.tag_filtering_safe}
    assert here.stripe.counts() == {}
    assert here.ask("select 1 from run_progress") == []
    assert together.requests.langfuse > 5


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_a_sync_by_workers_bills_and_marks_all_and_reconciles(world, generation):
    """The tally is exact, marks are written in batches, and neither a further sync nor reconcile finds anything."""
    here = world(generation)
    config = settings_of(here)

    summary = planned(config, "sync", full=True)

    assert here.billed() == dict(here.expected.micros)
    assert summary.processed + sum(summary.held.values()) + sum(summary.skipped.values()) == summary.fetched
    assert summary.marks.written > 20
    assert summary.meter_events.accepted == len(here.ask("select 1 from meter_event where state = 'accepted'"))
    again = sync(config, full=True)
    assert (again.meter_events.accepted, again.adjusted, again.processed, again.marks.written) == (0, 0, 0, 0)
    assert reconcile(config)[0].explained
    assert here.ask("select count(*) from fact where name like 'turns at stripe %'") == [(1,)]
    (status,) = list_plans(config, 5)
    assert (status.state, status.done, status.rows >= summary.fetched - 5) == ("done", status.total, True)


def test_a_sync_by_workers_through_the_stream_is_proved_by_sums_before_it_is_marked(world, monkeypatch):
    """Batches of many customers, from several workers at once: counted once, and nothing is left unproved."""
    monkeypatch.setattr("tallymark.ledger.sending.FIRST_PROOF_US", SECOND_US // 10)
    monkeypatch.setattr("tallymark.flows.streamed.PAUSE_SECONDS", 0.1)
    here = world()
    config = settings_of(here, BILLING_METER_API="stream")

    summary = planned(config, "sync", full=True)

    assert here.billed() == dict(here.expected.micros)
    assert here.ask("select distinct state from meter_event where credits <> 0") == [("accepted",)]
    assert (summary.meter_events.streamed, summary.meter_events.in_doubt) == (0, 0)
    assert summary.marks.written > 20
    assert "POST /v2/billing/meter_event_stream" in here.stripe.counts()
    assert reconcile(config)[0].explained


def test_an_incremental_sync_by_workers_goes_on_where_the_last_one_ended(world):
    """Coverage is put when all windows are read, so the next sync reads the overlap only."""
    here = world()
    config = settings_of(here)
    planned(config, "sync")

    second = planned(config, "sync")

    (covered,) = here.ask("select to_us - from_us from coverage where purpose = 'sync'")
    assert covered[0] > 6 * DAY_US
    assert second.from_ > list_plans(config, 5)[1].from_
    assert second.meter_events.accepted == 0


def test_what_the_queue_lost_is_put_in_again(world):
    """The ledger says what is left to do: a queue that was emptied is filled from there."""
    config = settings_of(world())
    plan_id = plan_for_workers(config, "backfill")
    with queue_of(config) as queue:
        assert len(queue.keys()) == 5
        queue._app.connector.execute_query("delete from procrastinate_jobs")

    let_work(config)

    assert wait_for(config, plan_id, quiet).fetched > 0


def test_jobs_of_a_lost_worker_are_given_to_others(world):
    """One that stopped beating had a job: it is found, although its lock is still held, and done by somebody else."""
    config = settings_of(world())
    plan_id = plan_for_workers(config, "backfill")
    with queue_of(config) as queue:
        queue._app.connector.execute_query(
            "insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 hour')"
        )
        queue._app.connector.execute_query(
            "update procrastinate_jobs set status = 'doing', worker_id = (select max(id) from procrastinate_workers)"
        )

    let_work(config)

    assert wait_for(config, plan_id, quiet).fetched > 0


def test_a_plan_is_seen_among_the_runs_while_it_goes_on(world):
    """The dashboard and the API show it as running, with its windows, though no process of its own is there."""
    config = settings_of(world())
    plan_id = plan_for_workers(config, "backfill")

    def shown():
        with contextlib.closing(open_ledger(config.ledger_url)) as ledger:
            return one_run(ledger, plan_id, SystemClock().now_us())

    assert (shown().state, shown().progress.stage, shown().progress.total) == ("running", "windows", 5)
    let_work(config)
    assert (shown().state, shown().progress, shown().backfill.fetched > 0) == ("done", None, True)


def test_the_same_work_waits_once(world):
    """A job that is put in twice is there once; a repeated one does nothing."""
    config = settings_of(world())
    plan_id = plan_for_workers(config, "backfill")
    assert plan_for_workers(config, "backfill") == plan_id
    with queue_of(config) as queue:
        assert len(queue.keys()) == 5


def test_a_window_that_fails_is_tried_again(world):
    """A server that is away for a while costs tries, not traces."""
    faults = Faults.script([(nth(number, "GET", "/api/public/traces"), Fault.ERROR_BEFORE) for number in range(1, 9)])
    here = world(langfuse_faults=faults)
    config = settings_of(here)

    summary = planned(config, "backfill")

    assert summary.failed == 0
    assert faults.done


def test_a_refused_key_ends_the_plan_and_says_so(world):
    """What no try mends is not tried again: the plan fails, with the reason, and the run too."""
    here = world()
    config = settings_of(here)
    plan_id = plan_for_workers(config, "backfill")

    let_work(settings_of(here, LANGFUSE_SECRET_KEY="sk-lf-another"))

    with pytest.raises(ConfigError, match=r"backfill failed: .*answered 401"):
        wait_for(config, plan_id, quiet)
    (status,) = list_plans(config, 5)
    assert status.state == "failed"
    assert status.problems[0].state == "failed"
    assert here.ask("select problem <> '' from run where finished_at_us is not null") == [(True,)]


def test_a_worker_with_another_rate_card_does_nothing(world):
    """Two workers must not rate by two cards."""
    here = world()
    config = settings_of(here)
    plan_id = plan_for_workers(config, "backfill")

    let_work(settings_of(here, BILLING_MARGIN_MULTIPLIER="2"))

    with pytest.raises(ConfigError, match="is not the plan's"):
        wait_for(config, plan_id, quiet)
    assert here.ask("select 1 from entry") == []


def test_a_plan_that_is_cancelled_is_done_no_further(world):
    """Its jobs do nothing, its run ends, and a new plan may begin."""
    here = world()
    config = settings_of(here)
    plan_id = plan_for_workers(config, "backfill")

    assert cancel_plan(config, plan_id).state == "cancelled"
    let_work(config)

    assert here.ask("select 1 from trace") == []
    assert here.ask("select problem from run") == [("cancelled by hand",)]
    with pytest.raises(ConfigError, match="has ended already"):
        cancel_plan(config, plan_id)
    with pytest.raises(NotFound):
        cancel_plan(config, "0" * 32)
    assert plan_for_workers(config, "backfill") != plan_id


def test_another_range_waits_for_the_plan_that_goes_on(world):
    """Two backfills at once would read the same traces twice."""
    config = settings_of(world())
    plan_for_workers(config, "backfill")

    with pytest.raises(ConfigError, match="workers are at another backfill"):
        plan_for_workers(config, "backfill", from_us=SystemClock().now_us() - HOUR_US)


def test_a_sync_of_another_kind_is_waited_for(world):
    """An incremental sync goes on when the whole look-back is asked for: one follows the other."""
    here = world()
    config = settings_of(here)
    first = plan_for_workers(config, "sync")
    worker = threading.Thread(target=lambda: cancel_plan(config, first))
    worker.start()

    second = plan_for_workers(config, "sync", full=True)

    worker.join()
    assert second != first
    assert [plan.state for plan in list_plans(config, 5)] == ["going on", "cancelled"]


def test_workers_stop_by_a_word_and_leave_the_rest(world):
    """Told to stop, a worker ends between two steps; its window is open, and the next worker reads it."""
    here = world()
    config = settings_of(here)
    plan_id = plan_for_workers(config, "backfill")
    stop = threading.Event()
    stop.set()
    with queue_of(config) as queue:
        hands = working._Hands(config, queue, stop)
        # The last window, which has traces.
        (*_, job) = queue_jobs(config, plan_id)
        with contextlib.closing(hands), pytest.raises(tasks.TryAgain):
            hands.do(job)

    assert here.ask("select count(*) from plan_part where state = 'open'") == [(5,)]
    let_work(config)
    assert wait_for(config, plan_id, quiet).fetched > 0


def queue_jobs(config, plan_id):
    """What is to be done of a plan."""
    with contextlib.closing(open_ledger(config.ledger_url)) as ledger:
        return working.jobs_of(ledger, working.plan_of(ledger, plan_id))


@pytest.mark.databases(SQLITE)
def test_a_file_is_no_ledger_for_workers(settings):
    """Several machines cannot write a file: refused, before anything is done, with the way out."""
    for refused in (lambda: work(settings()), lambda: plan_for_workers(settings(), "backfill")):
        with pytest.raises(ConfigError, match=r"move the ledger to PostgreSQL \(docs/howto/postgres\.md\)"):
            refused()


def test_two_workers_may_make_the_queue_at_once(world):
    """Both open it; one makes its tables."""
    config = settings_of(world())
    problems = []

    def open_it():
        try:
            with queue_of(config):
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


# --- in the ledger, on both databases


@pytest.fixture
def decider(ledger, tmp_path):
    """A decider that knows what the ledger has billed."""
    return Decider(settings_for(tmp_path), "plan", NOW_US, ledger.billed_by_meter, ledger.rate_cards())


# Three cents, and a microsecond of compute time.
WORTH_MICROS = 750_000_021


def unit(number, cost):
    """An observation with a cost."""
    return Unit(f"o{number}", cost, None, 1, "m", None, NOW_US - HOUR_US, NOW_US - HOUR_US + 1, NOW_US)


@pytest.mark.databases(*DATABASES)
@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_neighbouring_windows_decide_a_trace_alike_in_any_order(ledger, decider, look, order):
    """Both hold observations of one trace: whoever decides first, what it comes to is the same, and nothing is left."""
    at_us = NOW_US - HOUR_US
    first = Reading(PROJECT, "t1", at_us, (unit(1, Decimal("0.01")),), True, attributes={"customerId": "cus_1"})
    second = Reading(PROJECT, "t1", at_us, (unit(2, Decimal("0.02")),), True, attributes={"customerId": "cus_1"})
    readers = {name: RunRef("plan", NOW_US, "digest", f"plan/{name}") for name in order}
    stage(ledger, readers["a"], [first])
    stage(ledger, readers["b"], [second])

    for name in order:
        assert decide_staged(ledger, readers[name], PROJECT, "", decider, 10).incomplete == []
        assert decide_staged(ledger, readers[name], PROJECT, "", decider, 10) is None

    assert look("select billed_micros, customer_id from trace") == [(WORTH_MICROS, "cus_1")]
    assert look("select sum(amount_micros) from entry") == [(WORTH_MICROS,)]
    assert look("select 1 from reading") == []


@pytest.mark.databases(*DATABASES)
def test_one_reader_does_not_decide_what_another_one_staged(ledger, decider):
    """Half of a window may be staged: only who reads it knows when it is whole."""
    mine, theirs = (RunRef("plan", NOW_US, "digest", f"plan/{name}") for name in "ab")
    stage(ledger, theirs, [Reading(PROJECT, "t1", NOW_US - HOUR_US, (), False)])

    assert decide_staged(ledger, mine, PROJECT, "", decider, 10) is None


@pytest.mark.databases(*DATABASES)
def test_what_a_cancelled_plan_staged_is_left_to_the_next_reader(ledger, decider, look):
    """None of its parts will decide it: it waits for whoever reads next, once for each trace."""
    put_plan(ledger, a_plan(), [])
    for number in (1, 2):
        run = RunRef("plan", NOW_US, "digest", f"plan/{number}")
        stage(ledger, run, [Reading(PROJECT, "t1", NOW_US - HOUR_US, (), True, attributes={"customerId": "cus_1"})])

    assert stop_plan(ledger, a_plan(), CANCELLED, "why not", NOW_US)

    assert look("select trace_id, staged_by from reading") == [("t1", "")]


def a_plan():
    """A plan that has just been made."""
    return Plan("plan", "backfill", READ, 0, None, NOW_US, NOW_US, "card", "{}")


@pytest.mark.databases(*DATABASES)
def test_a_part_ends_once(ledger, look):
    """A worker that comes back late changes nothing any more; the last part says that the stage is over."""
    parts = [Part("plan", READ, number) for number in range(2)]
    put_plan(ledger, a_plan(), parts)

    assert not end_part(ledger, parts[0], '{"rows":1}', NOW_US)
    assert not end_part(ledger, parts[0], '{"rows":2}', NOW_US)
    assert open_part(ledger, "plan", READ, 0) is None
    assert end_part(ledger, parts[1], "{}", NOW_US)
    assert look("select counts from plan_part order by number") == [('{"rows":1}',), ("{}",)]
    assert look("select done, total from run_progress") == [(2, 2)]


@pytest.mark.parametrize("hours", [0.1, 3, 24, 35 * 24])
@pytest.mark.parametrize("beyond", [True, False])
def test_windows_cover_a_range_without_a_gap(hours, beyond):
    """Each begins where the one before ended, from the beginning to the end, and they are few."""
    from_us = NOW_US - int(hours * HOUR_US)
    span = range_of(from_us, None if beyond else NOW_US, NOW_US, 900_000_000)

    windows = planning.windows_of(span)

    assert windows[0][0] == from_us
    assert windows[-1][1] == span.to_us
    assert all(first[1] == second[0] for first, second in pairwise(windows))
    assert all(start < end for start, end in windows)
    assert len(windows) <= planning.WINDOWS + 2


# --- budgets


class Waiting:
    """A clock that notes how long somebody would wait, in seconds, and does not."""

    def __init__(self):
        self.waited = []

    def now_us(self):
        return SystemClock().now_us()

    def sleep(self, seconds):
        self.waited.append(seconds)


def test_turns_of_two_workers_are_apart(ledger_url):
    """Whoever asks, in whatever order: each turn comes one interval after the one before, of all workers."""
    clock = Waiting()
    with contextlib.ExitStack() as stack:
        one, two = (SharedPace(ledger_url, "stripe", MINUTE_US, clock) for _ in range(2))
        for pace in (one, two):
            stack.callback(pace.close)
        for pace in (one, two, two, one):
            pace.wait()

    # The first need not wait.
    assert [round(seconds / 60) for seconds in clock.waited[-3:]] == [1, 2, 3]


def test_a_sync_by_hand_takes_turns_with_the_workers_while_they_have_a_plan(world):
    """Begun before there is one, it keeps the budget for itself."""
    here = world()
    config = replace(settings_of(here), langfuse_requests_per_minute=60_000)
    turns = "select count(*) from fact where name like 'turns at langfuse %'"
    sync(config)
    before = here.ask(turns)
    plan_for_workers(config, "sync")

    sync(config)

    assert (before, here.ask(turns)) == ([(0,)], [(1,)])


def test_turns_are_reserved_in_chunks_where_they_are_many(ledger_url, look):
    """One transaction for several requests."""
    pace = SharedPace(ledger_url, "stripe", 25_000, Waiting())
    with contextlib.closing(pace):
        pace.wait()
        before = look("select value from fact where name = 'turns at stripe'")
        pace.wait()
        assert look("select value from fact where name = 'turns at stripe'") == before


def test_turns_that_a_wrong_clock_reserved_hold_nobody_up(ledger):
    """A server whose clock was a day ahead, and is right again."""
    ledger.put_fact("turns at stripe", str(SystemClock().now_us() + DAY_US))

    assert reserve(ledger, "stripe", 1, MINUTE_US) == 0
    assert reserve(ledger, "stripe", 1, MINUTE_US) > 0


@pytest.mark.parametrize("error", [exceptions.ConnectorException(), PoolTimeout("no postgresql://someone:secret@host")])
def test_a_queue_that_cannot_be_used_is_told_without_the_servers_words(error):
    """They may hold an address with a password."""
    with pytest.raises(LedgerUnreachable) as found, tasks.said_as_ours():
        raise error
    assert "secret" not in str(found.value)
