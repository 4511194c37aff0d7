"""Damaged ledgers: every command ends well, or with a sentence and exit status 4, and writes nothing by halves.

A flipped bit may lie in free space, in a text that only people read, in a sum, or in the structure of the file. So a
command may well succeed; what it may not do is fail in its own way.
"""

import contextlib
import os
import sqlite3
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import NOW_US, PROJECT, ingested
from older_ledgers import make_older
from tallymark import api, config
from tallymark.errors import LedgerError, LedgerUnusable, NotFound
from tallymark.flows.backfill import backfill
from tallymark.flows.doctor import doctor
from tallymark.flows.sync import sync
from tallymark.ledger.sqlite import MIGRATIONS
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe

CLOCK = VirtualClock(NOW_US)
PLACES = st.floats(0, 1, exclude_max=True)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
READING = ("verify", "explain", "held", "usage", "backup", "restore", "export")


class Deployment:
    """Two sandboxes, the ledger that billed the one to the other, and every command on any copy of its file."""

    def __init__(self, folder, langfuse_url, stripe_url):
        self.folder = folder
        self.environment = {
            "LANGFUSE_BASE_URL": langfuse_url,
            "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
            "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
            "STRIPE_API_BASE": stripe_url,
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000",
        }
        first = folder / "first.sqlite3"
        sync(self.settings(first), clock=CLOCK)
        self.file = first.read_bytes()
        self.head = api.verify_ledger(self.settings(first)).entries
        self.used = [place for place, byte in enumerate(self.file) if byte]

    def settings(self, path):
        """Settings that lead to the sandboxes and to a ledger."""
        return config.load(None, {**self.environment, "BILLING_LEDGER_URL": f"sqlite:///{path}"})

    def commands(self, path):
        """Every command that reads or writes the ledger, by name."""
        to, copies = self.settings(path), self.folder / "copies"
        fresh = self.settings(copies / "restored.sqlite3")
        return {
            "verify": partial(api.verify_ledger, to),
            "explain": partial(api.explain, to, "t5"),
            "held": partial(api.held, to),
            "usage": partial(api.usage, to, from_us=0, to_us=NOW_US),
            "backup": partial(api.backup_ledger, to, copies / "backup.sqlite3"),
            "restore": partial(api.restore_ledger, fresh, path),
            "export": partial(api.export_ledger, to, copies / "export"),
            "sync": partial(sync, to, full=True, clock=CLOCK),
            "dry run": partial(sync, to, full=True, dry_run=True, clock=CLOCK),
            "backfill": partial(backfill, to, clock=CLOCK),
        }

    def with_ledger(self, content):
        """A file with this content, in an empty folder."""
        for name in ("", "copies"):
            folder = self.folder / "damaged" if not name else self.folder / name
            for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            folder.mkdir(exist_ok=True)
        path = self.folder / "damaged" / "ledger.sqlite3"
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A deployment that has billed a story with traces that are held, skipped and carried."""
    langfuse, stripe = SandboxLangfuse(clock=CLOCK), SandboxStripe(clock=CLOCK)
    stripe.add_meter("credits")
    for number in range(40):
        customer = f"cus_{number % 4}" if number % 9 else None
        trace = ingested(f"t{number}", minutes_ago=30 + number * 7, customer=customer, cost=f"0.0{number}1")
        langfuse.put_trace(PROJECT, *trace)
    with serve(langfuse) as source, serve(stripe) as meter:
        yield Deployment(tmp_path_factory.mktemp("deployment"), source.url, meter.url)


def end(command, *, also=()):
    """Run a command: what it returns, or the LedgerError (or another that may be) that it ends with."""
    try:
        return command()
    except (LedgerError, *also) as error:
        assert str(error)[-1] in ".)", str(error)
        return error


def failed(result):
    return isinstance(result, Exception)


@MANY
@given(PLACES, st.integers(0, 7), st.booleans())
def test_a_flipped_bit_never_ends_a_reading_command_in_its_own_way(deployment, place, bit, anywhere):
    """The file stays as it is, and a copy that was not made leaves nothing behind."""
    content = bytearray(deployment.file)
    at = int(place * len(content)) if anywhere else deployment.used[int(place * len(deployment.used))]
    content[at] ^= 1 << bit
    path = deployment.with_ledger(content)
    commands = deployment.commands(path)

    for name in READING:
        result = end(commands[name], also=(NotFound,) if name == "explain" else ())
        if failed(result) and name in ("backup", "export", "restore"):
            left = {each.name for each in (deployment.folder / "copies").iterdir()}
            assert not {each for each in left if each.startswith(name)}

    assert path.read_bytes() == content


@FEW
@given(PLACES, st.integers(0, 7))
def test_a_flipped_bit_never_ends_a_writing_command_in_its_own_way(deployment, place, bit):
    """Nor one that tries to write nothing."""
    content = bytearray(deployment.file)
    content[deployment.used[int(place * len(deployment.used))]] ^= 1 << bit

    for name in ("dry run", "sync", "backfill"):
        end(deployment.commands(deployment.with_ledger(content))[name])


@FEW
@given(PLACES)
def test_a_file_that_was_cut_never_ends_a_command_in_its_own_way(deployment, place):
    """At any length, to nothing included. It passes for a ledger that holds only if no line is missing."""
    content = deployment.file[: int(place * len(deployment.file))]
    path = deployment.with_ledger(content)
    commands = deployment.commands(path)

    results = {name: end(commands[name], also=(NotFound,)) for name in READING}

    report = results["verify"]
    whole = not failed(report) and report.holds
    assert [failed(results[name]) for name in ("backup", "restore")] == [not whole, not whole]
    assert not whole or report.entries == deployment.head
    if content:
        end(commands["sync"])


@pytest.mark.parametrize("gone", ["entry", "meter_event", "chain", "fact", "trace", "rate_card", "carry", "attempt"])
def test_a_table_that_is_gone_is_named_by_verify(deployment, gone):
    """And every other command says that something cannot be used, and what to run."""
    path = deployment.with_ledger(deployment.file)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"drop table {gone}")
    commands = deployment.commands(path)

    report = end(commands["verify"])

    assert f"the table {gone} is missing or was changed" in {finding.detail for finding in report.findings}
    for name in ("sync", "dry run", "backfill", "usage", "export", "backup"):
        result = end(commands[name])
        if failed(result):
            assert "tallymark ledger verify" in str(result)
    assert failed(result)


@pytest.mark.parametrize("name", [*READING, "sync", "dry run", "backfill"])
def test_a_newer_ledger_is_left_alone(deployment, name):
    """Whatever is asked of it."""
    path = deployment.with_ledger(deployment.file)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()

    assert "upgrade tallymark" in str(end(deployment.commands(path)[name]))
    assert path.read_bytes() == before


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS)))
def test_an_older_ledger_is_brought_up_to_date_by_a_sync_and_by_nothing_else(deployment, schema):
    """Commands that only read say so and change nothing; a backup and a dry run need not."""
    path = make_older(deployment.with_ledger(b""), schema)
    before, commands = path.read_bytes(), deployment.commands(path)

    for name in ("verify", "explain", "held", "usage", "export"):
        assert "`tallymark sync` brings it up to date" in str(end(commands[name]))
    for name in ("backup", "restore", "dry run"):
        assert not failed(end(commands[name]))
    assert path.read_bytes() == before
    assert not failed(end(commands["sync"]))
    assert end(commands["verify"]).findings == []


@pytest.mark.parametrize("name", [*READING, "sync", "dry run", "backfill"])
@pytest.mark.parametrize("what", ["a folder", "a pipe", "notes", "a stranger's database"])
def test_what_is_no_ledger_is_refused(deployment, name, what):
    """Without waiting for it, and without writing into it."""
    path = deployment.with_ledger(b"")
    if what == "notes":
        path.write_text("These are my notes.\n" * 500)
    else:
        path.unlink(missing_ok=True)
        {"a folder": path.mkdir, "a pipe": partial(os.mkfifo, path)}.get(what, partial(strangers, path))()
    before = path.read_bytes() if path.is_file() else b""

    result = end(deployment.commands(path)[name])

    assert isinstance(result, LedgerUnusable)
    assert (path.read_bytes() if path.is_file() else b"") == before


def strangers(path):
    """Make a database of something else."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table holidays (day text)")
        database.commit()


@contextlib.contextmanager
def as_nobody():
    """Without the right to read everything that root has; who is not root has none."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("name", [*READING, "sync", "dry run", "backfill"])
@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_ledger_that_may_not_be_read_is_named(deployment, name, which):
    """The file itself, or a folder above it."""
    path = deployment.with_ledger(deployment.file)
    denied = path if which == "file" else path.parent
    command = deployment.commands(path)[name]
    denied.chmod(0)
    try:
        with as_nobody():
            assert isinstance(end(command), LedgerUnusable)
    finally:
        denied.chmod(0o700)


def test_a_lost_log_is_an_older_ledger(deployment):
    """Without its `-wal` file a ledger is what it was at its last checkpoint: in order, and shorter."""
    path = deployment.with_ledger(deployment.file)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as open_elsewhere:
        open_elsewhere.execute("pragma wal_autocheckpoint = 0")
        open_elsewhere.execute("insert into fact values ('in the log only', '1')")
        content = path.read_bytes()
        assert path.with_name("ledger.sqlite3-wal").stat().st_size > 0
    cut = deployment.with_ledger(content)

    report = end(deployment.commands(cut)["verify"])

    assert report.findings == []
    assert not failed(end(deployment.commands(cut)["sync"]))


def test_the_doctor_names_a_damaged_ledger(deployment):
    """Beside what else it finds, with exit status 4."""
    path = deployment.with_ledger(deployment.file[: len(deployment.file) // 2])

    findings = doctor(deployment.settings(path), CLOCK)

    assert [finding.detail for finding in findings if finding.check == "ledger" and finding.exit_status == 4]
