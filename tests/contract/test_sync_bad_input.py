"""Whatever Langfuse sends: each trace has one clear outcome, nothing is lost, and the rest of the batch is unharmed."""

import pytest
from stub_services import Answers, Pages, row

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from databases import DATABASES
from tallymark.core.clock import DAY_US, format_time
from tallymark.errors import Garbled, KeyRefused, LedgerLocked, LedgerNewer, LedgerUnusable, Unavailable
from tallymark.failpoints import Step
from tallymark.ledger import sqlite
from tallymark.sandbox.story import PROMPT

LONG = "é" * 800


def results_of(summary):
    counted = {"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held}
    return {result: traces for result, traces in counted.items() if traces}


@pytest.fixture
def synced(run, settings):
    """A function that syncs one hand-made row between two good ones; returns how the bad one ended."""

    def sync_with(bad, *, good=2):
        server = Pages([row("good1"), bad, row("good2")])
        summary = run(settings(read_from=server, BILLING_MARKS="score"))
        results = results_of(summary)
        assert results.pop("processed") >= good
        return results

    return sync_with


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"totalCost": -0.5}, "unrated"),
        ({"totalCost": "NaN"}, "unrated"),
        ({"totalCost": "Infinity"}, "unrated"),
        ({"totalCost": 1e300}, "unrated"),
        ({"totalCost": 10**15 + 1}, "unrated"),
        ({"totalCost": 90_000_000_000}, "unrated"),
        ({"totalCost": None}, "unrated"),
        ({"totalCost": -1, "latency": -1}, "unrated"),
        ({"latency": -3}, "unrated"),
        ({"latency": "soon"}, "unrated"),
        ({"tags": "billing:pending"}, "unrated"),
        ({"metadata": "text"}, "no_customer"),
        ({"metadata": ["a"]}, "no_customer"),
        ({"metadata": {"customerId": {"id": "cus_1"}}}, "no_customer"),
        ({"metadata": {"customerId": "  "}}, "no_customer"),
        ({"metadata": {"customerId": "cus_1", "stripeCustomerId": "cus_2"}}, "no_customer"),
        ({"metadata": {"customerId": "cus_1", "aiCredentialsOwnership": "nobody"}}, "unrated"),
        ({"totalCost": 0, "latency": 0}, "no_billable_usage"),
        ({"timestamp": "2026-10-01T00:00:00.000Z"}, "too_old"),
        ({"timestamp": "2026-12-01T00:00:00.000Z"}, "future_timestamp"),
        ({"tags": ["billing:processed"]}, "already_processed"),
        ({"timestamp": "2026-11-23T11:00:00"}, "failed"),
        ({"timestamp": "long ago"}, "failed"),
        ({"id": None}, "failed"),
    ],
)
def test_a_bad_row_ends_somewhere_and_the_others_are_billed(synced, stripe, changes, ending):
    """Held or skipped with its reason, or failed if it has no identity; never billed at a guess."""
    assert synced(row("bad", **changes)) == {ending: 1}
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


@pytest.mark.parametrize(
    ("changes", "customer"),
    [
        ({"metadata": {"customerId": 12345}}, "12345"),
        ({"metadata": {"stripeCustomerId": "cus_9"}}, "cus_9"),
        ({"unknown": {"deep": [1]}, "links": None}, "cus_1"),
        ({"id": LONG}, "cus_1"),
        ({"name": "☃" * 300, "userId": "用户", "environment": ""}, "cus_1"),
        ({"metadata": {"customerId": "客户-1"}}, "客户-1"),
        ({"totalCost": 0.010000, "latency": 12.000}, "cus_1"),
    ],
)
def test_odd_but_honest_rows_are_billed(synced, stripe, changes, customer):
    """Numbers as ids, unknown fields, unicode, ids of 800 characters."""
    assert synced(row(**{"id": "odd", **changes}), good=3) == {}
    assert stripe.tally()[customer, "credits"] >= CREDITS_OF_A_TRACE


@pytest.mark.databases(*DATABASES)
@pytest.mark.parametrize("character", ["\0", "\ud83d", "\ude00"], ids=["NUL", "first half", "second half"])
def test_a_character_that_no_database_takes_stops_nothing(synced, look, stripe, character):
    """NUL, and half of a surrogate pair, are spelled out on their way in, in ids, names, metadata and prompts alike."""
    spelled = f"\\u{ord(character):04x}"
    odd = {
        "name": f"a{character}b",
        "userId": character,
        "input": [character],
        "metadata": {"customerId": f"c{character}"},
    }

    assert synced(row(f"t{character}", **odd), good=3) == {}
    assert look("select name, user_id, customer_id from trace where trace_id = ?", f"t{spelled}") == [
        (f"a{spelled}b", spelled, f"c{spelled}")
    ]
    assert stripe.tally()[f"c{spelled}", "credits"] == CREDITS_OF_A_TRACE


def test_the_same_trace_on_two_dates_is_billed_once(put, langfuse, run, stripe, settings):
    """ClickHouse keeps two rows of one id on two dates for ever; both show the whole cost."""
    put("t1", minutes_ago=30)
    langfuse.duplicate_trace(PROJECT, "t1", format_time(NOW_US - 2 * DAY_US))
    put("t2", minutes_ago=60)

    summary = run()

    assert (summary.fetched, summary.processed) == (2, 2)
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
    run(full=True)
    assert run(settings(BILLING_SYNC_WINDOW_HOURS="1"), full=True).fetched == 2
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


def test_a_hundred_held_traces_with_long_ids_are_read_again(put, run, settings, stripe):
    """When a customer is mapped, whatever the length of their ids."""
    for number in range(100):
        put(f"{number:03d}{LONG[3:]}", customer=None, minutes_ago=2 * 24 * 60)
    assert run().held["no_customer"] == 100

    assert run(settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9")).processed == 100
    assert stripe.tally() == {("cus_9", "credits"): 100 * CREDITS_OF_A_TRACE}


def test_no_prompt_reaches_the_ledger(put, run, ledger_path):
    """Not a byte of input or output is on disk (G7)."""
    put("t1", input={"messages": [{"role": "user", "content": PROMPT}]}, output=PROMPT)

    run()

    files = list(ledger_path.parent.iterdir())
    assert files
    assert all(b"secret prompt" not in file.read_bytes() for file in files)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answers(200, b"<html>Log in</html>"), Garbled),
        (Answers(200, b'{"status":'), Garbled),
        (Answers(503, b""), Unavailable),
        (Answers(401, b'{"message":"Invalid credentials"}'), KeyRefused),
    ],
)
def test_a_server_that_is_no_langfuse_writes_nothing(run, settings, stripe, answer, error):
    """An error with what to look at; nothing is sent."""
    with pytest.raises(error):
        run(settings(read_from=answer))

    assert stripe.meter_events() == []


def test_wrong_langfuse_keys_name_their_variables(put, run, settings):
    """Exit 2."""
    put("t1")
    with pytest.raises(KeyRefused, match="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY") as caught:
        run(settings(LANGFUSE_SECRET_KEY="sk-lf-wrong"))

    assert caught.value.exit_status == 2


# ---- a ledger that cannot be used stops the run before anything is sent


def test_a_ledger_that_is_locked(put, run, look, ledger, stripe, monkeypatch):
    """Exit 4, nothing sent, and the next run bills."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    put("t1")
    with ledger._db.transaction(Step.RECORD), pytest.raises(LedgerLocked) as caught:
        run()

    assert caught.value.exit_status == 4
    assert stripe.meter_events() == []
    assert run().processed == 1


def test_a_ledger_of_a_newer_version(put, run, ledger, stripe):
    """Exit 4."""
    ledger._db._connection.execute("pragma user_version = 99")
    put("t1")
    with pytest.raises(LedgerNewer):
        run()

    assert stripe.counts() == {}


def test_a_ledger_that_is_a_folder(put, run, settings, tmp_path, stripe):
    """Exit 4."""
    put("t1")
    with pytest.raises(LedgerUnusable):
        run(settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path}"))

    assert stripe.counts() == {}
