"""What observations of every kind come to: one trace of many rows, whose it is, its cost and its time."""

import random
from decimal import Decimal

import pytest
from observation_services import (
    ObservationPages,
    cost,
    credits,
    observation,
    results_of,
    send_cost,
    send_span,
    started,
)

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import MINUTE_US, SECOND_US, format_time, parse_time
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe


@pytest.fixture
def langfuse(clock):
    """An events_only sandbox."""
    return SandboxLangfuse(clock=clock, generation="events_only")


# ---- one trace, many rows


def test_the_newest_of_two_versions_counts_once(clock, run, settings, balance):
    """A span that was sent again stands there twice until it is merged, in either order."""
    langfuse = SandboxLangfuse(clock=clock, generation="events_only", unmerged_seconds=600)
    said = {"langfuse__trace__metadata__customerId": "cus_1"}
    for usd in (0.03, 0.01):
        send_cost(langfuse, "t1", "o1", usd, parent="", **said)
        clock.advance(1)
    assert len(langfuse.rows(PROJECT, "t1")) == 2

    run(settings(read_from=langfuse))
    assert balance() == credits(250)
    clock.advance(700)
    assert run(settings(read_from=langfuse), full=True).adjusted == 0
    assert balance() == credits(250)


@pytest.mark.parametrize("order", [1, -1])
def test_versions_on_different_pages_count_once(order, bill):
    """The newest by updatedAt, wherever it stands."""
    versions = [
        [observation(updatedAt=f"2026-11-23T11:00:1{second}.000Z", **cost(usd))] for second, usd in ((3, 1), (4, 0.01))
    ]

    assert bill(*versions[::order])[1] == credits(CREDITS_OF_A_TRACE)


def test_a_newer_version_that_is_cheaper_gives_back(langfuse, run, clock, balance):
    """An adjustment below zero waits in the carry (docs/adr/0005)."""
    said = {"langfuse__trace__metadata__customerId": "cus_1"}
    send_cost(langfuse, "t1", "o1", 0.03, parent="", **said)
    run()
    clock.advance(60)
    send_cost(langfuse, "t1", "o1", 0.01, parent="", **said)

    assert run().adjusted == 1
    assert balance() == credits(250)


def test_synthetic_rows_are_no_usage_but_their_word_counts(bill):
    """The row t-<trace id> has no cost of its own; customer and tags may stand only there."""
    synthetic = observation("t-t1", startTime="2026-11-23T10:59:00.000Z", endTime=None, costDetails={"total": 9.0})
    child = observation("o1", parentObservationId="t-t1", metadata={}, tags=[])

    summary, billed = bill([child, synthetic])

    assert (summary.processed, summary.untagged) == (1, 0)
    assert billed == credits(CREDITS_OF_A_TRACE)


def test_a_synthetic_row_says_when_the_trace_was(bill, stripe):
    """Its time is the trace's own: the bucket follows it, and not the root's start."""
    synthetic = observation("t-t1", startTime="2026-11-23T09:59:59.999Z", endTime=None, costDetails={})
    bill([observation(parentObservationId="t-t1"), synthetic])

    [sent] = stripe.meter_events()
    assert format_time(sent.timestamp_seconds * SECOND_US).startswith("2026-11-23T09:59:59")


def test_a_synthetic_row_is_right_even_if_a_root_is_earlier(bill, stripe):
    """A root span of a clock that is behind does not move the trace into another hour."""
    synthetic = observation("t-t1", startTime="2026-11-23T11:00:00.000Z", endTime=None, costDetails={})
    bill([synthetic, observation(startTime="2026-11-23T10:59:59.000Z")])

    [sent] = stripe.meter_events()
    assert sent.timestamp_seconds % 3600 == 0


@pytest.mark.parametrize("order", [1, -1])
def test_the_root_has_the_first_word(order, bill, look):
    """Where observations differ in user, session or name, the root's counts, whichever comes first."""
    root = observation(userId="user-1", sessionId="session-1", traceName="of the root")
    child = observation("o2", parentObservationId="o1", userId="user-2", sessionId="session-2", traceName="of a child")

    bill(*[[row] for row in (root, child)[::order]])

    assert look("select user_id, session_id, name from trace") == [("user-1", "session-1", "of the root")]


def test_a_held_trace_is_billed_in_the_time_of_its_root(langfuse, run, settings, stripe):
    """The root comes last, and began in the hour before its children: that hour is billed (G3)."""
    to = settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_1")
    send_cost(langfuse, "t1", "child", 0.01, at_us=NOW_US - 60 * MINUTE_US)
    assert results_of(run(to)) == {"no_customer": 1}
    send_span(langfuse, "t1", "root", parent="", at_us=NOW_US - 61 * MINUTE_US)

    run(to)

    [sent] = stripe.meter_events()
    assert sent.timestamp_seconds * SECOND_US == NOW_US - 61 * MINUTE_US
    assert langfuse.scores(PROJECT, "t1")[0]["timestamp"] == format_time(NOW_US - 61 * MINUTE_US)


def test_empty_text_is_absent(run, settings, balance):
    """An unset user is '' and no user; a customer of '' is no customer."""
    row = observation(userId="", sessionId="", traceName="", metadata={"customerId": ""}, environment="")
    service = ObservationPages([row])

    assert results_of(run(settings(read_from=service))) == {"no_customer": 1}


def test_interleaved_traces_are_each_one_trace(langfuse, write, run, balance):
    """Traces whose observations lie mixed over several pages and windows, in any order of arrival."""
    chance = random.Random(4)
    numbers = list(range(120))
    chance.shuffle(numbers)
    for number in numbers:
        minutes = 17 + number % 7
        parts = [(minutes + 60 * 24 * 3, {**cost(0.001)})] + [
            (minutes + chance.randrange(60 * 24 * 3), cost(0.001)) for _ in range(19)
        ]
        write(f"t{number}", *parts, customer=f"cus_{number}", on="root")

    summary = run()

    assert summary.fetched == summary.processed == 120
    billed = balance()
    for number in range(120):
        rows = langfuse.rows(PROJECT, f"t{number}")
        assert billed[f"cus_{number}"] == pytest.approx(worth_of(rows), abs=1)


def worth_of(rows):
    """Micro-credits of the rows of a trace at the default prices: 25,000 credits a dollar, 250 for 12 seconds."""
    usd = sum(Decimal(str(row["costDetails"].get("total", 0))) for row in rows)
    ends = [one for row in rows for one in (row["startTime"], row["endTime"]) if one]
    seconds = Decimal(parse_time(max(ends)) - parse_time(min(ends))) / SECOND_US
    return round((usd * 25_000 + seconds * 250 / 12) * CREDIT_MICROS)


def test_the_root_may_come_last(bill):
    """Children first, on their own pages, the root with the customer last."""
    children = [observation(f"o{n}", parentObservationId="root", metadata={}, tags=[], **cost(0.01)) for n in range(3)]
    root = observation("root", costDetails={}, usageDetails={})

    summary, billed = bill(*[[child] for child in children], [root])

    assert (summary.processed, summary.untagged) == (1, 0)
    assert billed == credits(3 * 250 + 250)


# ---- whose a trace is


def test_the_customer_may_be_on_the_root_or_on_every_span(write, run, balance):
    """SDK 3 and SDK 4 and 5 (facts/langfuse-observed.md item 29)."""
    for on in ("root", "every"):
        write(f"t-{on}", (60, cost(0.01)), (60, cost(0.01)), customer=f"cus_{on}", on=on)

    assert run().processed == 2
    assert balance() == {"cus_root": 750 * CREDIT_MICROS, "cus_every": 750 * CREDIT_MICROS}


def test_a_trace_without_a_root_is_billed_if_its_spans_name_the_customer(langfuse, run, balance):
    """The root may never come."""
    send_cost(langfuse, "t1", "o1", 0.01, langfuse__trace__metadata__customerId="cus_1")

    assert run().processed == 1
    assert balance() == credits(250)


def test_a_trace_without_a_root_waits_before_the_default_customer_gets_it(langfuse, run, settings, balance, clock):
    """The root may name another customer; when it has come, it decides."""
    to = settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_default")
    for trace_id in ("t1", "t2"):
        send_cost(langfuse, trace_id, f"{trace_id}-child", 0.01)
    assert results_of(run(to)) == {"no_customer": 2}

    send_span(langfuse, "t1", "root-1", parent="", langfuse__trace__metadata__customerId="cus_1")
    send_span(langfuse, "t2", "root-2", parent="")

    assert run(to).processed == 2
    assert balance() == {"cus_1": 250 * CREDIT_MICROS, "cus_default": 250 * CREDIT_MICROS}


def test_a_root_with_a_parent_in_another_service_is_the_root(langfuse, run, settings, balance):
    """SDK 4 and 5 name it (langfuse.internal.is_app_root); its parent never comes to Langfuse."""
    send_cost(langfuse, "t1", "o1", 0.01, langfuse__internal__is_app_root=True)

    assert run(settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_1")).processed == 1
    assert balance() == credits(250)


def test_a_trace_that_began_before_the_range_is_read_in_full(write, run, stripe, balance):
    """Only its last child lies in the range: it is billed as one trace, in its own hour, and never a second time."""
    start = {**started(200, 0), **cost(0.01)}
    write("t1", (200, start), (50, {**started(50, 0), **cost(0.01)}))

    run(from_us=NOW_US - 60 * MINUTE_US)

    whole = 500 * CREDIT_MICROS + round(150 * 60 * 250 / 12) * CREDIT_MICROS
    assert balance() == {"cus_1": whole}
    [sent] = stripe.meter_events()
    assert format_time(sent.timestamp_seconds * SECOND_US) == start["startTime"]
    assert (run(full=True).adjusted, balance()) == (0, {"cus_1": whole})


def test_customers_that_contradict_each_other_are_held(bill):
    """Neither is guessed, in no order of pages."""
    rows = [observation("o1"), observation("o2", metadata={"customerId": "cus_2"}, parentObservationId="o1")]

    summary, billed = bill([rows[0]], [rows[1]])

    assert (results_of(summary), billed) == ({"no_customer": 1}, {})


@pytest.mark.parametrize("said", ["12345", 12345])
def test_a_customer_as_a_number_is_the_same_customer(said, bill, stripe):
    """Langfuse gives "12345" back as a number (facts/langfuse-observed.md item 7)."""
    rows = [observation(metadata={"customerId": "12345"}), observation("o2", metadata={"customerId": said})]
    bill(rows)

    assert list(stripe.tally()) == [("12345", "credits")]


def test_a_second_customer_after_billing_is_held_and_what_was_billed_stays(langfuse, run, balance):
    """A late span that names another customer: nobody is billed for it, every run says so, and no bill changes."""
    send_cost(langfuse, "t1", "o1", 0.01, parent="", langfuse__trace__metadata__customerId="cus_1")
    assert run().processed == 1
    send_cost(langfuse, "t1", "o2", 0.02, langfuse__trace__metadata__customerId="cus_2")

    assert [results_of(run()), results_of(run(full=True))] == [{"no_customer": 1}] * 2
    assert balance() == credits(250)


def test_ownership_that_contradicts_itself_is_held(bill):
    """Whose keys were used is not guessed either."""
    said = {who: {"customerId": "cus_1", "aiCredentialsOwnership": who} for who in ("user", "platform")}
    rows = [observation(who, metadata=metadata) for who, metadata in said.items()]

    assert results_of(bill(rows)[0]) == {"unrated": 1}


def test_long_metadata_is_read_in_full(write, run, look):
    """The table holds 200 characters of a value, unless the key is expanded (facts/langfuse.md section 2.2)."""
    customer = "cus_" + "x" * 240
    write("t1", (60, {}), customer=customer)

    run()

    assert look("select customer_id from trace") == [(customer,)]


def test_tags_with_commas_are_one_tag(write, run):
    """Here tags are lists: "billing:pending,x" is another tag than billing:pending."""
    write("t1", (60, {}), tags=["billing:pending,billing:processed", "a,b"])
    write("t2", (60, {}), tags=["a,b", "billing:processed"])

    summary = run()

    assert results_of(summary) == {"processed": 1, "already_processed": 1}
    assert summary.untagged == 1


# ---- cost and time


@pytest.mark.parametrize(
    ("costs", "found"),
    [
        ({"total": 0.02, "input": 5}, 500),
        ({"input": 0.01, "output": 0.01}, 500),
        ({"input": 0.004, "output": 0.004, "input_cached_tokens": 0.012}, 500),
        ({"total": None, "input": 0.02}, 500),
    ],
)
def test_the_cost_is_the_total_or_else_the_sum_of_the_parts(costs, found, bill):
    """facts/langfuse.md section 12."""
    assert bill([observation(costDetails=costs, endTime=None)])[1] == credits(found)


@pytest.mark.parametrize("costs", [{}, None, {"total": None}, {"total": 0}])
def test_tokens_without_a_cost_are_unpriced(costs, bill):
    """Held, never free; and so is a trace of which one observation is unpriced."""
    rows = [observation(costDetails=costs), observation("o2")]

    assert results_of(bill(rows)[0]) == {"unpriced": 1}


@pytest.mark.parametrize(
    ("times", "found"),
    [
        # No end: the moment of its start.
        ([{"endTime": None}], 250),
        ([{"endTime": None}, {"startTime": "2026-11-23T11:00:06.000Z", "endTime": None}], 500 + 125),
        # An end before its start, and a child that begins before its parent: first moment to last.
        ([{"endTime": "2026-11-23T10:59:48.000Z"}], 500),
        ([{}, {"startTime": "2026-11-23T10:59:48.000Z", "endTime": "2026-11-23T10:59:50.000Z"}], 500 + 500),
        # Gaps count, as in the trace list's latency.
        ([{}, {"startTime": "2026-11-23T11:00:48.000Z", "endTime": "2026-11-23T11:01:00.000Z"}], 500 + 1250),
        # Whole milliseconds, as the trace list has them.
        ([{"endTime": "2026-11-23T11:00:12.000999Z"}], 500),
    ],
)
def test_time_is_from_the_first_moment_to_the_last(times, found, bill):
    """As the legacy generation measures latency, so that both bill the same."""
    rows = [observation(f"o{number}", **changes) for number, changes in enumerate(times)]

    assert bill(rows)[1] == credits(found)


def test_a_huge_duration_is_billed_as_it_is_or_held(bill):
    """An end in the year 9999 is no reason to fail: the amount is more than a trace may be worth."""
    summary, billed = bill([observation(endTime="9999-12-31T23:59:59.000Z"), observation("o2", trace_id="t2")])

    assert results_of(summary) == {"processed": 1, "unrated": 1}
    assert billed == credits(CREDITS_OF_A_TRACE)


def test_a_trace_from_the_future_waits(write, run, clock, stripe):
    """A clock that is ahead: seen, counted, and billed when its time has come."""
    write("t1", (-120, {**cost(0.01)}))

    assert results_of(run()) == {"future_timestamp": 1}
    clock.advance(3 * 3600)
    assert results_of(run()) == {"processed": 1}
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_what_is_not_settled_waits(write, run, clock, balance):
    """Observations of the last fifteen minutes are read when they are quiet, those of one trace as they settle."""
    write("t1", (20, {**started(20, 0), **cost(0.01)}), (10, {**started(20, 0), **cost(0.01)}))
    write("t2", (14, cost(0.01)), customer="cus_2")

    assert run().fetched == 1
    clock.advance(120)
    assert run().processed == 1
    assert balance() == {"cus_1": 500 * CREDIT_MICROS, "cus_2": 500 * CREDIT_MICROS}


def test_a_late_child_is_an_adjustment(langfuse, write, run, balance):
    """Only the difference, once, in the trace's own period."""
    write("t1", (60, cost(0.01)))
    run()
    send_cost(langfuse, "t1", "late", 0.02)

    assert [run().adjusted, run().adjusted, run(full=True).adjusted] == [1, 0, 0]
    assert balance() == credits(1000)


def test_one_trace_by_name_is_read_in_full(langfuse, write, run, balance):
    """--trace ID: all of its observations, whenever they were."""
    write("t1", (60 * 24 * 20, {**started(60 * 24 * 20, 0), **cost(0.01)}), (60 * 24 * 20, cost(0.02)))
    write("t2", (60, {}))

    summary = run(trace_id="t1")

    assert (summary.fetched, summary.processed) == (1, 1)
    assert balance() == credits(750 + 250)


def test_a_key_that_sees_nothing_bills_nothing(run, settings, clock):
    """An empty project is read to its end and covers its time."""
    stripe = SandboxStripe(clock=clock)
    stripe.add_meter("credits")

    assert run(settings(read_from=ObservationPages([]), bill_to=stripe)).fetched == 0
    assert stripe.meter_events() == []
