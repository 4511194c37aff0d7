"""Keys and prompts stay where they belong: not in what is printed, not in a file, whatever goes wrong (G7)."""

import os
import stat

import pytest

from secret_worlds import (
    NEEDLES,
    POSTGRESQL,
    STRIPE_KEY,
    WRONG_SECRETS,
    found_in,
    found_in_files,
    often_failing,
    said_by,
    secret_world,
    write,
)
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, HOUR_US
from worlds import until


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world that most tests share."""
    with secret_world(tmp_path_factory.mktemp("secrets"), often_failing()) as world:
        yield world


def test_no_command_prints_a_secret_or_a_prompt(world):
    """In plain and in JSON form, loud and quiet."""
    said = said_by(world, "doctor") + said_by(world, "sync", "-v") + said_by(world, "sync", "--json", "--full", "-v")
    assert "traces fetched" in said

    said += said_by(world, "explain", "trace-000012") + said_by(world, "explain", "trace-000012", "--json")
    said += said_by(world, "held", "list") + said_by(world, "held", "list", "--json")
    said += said_by(world, "usage") + said_by(world, "usage", "--format", "csv")
    said += said_by(world, "config", "show") + said_by(world, "config", "show", "--json")
    said += said_by(world, "backfill", "-v")

    assert found_in(said) == []


# A whole run, in order; {} is a folder of the test. Each ends with 0, or with 1 because something is held.
WHOLE_RUN = (
    "doctor -v",
    "sync --dry-run -v",
    "sync -v",
    "backfill -v --dry-run",
    "explain late",
    "explain late --json",
    "held list -v",
    "held show {nobody} --json",
    "held release {nobody} --customer cus_7 --why mail --yes --json",
    "held show {late}",
    "held waive {late} --why mail --yes -v",
    "held decisions",
    "sync --full -v --json",
    "usage --by model",
    "usage --format parquet --output {}/usage.parquet",
    "reconcile -v --repair --report {}/page.html",
    "reconcile --json --report {}/table.csv",
    "ledger verify -v",
    "ledger backup {}/backup.sqlite3",
    "ledger export --to {}/csv",
    "ledger export --to {}/parquet --format parquet",
    "rates check",
    "rates show",
    "rates simulate --card {}/card.toml --format csv",
    "config show --json",
    "--config {}/new.toml init",
)
CARD = """
name = "new"
[[rule]]
from = "beginning"
credit_price_usd = "0.00008"
compute_usd_per_minute = "0"
ai = "cost"
"""


def test_a_whole_run_leaves_no_secret_and_no_prompt_anywhere(tmp_path):
    """Output, logs, the ledger with its journal, backup, exports, reports; all files of it private, umask or not."""
    before = os.umask(0)
    try:
        with secret_world(tmp_path) as world:
            write(world, "nobody", at_us=SystemClock().now_us() - HOUR_US, customer=None)
            add_closed_period(world)
            out = tmp_path / "out" / "deep"
            out.mkdir(parents=True)
            card = out / "card.toml"
            card.write_text(CARD, "utf-8")
            for line in WHOLE_RUN:
                run_line(world, line, out)
            restored = f"sqlite:///{tmp_path / 'new' / 'deeper' / 'restored.sqlite3'}"
            ended = world.run("ledger", "restore", out / "backup.sqlite3", BILLING_LEDGER_URL=restored)
            assert (ended.status, found_in(ended.out + ended.err)) == (0, [])
            card.unlink()
            assert found_in_files(tmp_path) == {}
            assert open_to_others(tmp_path, besides=(tmp_path / "out", out)) == {}
    finally:
        os.umask(before)


def add_closed_period(world):
    """Usage of cus_1 before the last two hours is on an invoice that is final, so it is held."""
    now_us = SystemClock().now_us()
    world.stripe.add_subscription(
        "cus_1", "credits", started_at_us=now_us - 20 * DAY_US, anchor_us=now_us - 2 * HOUR_US, period="day"
    )


def run_line(world, line, out):
    """Run one line of the whole run and look at what it printed."""
    held = world.ask("select meter_event_id from meter_event where state = 'held'") if "{late}" in line else [["?"]]
    line = line.replace("{late}", held[0][0]).replace("{nobody}", "nobody").replace("{}", str(out))
    words = line.split()
    if words[0] == "--config":
        words = [*words[2:], *words[:2]]
    ended = world.run(*words)
    assert ended.status in (0, 1), (line, ended.err[-2000:])
    assert "Traceback" not in ended.err, line
    assert found_in(ended.out + ended.err) == [], line


def open_to_others(folder, besides):
    """What tallymark made under a folder that is not for its owner only, with its mode."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path not in besides}
    return {str(path): oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)}


@pytest.mark.parametrize(
    "settings",
    [
        {"LANGFUSE_SECRET_KEY": WRONG_SECRETS["LANGFUSE_SECRET_KEY"]},
        {"BILLING_STRIPE_SECRET_KEY": WRONG_SECRETS["BILLING_STRIPE_SECRET_KEY"]},
        {"STRIPE_API_BASE": "http://127.0.0.1:9"},
        {"STRIPE_API_BASE": "https://user:password_needle@stripe.invalid"},
        {"LANGFUSE_BASE_URL": "https://user:password_needle@langfuse.invalid"},
        {"BILLING_LEDGER_URL": POSTGRESQL},
        {"BILLING_LEDGER_URL": "postgresql://127.0.0.1:9/ledger?user=me&password=password_needle"},
        {"BILLING_LEDGER_URL": "postgresql://user:password_needle@127.0.0.1:9:9/ledger?wrong"},
        {"BILLING_LEDGER_URL": "postgresql://user:pass@password_needle@[127.0.0.1/ledger"},
        {"BILLING_LEDGER_URL": "mysql://user:password_needle@database.invalid/ledger"},
        {"BILLING_STRIPE_SECRET_KEY": f"{STRIPE_KEY} {STRIPE_KEY}"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_no_failure_prints_a_secret(world, settings):
    """A message names the variable, never its value."""
    ended = world.run("sync", "-v", **settings)

    assert ended.status in (2, 3, 4), ended.err
    assert ended.err.strip()
    assert found_in(ended.out + ended.err) == []
    assert found_in(said_by(world, "config", "show", **settings)) == []
    assert found_in(said_by(world, "doctor", "-v", **settings)) == []


@pytest.mark.parametrize("command", ["ledger verify", "ledger backup there", "held list", "explain late", "usage"])
def test_no_command_prints_the_password_of_the_ledger(world, command):
    """Whichever command finds that the database is not there."""
    ended = world.run(*command.split(), "-v", "--json", BILLING_LEDGER_URL=POSTGRESQL)

    assert ended.status in (2, 3, 4), ended.err
    assert found_in(ended.out + ended.err) == []


@pytest.mark.parametrize("words", [("sync", STRIPE_KEY), ("--api-key", STRIPE_KEY), ("sync", f"--key={STRIPE_KEY}")])
def test_a_key_on_the_command_line_is_not_repeated(world, words):
    """It is wrong usage, and stays in the shell's history only."""
    ended = world.run(*words, "--json")

    assert ended.status == 2
    assert found_in(ended.out + ended.err) == []


def test_the_doctor_prints_no_secret(world):
    """Not even the ones that are refused."""
    assert found_in(said_by(world, "doctor", "-v", **WRONG_SECRETS)) == []


def test_the_ledger_holds_no_secret_and_no_prompt(tmp_path):
    """Not in the database, and not in the journal that a killed run leaves beside it."""
    with secret_world(tmp_path, often_failing()) as world:
        child = world.start("sync", "-v")
        until(lambda: world.has_ledger() and world.ask("select 1 from attempt limit 1"), child)
        child.kill()
        after_kill = bytes_of(world)
        world.run("sync", "-v")
        after_run = bytes_of(world)

    for content in (after_kill, after_run):
        assert b"trace-000" in content
        assert [needle for needle in NEEDLES if needle.encode() in content] == []


def bytes_of(world):
    """The ledger's file and everything beside it."""
    return b"".join(file.read_bytes() for file in world.folder.glob(f"{world.ledger.name}*"))
