"""The checklist of a period: each line fails for its own reason, says how much waits, and passes once it is mended."""

import contextlib
from urllib.parse import urlencode

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested, no_summaries
from databases import DATABASES, SQLITE
from tallymark.api import held
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_time
from tallymark.core.reports import ERROR_REPORT, ErrorReport, Notification
from tallymark.errors import RemoteError
from tallymark.flows import held_decisions
from tallymark.flows.close import close_period
from tallymark.flows.closing import Period
from tallymark.flows.reconcile import reconcile
from tallymark.ledger.reports import apply_report, put_notifications
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request

# What rests on statements of the checklist runs on both databases, the rest on one.
ON_ONE = pytest.mark.databases(SQLITE)
pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

FROM_US = parse_time("2026-11-23T00:00:00Z")
TO_US = parse_time("2026-11-23T11:00:00Z")
OPTIONS = "--from 2026-11-23 --to 2026-11-23T11:00:00.000Z"
INSIDE_US = TO_US - HOUR_US
WORTH = f"{CREDITS_OF_A_TRACE}.000000"
METER_EVENTS = "/v1/billing/meter_events"
EVERY_LINE = ["read", "open", "held", "unpriced", "in_doubt", "rejected", "reports", "marks", "drift", "proof"]


@pytest.fixture
def put(put):
    """A function that writes one trace of the period."""
    return lambda trace_id, **changes: put(trace_id, **{"at_us": INSIDE_US, **changes})


@pytest.fixture
def close(ledger, settings, clock):
    """A function that closes the period; the closing."""

    def checked(to=None, customer="", from_us=FROM_US, to_us=TO_US):
        return close_period(ledger, to or settings(), Period(from_us, to_us, customer), clock.now_us())

    return checked


@pytest.fixture
def failing(close):
    """A function that closes the period; what each line that fails says: (credits, traces, what to run)."""

    def failed(*args, **named):
        lines = [line for line in close(*args, **named).checks if not line.passed]
        assert all(line.run for line in lines)
        return {line.check: (line.credits, line.traces, line.run) for line in lines}

    return failed


@pytest.fixture
def compare(settings, clock):
    """A function that reconciles the period."""
    return lambda to=None: reconcile(to or settings(), from_us=FROM_US, to_us=TO_US, clock=clock)[0]


def only_at(path):
    """Faults that break every request to a path."""
    return Faults(0, {Fault.RESET_AFTER: 1}, only=lambda request: request.path == path)


def but_for_reconcile(failed):
    """What fails besides the two lines that rest on a reconciliation."""
    return {check: said for check, said in failed.items() if check not in ("drift", "proof")}


# ---- all of it


def test_a_period_that_is_billed_and_reconciled_passes(put, run, compare, close, ledger):
    """Every line is there, in its order, and names nothing to run; the heads are the ledger's."""
    put("t1")
    run()
    compare()

    closing = close()

    assert [(line.check, line.passed, line.run) for line in closing.checks] == [(name, True, "") for name in EVERY_LINE]
    assert closing.passed and closing.exit_status == 0
    assert (closing.entries, closing.decisions) == (ledger.chain_head("entry"), ledger.chain_head("decision"))


def test_what_waits_in_another_period_or_for_another_customer_does_not_count(put, run, compare, failing):
    """A held trace after the period's end; one of another customer counts only where all are asked for."""
    put("t1")
    put("after", at_us=TO_US, customer=None)
    put("other", customer="cus_2", cost="0.02")
    run()
    compare()
    assert failing() == {}

    put("without", customer=None)
    run(full=True)
    # It may be anybody's.
    assert set(but_for_reconcile(failing(customer="cus_1"))) == {"held: no_customer"}


@ON_ONE
def test_no_request_is_made(put, run, compare, close, settings, langfuse, stripe):
    """The ledger alone answers: addresses where nobody is give the same."""
    put("t1")
    run()
    compare()
    alone = settings(STRIPE_API_BASE="http://127.0.0.1:9")

    assert close(alone) == close()


# ---- read


def test_what_was_never_read_fails(failing, run, clock):
    """An empty ledger has nothing to bill, and nobody knows."""
    assert failing()["read"] == (None, None, "tallymark sync --from 2026-11-23")

    run(from_us=FROM_US)

    assert "read" not in failing()


@ON_ONE
def test_a_period_whose_beginning_was_not_read_fails(run, failing):
    """A sync from then on reads it, and joins what was read before."""
    early_us = FROM_US - 10 * DAY_US
    run()
    assert failing(from_us=early_us)["read"][2] == "tallymark sync --from 2026-11-13"

    run(from_us=early_us)

    assert "read" not in failing(from_us=early_us)


@ON_ONE
def test_a_period_that_is_not_over_or_settles_fails_until_it_is_read(run, failing, close, clock):
    """It fails at its end, too: its last traces are not read before they settle."""
    run()
    until_us = NOW_US + HOUR_US
    assert failing(to_us=until_us)["read"][2] == "tallymark sync"
    assert "not over" in close(to_us=until_us).checks[0].detail

    clock.advance(3600)
    run()
    assert "not over" in close(to_us=until_us).checks[0].detail

    clock.advance(3600)
    assert "read up to" in close(to_us=until_us).checks[0].detail and "read" in failing(to_us=until_us)

    run()
    assert "read" not in failing(to_us=until_us)


@ON_ONE
def test_what_a_wrong_clock_says_was_read_does_not_count(run, failing, look):
    """Nobody can have read the future; a sync reads the look-back again."""
    run()
    look("update coverage set to_us = ?", NOW_US + DAY_US)
    assert failing()["read"][2] == "tallymark sync"

    run()

    assert "read" not in failing()


@ON_ONE
def test_every_project_is_read(run, failing, settings):
    """What another project's keys read says nothing of this one."""
    run()
    assert "read" not in failing()
    assert failing(settings(LANGFUSE_PUBLIC_KEY="pk-lf-other"))["read"][2] == "tallymark sync --from 2026-11-23"


@ON_ONE
def test_reading_by_tag_counts_where_tags_are_filtered_by(run, failing, settings):
    """It says nothing about untagged traces, so elsewhere it does not count."""
    by_tag = settings(BILLING_USE_TAG_FILTERING="true")
    run(by_tag)

    assert "read" in failing()
    assert "read" not in failing(by_tag)


# ---- open, held, unpriced


def test_lines_that_are_not_gathered_are_open(put, run, run_backfill, failing, close):
    """A backfill sends nothing; the next sync does."""
    put("t1")
    run_backfill()
    assert failing()["open"] == (WORTH, 1, "tallymark sync")
    assert "1 not gathered" in close().checks[1].detail

    run()

    assert "open" not in failing()


def test_what_stripe_did_not_answer_is_open(put, run, settings, failing, close, clock):
    """It is on the way until an answer is known."""
    put("t1")
    run(settings(stripe_faults=only_at(METER_EVENTS)))
    assert failing()["open"] == (WORTH, 1, "tallymark sync")
    assert "1 on the way to Stripe" in close().checks[1].detail

    clock.advance(600)
    run()

    assert "open" not in failing()


def test_a_trace_that_is_read_in_part_is_open(close, failing, look):
    """Its observations wait for the rest of their window."""
    row = (PROJECT, "t1", INSIDE_US, 1, 0, 0, None, None, None, None, None, "default", 0, 0, "[]", "{}", "", "")
    look(f"insert into reading values ({', '.join('?' * len(row))})", *row)
    assert failing()["open"] == ("0.000000", 1, "tallymark sync")
    assert close().checks[1].detail == "1 not decided yet"

    look("delete from reading")

    assert "open" not in failing()


@ON_ONE
def test_a_trace_without_a_customer_is_held_until_one_is_named(put, run, settings, failing, clock):
    """The line names the reason, its worth, and where to look."""
    put("t1", customer=None)
    run()
    assert but_for_reconcile(failing()) == {"held: no_customer": (WORTH, 1, "tallymark held list --reason no_customer")}

    held_decisions.release(settings(), ["t1"], "customer", customer_id="cus_1", why="mail", by="anna", clock=clock)
    run()

    assert but_for_reconcile(failing()) == {}


def test_usage_whose_invoice_is_final_is_held_until_it_is_decided(put, run, settings, failing, clock, stripe):
    """Billed now, it is usage of another period."""
    boundary_us = TO_US - 30 * MINUTE_US
    stripe.add_subscription("cus_1", "credits", started_at_us=boundary_us - 20 * DAY_US, period="day")
    put("late", at_us=boundary_us - 20 * MINUTE_US)
    run()
    assert but_for_reconcile(failing()) == {"held: late_period": (WORTH, 1, "tallymark held list --reason late_period")}

    (identifier,) = held_ids(settings)
    held_decisions.release(settings(), [identifier], "bill-now", why="mail", by="anna", clock=clock)
    run()

    assert but_for_reconcile(failing()) == {}


@ON_ONE
def test_a_trace_without_a_price_fails_until_it_has_one(put, run, failing):
    """Nobody knows what it is worth."""
    put("t1", cost=None)
    run()
    assert but_for_reconcile(failing()) == {
        "unpriced: unpriced": ("0.000000", 1, "tallymark held list --reason unpriced")
    }

    put("t1")
    run(full=True)

    assert but_for_reconcile(failing()) == {}


@ON_ONE
def test_a_part_without_a_price_of_a_billed_trace_fails_until_it_has_one(run, settings, failing, close, clock):
    """What was billed stays, and what the rest is worth nobody knows; it is not among what is held."""
    langfuse = SandboxLangfuse(clock=clock, generation="events_only")
    config = settings(read_from=langfuse)
    trace, (generation,) = ingested("t1", at_us=INSIDE_US)
    langfuse.put_trace(PROJECT, trace, [generation])
    run(config)
    later = {**generation, "id": "later", "costDetails": None}
    langfuse.put_trace(PROJECT, trace, [later])
    run(config, full=True)
    expected = ("0.000000", 1, f"tallymark sync {OPTIONS}")
    assert but_for_reconcile(failing(config)) == {"unpriced: unpriced": expected}
    assert close(config).checks[3].detail.startswith("1 of them billed but for a part")

    langfuse.put_trace(PROJECT, trace, [{**later, "costDetails": {"total": 0.01}}])
    run(config, from_us=FROM_US, to_us=TO_US)

    assert but_for_reconcile(failing(config)) == {}


# ---- sent, and then


def test_what_is_in_doubt_fails_until_it_is_settled(put, run, settings, failing, clock):
    """Never answered, and too old to be sent again; a later sync asks Stripe's sums."""
    put("t1")
    run(settings(stripe_faults=only_at(METER_EVENTS)))
    clock.advance(30 * 3600)
    run(settings(stripe_faults=no_summaries()))
    assert but_for_reconcile(failing()) == {"in_doubt": (WORTH, 1, "tallymark held list --reason in_doubt")}

    clock.advance(3600)
    run()

    assert but_for_reconcile(failing()) == {}


@ON_ONE
def test_what_stripe_rejects_fails_until_it_is_counted(put, run, settings, failing, clock):
    """It knows no such customer, and says so a quarter of an hour later."""
    strict = SandboxStripe(clock=clock, any_customer=False)
    strict.add_meter("credits")
    config = settings(bill_to=strict)
    put("t1")
    run(config)
    clock.advance(900)
    run(config)
    assert but_for_reconcile(failing(config)) == {"rejected": (WORTH, 1, "tallymark held list --reason rejected")}

    strict.add_customer("cus_1")
    clock.advance(900)
    run(config)

    assert but_for_reconcile(failing(config)) == {}


def test_a_report_fails_until_it_is_explained(put, run, failing, ledger):
    """Of the period's usage or of a later one's: it does not say. One from before it speaks of earlier usage."""
    run()
    put_notifications(ledger, [Notification("evt_0", ERROR_REPORT, FROM_US - DAY_US, "mtr_1")], NOW_US)
    assert "reports" not in failing()
    put_notifications(ledger, [Notification("evt_1", ERROR_REPORT, NOW_US, "mtr_1")], NOW_US)
    assert failing()["reports"] == (None, None, "tallymark held list")

    apply_report(ledger, ErrorReport("evt_1", ERROR_REPORT, "mtr_1", "credits", NOW_US, NOW_US, ()), NOW_US)

    assert "reports" not in failing()


def test_a_mark_that_is_not_written_fails_until_it_is(put, run, settings, failing):
    """The money is accepted; only Langfuse does not show it."""
    put("t1")
    refused = {"/api/public/ingestion"}
    config = settings(langfuse_faults=Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path in refused))
    with contextlib.suppress(RemoteError):
        run(config)
    assert but_for_reconcile(failing(config)) == {"marks": (WORTH, 1, "tallymark sync")}

    refused.clear()
    run(config)

    assert but_for_reconcile(failing(config)) == {}


# ---- drift and proof


@ON_ONE
def test_without_a_reconciliation_of_the_period_it_fails(put, run, failing, settings, clock, compare):
    """One of another time, or one that began before the period's end, does not speak for it."""
    put("t1")
    run()
    reconcile(settings(), from_us=FROM_US + HOUR_US, to_us=TO_US, clock=clock)
    command = f"tallymark reconcile {OPTIONS}"
    assert failing() == {"drift": (None, None, command), "proof": (None, None, command)}

    reconcile(settings(), from_us=FROM_US, to_us=TO_US + HOUR_US, clock=clock)

    assert failing() == {}
    assert "drift" in failing(to_us=NOW_US + 1)


@ON_ONE
def test_a_reconciliation_before_the_periods_end_does_not_speak_for_it(run, settings, failing, clock):
    """Its last window was whole, and half of it was still to come."""
    until_us = NOW_US + 30 * MINUTE_US
    run()
    clock.advance(600)
    found, _ = reconcile(settings(), from_us=FROM_US, to_us=until_us, clock=clock)
    assert parse_time(found.to) > until_us

    clock.advance(3600)

    assert "drift" in failing(to_us=until_us)


def test_a_difference_that_nothing_explains_fails(put, run, stripe, compare, failing):
    """Somebody else wrote to the meter in the period. A customer who has no part in it passes."""
    put("t1")
    put("t2", customer="cus_2")
    run()
    write(stripe, "10", INSIDE_US)
    compare()

    assert failing() == {"drift": ("10.000000", None, f"tallymark reconcile {OPTIONS}")}
    assert failing(customer="cus_2") == {}
    assert failing(from_us=INSIDE_US + HOUR_US // 2, to_us=TO_US - 1)["drift"][0] == "10.000000"


def test_lines_that_came_after_the_reconciliation_fail_until_it_runs_again(put, run, compare, failing):
    """It did not see them. What comes in another period changes nothing."""
    put("t1")
    run()
    compare()
    put("t2", at_us=TO_US + MINUTE_US)
    run(full=True)
    assert failing() == {}
    put("t3")
    run(full=True)
    assert failing() == {"drift": (WORTH, None, f"tallymark reconcile {OPTIONS}")}

    compare()

    assert failing() == {}


@ON_ONE
def test_usage_that_was_still_to_be_billed_at_the_reconciliation_fails_until_it_runs_again(put, run, compare, failing):
    """Every difference had a cause, and the cause has gone since."""
    run()
    put("t1")
    compare()
    assert failing() == {"drift": (WORTH, None, f"tallymark reconcile {OPTIONS}")}

    run(full=True)
    compare()

    assert failing() == {}


def test_a_ledger_that_is_not_as_it_was_noted_fails(put, run, compare, failing, look, ledger):
    """The noted head is gone from it: verify recomputes the rest."""
    put("t1")
    run()
    compare()
    head = ledger.chain_head("entry")
    other = head[:2] + "0" * 64
    look("update run set summary = replace(summary, ?, ?)", head, other)

    assert failing() == {"proof": (None, None, f"tallymark ledger verify --expect {other}")}


def held_ids(settings):
    """The meter events that are held."""
    return [row["identifier"] for row in held(settings())["meter_events"]]


def write(stripe, value, at_us):
    """Somebody else sends credits."""
    form = {"event_name": "credits", "identifier": "not ours", "timestamp": at_us // SECOND_US}
    form |= {"payload[stripe_customer_id]": "cus_1", "payload[value]": value}
    key = {"authorization": "Bearer sk_test_sandbox"}
    assert stripe.handle(Request("POST", METER_EVENTS, (), key, urlencode(form).encode())).status == 200
