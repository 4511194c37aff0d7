"""What people see: tables, CSV, plain lines where nobody watches, and a progress bar where somebody does."""

import contextlib
import csv
import io
import os
import pty
import re
import subprocess
from decimal import Decimal

import pytest

from builders import PROJECT, ingested
from tallymark.clock import SystemClock
from tallymark.core.clock import HOUR_US
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe
from worlds import COMMAND, CREDIT_MICROS, environment, open_world

ESCAPE = "\x1b"
COLUMNS = ["traces", "credits", "cost_usd", "revenue_usd", "margin_usd"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world whose story was synced once, and `first`, what that said."""
    with open_world(tmp_path_factory.mktemp("output"), traces=300) as world:
        world.first = world.run("sync", "-v")
        yield world


def expected_credits(world):
    """The story's credits by customer, as text with six decimals."""
    return {
        customer: f"{Decimal(micros) / CREDIT_MICROS:.6f}" for customer, micros in sorted(world.expected.micros.items())
    }


def test_usage_says_the_same_in_every_form(world):
    """Table, CSV and JSON hold the story's credits, customer by customer."""
    table = [line.split() for line in world.run("usage").out.splitlines()]
    lines = list(csv.DictReader(io.StringIO(world.run("usage", "--format", "csv").out)))
    rows = world.run("usage", "--json").json["rows"]

    expected = expected_credits(world)
    assert table[0] == ["customer", *COLUMNS]
    assert {line[0]: line[2] for line in table[1:]} == expected
    assert list(lines[0]) == ["key", *COLUMNS]
    assert {line["key"]: line["credits"] for line in lines} == expected
    assert {row["key"]: row["credits"] for row in rows} == expected


@pytest.mark.parametrize("by", ["customer", "day", "model", "flow"])
def test_usage_adds_up_to_the_same_total_by_any_key(world, by):
    """Grouping never loses a credit; what is earned is revenue less cost."""
    rows = world.run("usage", "--by", by, "--json").json["rows"]

    assert sum(Decimal(row["credits"]) for row in rows) * CREDIT_MICROS == world.expected.micros.total()
    assert all(Decimal(row["margin_usd"]) == Decimal(row["revenue_usd"]) - Decimal(row["cost_usd"]) for row in rows)


def test_usage_of_one_customer_and_range(world):
    """Only what was asked for."""
    of_one = world.run("usage", "--customer", "cus_001", "--json").json["rows"]
    of_long_ago = world.run("usage", "--from", "2020-01-01", "--to", "2020-02-01", "--json").json["rows"]

    assert [row["key"] for row in of_one] == ["cus_001"]
    assert of_long_ago == []


def test_held_list_names_reason_amount_and_remedy(world):
    """What waits for a person, and what the person can do."""
    found = world.run("held", "list", "--json").json
    table = world.run("held", "list", "--reason", "unpriced").out

    by_reason = {reason["reason"]: reason for reason in found["reasons"]}
    assert by_reason["no_customer"]["traces"] == world.expected.results["no_customer"]
    assert Decimal(by_reason["no_customer"]["credits"]) > 0
    assert "sync" in by_reason["no_customer"]["remedy"]
    assert {row["reason"] for row in found["traces"]} == {"no_customer", "unpriced"}
    assert len(world.run("held", "list", "--limit", "2", "--json").json["traces"]) == 2
    assert "trace-" in table


def test_explain_tells_the_way_from_usage_to_mark(world):
    """Units, formula, entry, meter event, answer and mark of one billed trace."""
    trace_id = next(told.trace["id"] for told in world.told if told.kind == "plain")
    text = world.run("explain", trace_id).out
    found = world.run("explain", trace_id, "--json").json["projects"][0]

    told = next(told for told in world.told if told.trace["id"] == trace_id)
    assert Decimal(found["billed"]) * CREDIT_MICROS == told.micros
    assert found["customer"] == told.customer
    assert found["entries"][0]["meter_event"]["attempts"][0]["outcome"] == "accepted"
    assert found["mark"]["state"] == "written"
    assert all(word in text for word in (trace_id, told.customer, "USD", "meter event", "accepted", "mark: written"))


def test_explain_says_only_what_is_known_of_each_unit(tmp_path):
    """Of an observation the time is not measured, and a span has neither cost nor tokens: no word of them."""
    langfuse = SandboxLangfuse(clock=SystemClock(), generation="events_only")
    at_us = SystemClock().now_us() - HOUR_US
    trace, [generation] = ingested("one", at_us=at_us)
    span = {"id": "one-span", "startTime": generation["startTime"], "endTime": generation["endTime"]}
    langfuse.put_trace(PROJECT, trace, [generation, span])
    with open_world(tmp_path, langfuse=langfuse) as world:
        assert world.run("sync").status == 0
        text = world.run("explain", "one").out

    units = [line.strip() for line in text.splitlines() if "usage of" in line]
    assert "usage of one-generation: 0.01 USD, 120 tokens, model house-model" in units
    assert "usage of one-span: nothing is known" in units
    assert "None" not in text


def test_plain_lines_where_nobody_watches(world):
    """No colours, boxes or moving bars in a log; the summary adds up by eye."""
    counts = re.findall(r"^ +([\d,]+)  (.*)$", world.first.out, flags=re.MULTILINE)

    numbers = [int(number.replace(",", "")) for number, _ in counts]
    assert numbers[0] == numbers[-1] == sum(numbers[1:-1])
    assert ESCAPE not in world.first.out + world.first.err
    assert "│" not in world.run("usage").out


def test_quiet_says_nothing_but_the_result(world):
    """Warnings are for those who want them."""
    assert world.run("sync", "--full", "--quiet").err == ""


def test_untagged_traces_are_logged_once_with_count_total_and_percentage(world):
    """Not once per trace (G7)."""
    lines = [line for line in world.first.err.splitlines() if "billing tag" in line]

    untagged = world.expected.kinds["untagged"] + world.expected.kinds["processed by metadata"]
    assert len(lines) == 1
    assert re.search(rf"{untagged} of \d+ traces \(\d+\.\d %\)", lines[0])


def on_a_terminal(world, *arguments):
    """Run a command on a terminal; its exit status and everything that the terminal was sent."""
    ours, theirs = pty.openpty()
    settings = {**world.settings, "TERM": "xterm-256color", "COLUMNS": "120"}
    child = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(world.folder, settings),
        cwd=world.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    # Linux ends a terminal whose other side is closed with an error, not with an empty read.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    return child.wait(30), shown.decode()


def test_a_progress_bar_on_a_terminal(tmp_path):
    """Reading, sending and marking move; the summary stands below at the end."""
    stripe = SandboxStripe(clock=SystemClock(), processing_seconds=0.005)
    stripe.add_meter("credits")
    with open_world(tmp_path, traces=300, stripe=stripe) as world:
        status, shown = on_a_terminal(world, "sync")

        assert (status, "Traceback" in shown) == (1, False), shown
        assert "sending meter events" in shown
        assert "traces fetched" in shown
        assert ESCAPE in shown


def test_a_drawn_table_on_a_terminal(world):
    """Boxes for people."""
    status, shown = on_a_terminal(world, "usage")

    assert status == 0
    assert "cus_001" in shown
    assert "┃" in shown
