"""The commands as scripts run them: processes, exit statuses, and one JSON object on the standard output."""

import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from builders import ingested
from tallymark.cli import cli
from tallymark.clock import SystemClock
from tallymark.config import load
from tallymark.core.clock import HOUR_US
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response
from tallymark.source.probe import probe, server_version
from worlds import COMMAND, PROJECT, environment, open_world, tallymark, until

COMMON = {"--json", "--config", "--verbose", "--quiet"}
SYNC_KEYS = ["run_id", "dry_run", "source", "source_reason", "server_version", "from", "to"]
SYNC_KEYS += ["fetched", "processed", "skipped", "held", "failed", "failures", "adjusted", "healed", "untagged"]
SYNC_KEYS += ["adopted", "credits", "meter_events", "marks", "requests", "seconds"]
REASONS = {
    "skipped": {"already_processed", "no_billable_usage", "future_timestamp", "filtered", "waived"},
    "held": {"no_customer", "too_old", "unrated", "unpriced", "late_period", "window_cut", "in_doubt"},
    "meter_events": {
        "accepted",
        "duplicate",
        "rejected",
        "in_doubt",
        "settled",
        "reported",
        "open_reports",
        "streamed",
    },
    "marks": {"written", "failed"},
    "requests": {"langfuse", "stripe"},
}
HEAVY = ("urllib3", "requests", "httpx", "http.client", "sqlite3", "stripe", "starlette", "psycopg", "rich", "msgspec")
# Nothing listens on the discard port of loopback.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """A world whose story was synced once."""
    with open_world(tmp_path_factory.mktemp("synced"), traces=300) as world:
        assert world.run("sync").status == 1
        yield world


@pytest.fixture
def simple(tmp_path):
    """A world of one billable trace, in which everything ends well."""
    with open_world(tmp_path) as world:
        trace, observations = ingested("one", at_us=SystemClock().now_us() - HOUR_US)
        world.langfuse.put_trace(PROJECT, trace, observations)
        yield world


class HtmlService:
    """A web server that is not Langfuse."""

    def handle(self, request):
        """Answer everything with a page."""
        return Response(200, b"<html><body>Welcome to the intranet</body></html>", {"content-type": "text/html"})


@pytest.fixture(scope="module", autouse=True)
def patient(tmp_path_factory):
    """Commands that give up only after several attempts, started first so that nobody waits for them."""
    nowhere = open_world(tmp_path_factory.mktemp("nowhere"))
    html = open_world(tmp_path_factory.mktemp("html"), langfuse=HtmlService())
    with nowhere as unreachable, html as intranet:
        yield {
            "unreachable": unreachable.start("sync", "--json", LANGFUSE_BASE_URL=NOWHERE),
            "unreachable doctor": unreachable.start("doctor", "--json", LANGFUSE_BASE_URL=NOWHERE),
            "html": intranet.start("sync", "--json"),
        }


# ---- JSON


def test_sync_json_has_every_key_of_the_contract_and_adds_up(synced):
    """CONTRACT, `sync --json`: the keys in their order, and G2's equation."""
    found = synced.run("sync", "--json", "--full").json

    assert list(found) == SYNC_KEYS
    assert {name: set(found[name]) for name in REASONS} == REASONS
    assert found["fetched"] > 250
    ends = found["processed"] + found["failed"] + sum(found["skipped"].values()) + sum(found["held"].values())
    assert found["fetched"] == ends


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("backfill",), {"fetched", "owed", "skipped", "held", "tagged", "tag_filtering_safe", "why_not"}),
        (("explain", "trace-000012"), {"trace_id", "projects"}),
        (("held", "list"), {"reasons", "traces", "meter_events", "negative_carries", "policy"}),
        (("held", "show", "trace-000012"), {"kind", "trace", "choices", "decisions"}),
        (("held", "decisions"), {"decisions"}),
        (("held", "rules", "list"), {"rules"}),
        (("usage",), {"by", "rows"}),
        (("rates", "check"), {"rules", "findings", "history"}),
        (("rates", "show"), {"name", "digest", "rules"}),
        (("doctor",), {"findings"}),
        (("config", "show"), {"settings"}),
        (("init",), {"written"}),
        (("completion", "bash"), {"shell", "script"}),
        (("demo", "--traces", "30"), {"first_sync", "second_sync", "late_sync", "customers", "explain", "problems"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_json_is_one_object_and_nothing_else(synced, arguments, keys):
    """Whatever a command says besides goes to the standard error."""
    ended = synced.run(*arguments, "--json")

    assert keys <= set(ended.json), ended.err
    assert ended.out.count("\n") == 1


def test_sandbox_says_where_it_is_in_one_line_and_stops_on_a_signal(tmp_path):
    """`tallymark sandbox --json` prints one object as soon as both services answer."""
    with subprocess.Popen(
        [*COMMAND, "sandbox", "--json", "--port-langfuse", "0", "--port-stripe", "0", "--traces", "5"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
    ) as child:
        ready = json.loads(child.stdout.readline())
        child.terminate()

        assert child.wait(30) == 0
    assert (ready["traces"], ready["public_key"]) == (5, "pk-lf-sandbox")


@pytest.mark.parametrize(
    ("generation", "major", "lists_traces", "lists_observations"),
    [("legacy", "3", True, False), ("dual", "4", True, True), ("events_only", "4", False, True)],
)
def test_sandbox_is_of_the_generation_that_is_asked_for(tmp_path, generation, major, lists_traces, lists_observations):
    """`tallymark sandbox --generation` answers to the probe as a server of that generation does."""
    ports = ["--port-langfuse", "0", "--port-stripe", "0"]
    with subprocess.Popen(
        [*COMMAND, "sandbox", "--json", *ports, "--generation", generation],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
    ) as child:
        ready = json.loads(child.stdout.readline())
        clock = SystemClock()
        client = LangfuseClient(ready["langfuse_url"], ready["public_key"], ready["secret_key"], clock)
        with contextlib.closing(client):
            found = probe(client, server_version(client), clock.now_us())
        child.terminate()

        assert child.wait(30) == 0
    assert (found.version.split(".")[0], found.traces, found.observations) == (major, lists_traces, lists_observations)


# ---- exit statuses, each from a real cause


def test_exit_0_when_all_is_done(simple):
    """One trace, billed and marked."""
    ended = simple.run("sync", "--json")

    assert (ended.status, ended.json["processed"], ended.json["marks"]["written"]) == (0, 1, 1)


def test_exit_1_when_traces_are_held(synced):
    """The story holds traces without a customer."""
    ended = synced.run("sync", "--json", "--full")

    assert (ended.status, ended.json["held"]["no_customer"] > 0) == (1, True)


@pytest.mark.parametrize("name", ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "BILLING_STRIPE_SECRET_KEY"])
def test_exit_2_names_the_missing_key(tmp_path, name):
    """Nothing is asked and nothing is written before the keys are there."""
    with open_world(tmp_path) as world:
        ended = world.run("sync", **{name: None})

        assert (ended.status, name in ended.err) == (2, True)
        assert (world.stripe.counts(), world.langfuse.counts()) == ({}, {})
        assert not world.ledger.exists()


@pytest.mark.parametrize("name", ["LANGFUSE_SECRET_KEY", "BILLING_STRIPE_SECRET_KEY"])
def test_exit_2_when_a_key_is_wrong(simple, name):
    """The message names the variable to look at; nothing is billed."""
    ended = simple.run("sync", "--json", **{name: "sk_test_of_somebody_else"})

    assert (ended.status, ended.json["exit_status"]) == (2, 2)
    assert name in ended.json["error"]
    assert simple.stripe.meter_events() == []


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda stripe: None, "no meter"),
        (lambda stripe: stripe.add_meter("credits", formula="count"), "count"),
    ],
    ids=["none", "counting"],
)
def test_exit_2_when_the_meter_is_not_right(tmp_path, plant, words):
    """Before the first trace is read."""
    stripe = SandboxStripe(clock=SystemClock())
    plant(stripe)
    with open_world(tmp_path, stripe=stripe) as world:
        ended = world.run("sync")

        assert (ended.status, words in ended.err) == (2, True), ended.err
        assert world.langfuse.counts() == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync", "--frm", "7d"),
        ("sync", "--from", "yesterday"),
        ("sync", "--config", "there-is-none.toml"),
        ("sync", "--trace", "there-is-none"),
        ("explain", "there-is-none"),
        ("usage", "--by", "colour"),
        ("rates", "simulate"),
        ("rates", "show", "--digest", "there-is-none"),
        ("sandbox", "--generation", "observations"),
        ("demo", "--traces", "0"),
        ("init", "--config", "there-is-none/tallymark.toml"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_exit_2_for_a_wrong_command_line(synced, arguments):
    """A sentence, not a traceback."""
    ended = synced.run(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    assert ended.err.strip()


@pytest.mark.parametrize("command", ["sync", "backfill", "usage"])
def test_exit_2_for_a_range_that_ends_before_it_begins(tmp_path, command):
    """It would read nothing and look as if there were nothing; both ends are named, and nothing is read or written."""
    with open_world(tmp_path) as world:
        ended = world.run(command, "--json", "--from", "2026-11-02", "--to", "2026-11-01")

        assert (ended.status, ended.json["exit_status"]) == (2, 2)
        assert all(word in ended.err for word in ("--from", "--to", "2026-11-02", "2026-11-01", "before"))
        assert (world.stripe.counts(), world.langfuse.counts(), world.ledger.exists()) == ({}, {}, False)


def test_exit_2_for_a_backfill_that_ends_before_its_35_days_begin(tmp_path):
    """Where `--from` is not given it is 35 days ago, and the message says so by its date."""
    with open_world(tmp_path) as world:
        ended = world.run("backfill", "--to", "60d")

        assert (ended.status, "--from" in ended.err, world.ledger.exists()) == (2, True, False)


@pytest.mark.parametrize("arguments", [("explain", "there-is-none"), ("sync", "--frm", "7d"), ("usage", "--by", "x")])
def test_json_is_one_object_even_when_the_command_fails(synced, arguments):
    """A script that parses the standard output learns what went wrong."""
    ended = synced.run(*arguments, "--json")

    assert set(ended.json) == {"error", "exit_status"}
    assert ended.json["exit_status"] == ended.status == 2


def test_exit_2_for_an_unknown_setting_with_the_nearest_name(synced):
    """A typing error must not mean that a default is billed."""
    ended = synced.run("sync", BILLING_MARGIN_MULTIPLYER="2")

    assert ended.status == 2
    assert "BILLING_MARGIN_MULTIPLIER" in ended.err


def test_exit_3_when_stripe_cannot_be_reached(simple):
    """Nothing is lost: the same command bills the trace when Stripe is back."""
    assert simple.run("sync", STRIPE_API_BASE=NOWHERE).status == 3

    assert simple.run("sync").status == 0
    assert simple.billed() == {"cus_1": 500_000_000}


def test_exit_3_when_langfuse_cannot_be_reached(patient):
    """The message names the setting."""
    ended = patient["unreachable"].end()

    assert (ended.status, ended.json["exit_status"]) == (3, 3)
    assert "LANGFUSE_BASE_URL" in ended.json["error"]


def test_exit_3_when_something_else_than_langfuse_answers(patient):
    """A page of HTML is not taken for an empty list."""
    ended = patient["html"].end()

    assert ended.status == 3
    assert "LANGFUSE_BASE_URL" in ended.json["error"]


def test_doctor_says_that_langfuse_cannot_be_reached(patient):
    """And goes on with the other checks; the exit status is that of a sync which cannot reach it."""
    ended = patient["unreachable doctor"].end()

    findings = ended.json["findings"]
    assert ended.status == 3
    problems = [finding["check"] for finding in findings if finding["status"] == "problem"]
    assert problems == ["langfuse default"]
    assert {"stripe", "ledger"} <= {finding["check"] for finding in findings}


def newer_ledger(path):
    """A ledger of a tallymark that is not written yet."""
    with sqlite3.connect(path) as database:
        database.execute("create table fact (name text)")
        database.execute("pragma user_version = 999")
    database.close()


def not_a_database(path):
    """A file of something else."""
    path.write_bytes(b"these are my notes, and they are not a database at all" * 20)


def other_database(path):
    """A SQLite database of another program."""
    with sqlite3.connect(path) as database:
        database.execute("create table notes (line text)")
    database.close()


@pytest.mark.parametrize(
    ("plant", "arguments"),
    [
        (newer_ledger, ["sync"]),
        (not_a_database, ["sync"]),
        (other_database, ["sync"]),
        (other_database, ["sync", "--dry-run"]),
        (newer_ledger, ["explain", "one"]),
    ],
)
def test_exit_4_when_the_ledger_cannot_be_used(simple, plant, arguments):
    """Nothing is billed, and the file stays as it was."""
    plant(simple.ledger)
    before = simple.ledger.read_bytes()

    ended = simple.run(*arguments)

    assert (ended.status, "Traceback" in ended.err) == (4, False), ended.err
    assert simple.stripe.meter_events() == []
    assert simple.ledger.read_bytes() == before


def test_exit_4_when_there_is_no_ledger_to_ask(simple):
    """`usage` before the first sync says so."""
    ended = simple.run("usage")

    assert ended.status == 4
    assert "tallymark sync" in ended.err


def test_exit_130_when_stopped_and_the_next_run_completes_exactly(tmp_path):
    """Ctrl-C in the middle of sending: the ledger is consistent, and nothing is billed twice or lost."""
    stripe = SandboxStripe(clock=SystemClock(), processing_seconds=0.02)
    stripe.add_meter("credits")
    with open_world(tmp_path, traces=300, stripe=stripe) as world:
        child = world.start("sync", "--json")
        until(lambda: len(stripe.meter_events()) > 20, child)
        child.interrupt()
        stopped = child.end()

        assert (stopped.status, stopped.json["exit_status"]) == (130, 130)
        assert 20 < len(stripe.meter_events()) < 200
        assert "Traceback" not in stopped.err
        assert world.run("sync", "--full").status == 1
        assert world.billed() == dict(world.expected.micros)


def test_a_range_in_the_future_covers_nothing(simple):
    """After a mistyped `--from` the next plain sync still reads what is there."""
    assert simple.run("sync", "--json", "--from", "2999-01-01").json["fetched"] == 0

    assert simple.run("sync", "--json").json["processed"] == 1


# ---- help


def commands(group=cli, path=()):
    """Every command with its words."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield pytest.param((*path, name), command, id=" ".join((*path, name)))


@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_help_names_every_option_and_says_what_it_does(tmp_path, words, command):
    """`--help` of every command works; no option is without a text; every command takes the common options."""
    ended = tallymark(tmp_path, *words, "--help")

    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert ended.status == 0
    assert command.help
    assert [option.name for option in options if not option.help] == []
    assert [option.name for option in options if option.opts[0] not in ended.out] == []
    assert {name for option in options for name in option.opts} >= COMMON


@pytest.mark.parametrize("arguments", [["--help"], ["sync", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_no_http_database_or_web_library(tmp_path, arguments):
    """Help must be instant."""
    script = f"""
import sys
from tallymark.cli import cli
cli.main({arguments}, standalone_mode=False)
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True, check=True
    )

    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_completes_commands(tmp_path, shell):
    """The script names the program; asked as the shell asks, the program offers what fits."""
    program = Path(sys.executable).with_name("tallymark")
    asked = {"COMP_WORDS": "tallymark sy", "COMP_CWORD": "sy" if shell == "fish" else "1"}

    script = tallymark(tmp_path, "completion", shell)
    answer = subprocess.run(
        [program],
        env={**environment(tmp_path), **asked, "_TALLYMARK_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert script.status == 0
    assert f"_TALLYMARK_COMPLETE={shell}_complete" in script.out
    assert "sync" in answer.stdout
    assert "backfill" not in answer.stdout


# ---- init and config show


def test_init_writes_a_private_file_that_loads(tmp_path):
    """Commented, readable by its owner only, and every setting still has its default."""
    ended = tallymark(tmp_path, "init")

    path = tmp_path / "tallymark.toml"
    assert ended.status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path, {}) == load(None, {})


def test_init_overwrites_only_when_forced(tmp_path):
    """What was written by hand is kept."""
    path = tmp_path / "mine.toml"
    path.write_text("# mine")

    assert tallymark(tmp_path, "init", "--config", path).status == 2
    assert path.read_text() == "# mine"
    assert tallymark(tmp_path, "init", "--config", path, "--force").status == 0
    assert path.read_text() != "# mine"


def test_config_show_masks_secrets_and_names_origins(tmp_path):
    """Every setting, its value and where it came from; of a secret only its end."""
    secret = "sk_test_0123456789abcdefghijklmnopqrstuvwxyz"
    (tmp_path / "tallymark.toml").write_text('margin_multiplier = "1.5"\nlangfuse_secret_key = "sk-lf-short"\n')

    ended = tallymark(tmp_path, "config", "show", "--json", STRIPE_SECRET_KEY=secret, BILLING_METER_BUCKET="day")

    rows = {row["setting"]: (row["value"], row["from"]) for row in ended.json["settings"]}
    in_file = f"file {tmp_path / 'tallymark.toml'}"
    assert rows["BILLING_STRIPE_SECRET_KEY"] == ("****wxyz", "environment STRIPE_SECRET_KEY")
    assert rows["LANGFUSE_SECRET_KEY"] == ("****", in_file)
    assert rows["BILLING_METER_BUCKET"] == ("day", "environment BILLING_METER_BUCKET")
    assert rows["BILLING_MARGIN_MULTIPLIER"] == ("1.5", in_file)
    assert rows["BILLING_CREDIT_PRICE_USD"] == ("0.00004", "default")
    assert "sk-lf-short" not in ended.out
    assert secret not in ended.out
