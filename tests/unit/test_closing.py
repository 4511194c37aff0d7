"""A period's name and ends, and the command `close`: what it takes, prints and ends with."""

import json

import pytest
from click.testing import CliRunner

from tallymark.cli import cli
from tallymark.core.clock import parse_time
from tallymark.core.credits import format_micros, parse_micros
from tallymark.errors import ConfigError, NotFound
from tallymark.flows.closing import Check, Closing, Period
from tallymark.flows.ranges import month_named
from tallymark.ledger import open_ledger
from tallymark.show_closing import show_closing

NOW_US = parse_time("2026-11-23T12:00:00Z")


@pytest.mark.parametrize(
    ("name", "now", "from_", "to"),
    [
        ("2026-11", "2026-11-23T12:00:00Z", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-11-23T12:00:00Z", "2026-12-01", "2027-01-01"),
        ("2028-02", "2026-11-23T12:00:00Z", "2028-02-01", "2028-03-01"),
        ("last", "2026-11-01T00:00:00Z", "2026-10-01", "2026-11-01"),
        ("last", "2027-01-31T23:59:59Z", "2026-12-01", "2027-01-01"),
    ],
)
def test_a_month_has_a_name(name, now, from_, to):
    """The end is the first moment of the next one."""
    expected = parse_time(f"{from_}T00:00:00Z"), parse_time(f"{to}T00:00:00Z")
    assert month_named(name, parse_time(now)) == expected


@pytest.mark.parametrize(
    "name", ["", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "Last", "0000-01", "9999-12"]
)
def test_what_is_no_month_is_refused(name):
    """With what is accepted."""
    with pytest.raises(ConfigError, match="2026-11"):
        month_named(name, NOW_US)


def test_an_empty_period_is_refused():
    """It would pass, since nothing is open in it."""
    with pytest.raises(ConfigError, match="--to"):
        Period(NOW_US, NOW_US)


@pytest.mark.parametrize("micros", [0, 1, -1, 999_999, -1_000_000, 123_456_789_012_345])
def test_amounts_are_read_as_they_were_written(micros):
    """To the micro-credit, with the sign."""
    assert parse_micros(format_micros(micros)) == micros


@pytest.mark.parametrize("text", ["", "1", "1.5", "1.0000000", "+1.000000", "1e3", "nan"])
def test_what_was_not_written_so_is_no_amount(text):
    """Never read as something near it."""
    with pytest.raises(ValueError, match="six decimals"):
        parse_micros(text)


# ---- the command


@pytest.fixture
def close(tmp_path):
    """A function that runs the command on an empty ledger."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    open_ledger(url).close()
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x", "STRIPE_SECRET_KEY": "sk_test_x"}
    return lambda *words: CliRunner().invoke(cli, ["close", *words], env={**keys, "BILLING_LEDGER_URL": url})


def test_what_does_not_pass_ends_with_1_and_names_what_to_run(close):
    """A month of which nothing was read."""
    said = close("--period", "2026-10")

    assert said.exit_code == 1
    assert "FAIL" in said.output and "  tallymark sync --from 2026-10-01\n" in said.output
    assert "  tallymark reconcile --from 2026-10-01 --to 2026-11-01\n" in said.output


def test_a_range_is_named_in_the_object(close):
    """One JSON object, and the same exit status."""
    said = close("--from", "2026-10-05", "--to", "2026-10-06", "--json")

    found = json.loads(said.output)
    assert (said.exit_code, found["passed"], found["customer"]) == (1, False, None)
    assert (found["from"], found["to"]) == ("2026-10-05T00:00:00.000Z", "2026-10-06T00:00:00.000Z")


def test_a_customer_of_whom_there_is_nothing_is_refused(close):
    """A misspelled one would have nothing that waits, and pass."""
    said = close("--period", "2026-10", "--customer", "cus_1")

    assert isinstance(said.exception, NotFound) and "cus_1" in str(said.exception)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--from", "2026-10-05"),
        ("--to", "2026-10-05"),
        ("--period", "last", "--from", "2026-10-05"),
        ("--period", "last", "--from", "2026-10-05", "--to", "2026-10-06"),
    ],
)
def test_half_a_period_or_two_are_refused(close, words):
    """It is not guessed what is meant."""
    said = close(*words)

    assert isinstance(said.exception, ConfigError) and "--period 2026-11" in str(said.exception)


def test_a_period_that_passes_shows_the_heads_to_keep(capsys):
    """As the command that compares with them later."""
    passing = Check("read", True, "read up to 2026-11-01", None, None)
    closing = Closing("2026-10-01", "2026-11-01", None, True, [passing], "7:abc", "2:def")

    show_closing(closing)

    out = capsys.readouterr().out
    assert "tallymark ledger verify --expect 7:abc --expect-decisions 2:def" in out
    assert "run next" not in out and closing.exit_status == 0
