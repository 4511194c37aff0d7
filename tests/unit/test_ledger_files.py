"""The ledger's file: who may read it, and a clear error for every file that cannot be a ledger."""

import contextlib
import sqlite3
import stat

import pytest

from ledger_lines import NOW_US, RUN, bill, gather_all
from tallymark.errors import ConfigError, LedgerFull, LedgerLocked, LedgerNewer, LedgerUnusable
from tallymark.ledger import open_ledger, sqlite
from tallymark.ledger.ledger import Ledger
from tallymark.ledger.opening import dry_copy
from tallymark.ledger.sqlite import MIGRATIONS, SqliteDatabase


@pytest.fixture
def path(tmp_path):
    """Where the ledger is."""
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def url(path):
    """The same, as a setting."""
    return f"sqlite:///{path}"


@contextlib.contextmanager
def opened(url, **options):
    ledger = open_ledger(url, **options)
    try:
        yield ledger
    finally:
        ledger.close()


def make(path, script):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(script)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_its_owners_alone(tmp_path):
    """Customer ids and usage are nobody else's business; the folder that is made for it neither."""
    path = tmp_path / "above" / "made" / "ledger.sqlite3"
    with opened(f"sqlite:///{path}") as ledger:
        bill(ledger, "t1")
        modes = {file.name: mode_of(file) for file in path.parent.iterdir()}

    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
    assert (mode_of(path.parent), mode_of(path.parent.parent)) == (0o700, 0o700)


def test_an_existing_ledger_is_opened_and_keeps_its_id(url):
    """The id is part of every meter event's identifier: it must never change."""
    with opened(url) as ledger:
        first = ledger.fact("ledger_id")
    with opened(url) as ledger:
        assert ledger.fact("ledger_id") == first


def test_a_ledger_from_a_newer_version_is_refused(path, url):
    """Nothing is written to it."""
    with opened(url):
        pass
    make(path, f"pragma user_version = {len(MIGRATIONS) + 1}")

    with pytest.raises(LedgerNewer, match=r"newer tallymark .*upgrade"):
        open_ledger(url)


def test_a_database_of_something_else_is_refused(path, url):
    """It is left as it is."""
    make(path, "create table holidays (day text)")

    with pytest.raises(LedgerUnusable, match="something else; set BILLING_LEDGER_URL"):
        open_ledger(url)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("holidays",)]


def test_a_file_that_is_no_database_is_refused(path, url):
    """Its content stays."""
    path.write_text("These are my notes, and no ledger at all.\n" * 50)

    with pytest.raises(LedgerUnusable, match="is not a ledger; set BILLING_LEDGER_URL"):
        open_ledger(url)
    assert path.read_text().startswith("These are my notes")


def test_a_folder_is_refused(tmp_path):
    """The message says what to look at."""
    with pytest.raises(LedgerUnusable, match=r"cannot be opened; check that its folder"):
        open_ledger(f"sqlite:///{tmp_path}")


def test_a_path_below_a_file_is_refused(tmp_path):
    """A folder that cannot be made."""
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerUnusable, match="cannot be opened"):
        open_ledger(f"sqlite:///{tmp_path / 'file' / 'ledger.sqlite3'}")


def test_a_read_only_ledger_says_so(path, url):
    """As on a file system that is mounted read-only."""
    with opened(url):
        pass
    ledger = Ledger(SqliteDatabase(str(path), read_only=True), migrate=False)

    with pytest.raises(LedgerUnusable, match="is read-only; make the file and its folder writable"):
        ledger.put_fact("name", "value")
    ledger.close()


def test_a_locked_ledger_is_waited_for_and_then_named(path, url, monkeypatch):
    """Another process in a long transaction: an error of its own, and nothing lost."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    with opened(url) as ledger, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(LedgerLocked, match="another process has held the ledger"):
            bill(ledger, "t1")
        other.execute("rollback")

        bill(ledger, "t1")
        assert ledger.gather(RUN, 10) == 1


def test_a_locked_new_ledger_is_not_migrated_twice(path, url, monkeypatch):
    """Migrations run under the write lock: who waits for it finds them done."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    with opened(url):
        second = SqliteDatabase(str(path))
        monkeypatch.setattr(second, "version", iter([0, len(MIGRATIONS)]).__next__)
        second.migrate()
        second.close()


def test_a_full_disk_loses_nothing_and_leaves_nothing_half_written(url):
    """The transaction that did not fit is undone; after space is freed, the same call works."""
    with opened(url) as ledger:
        bill(ledger, "t0")
        connection = ledger._db._connection
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages}")
        with pytest.raises(LedgerFull, match=r"no space is left .*nothing is half-written"):
            for number in range(2000):
                bill(ledger, f"t{number + 1}", customer=f"cus_{number}" * 20)
        entries = connection.execute("select count(*) from entry").fetchone()[0]
        assert connection.execute("select count(*) from trace").fetchone()[0] == entries

        connection.execute("pragma max_page_count = 1000000")
        bill(ledger, f"t{entries}")
        gather_all(ledger)


@pytest.mark.parametrize("url", ["mysql://x", "ledger.sqlite3"])
def test_a_url_of_another_kind_is_refused(url):
    """The setting is named."""
    with pytest.raises(ConfigError, match="BILLING_LEDGER_URL"):
        open_ledger(url)


def test_reading_a_ledger_that_is_not_there_creates_nothing(path, url):
    """`explain` before the first sync."""
    with pytest.raises(Exception, match="there is no ledger at"):
        open_ledger(url, read_only=True)

    assert not path.exists()


def test_a_dry_copy_holds_what_the_ledger_holds_and_gives_nothing_back(path, url):
    """A dry run can go through all steps on it."""
    with opened(url) as ledger:
        bill(ledger, "t1")
        before = ledger.next_attempt_at_us()

        with dry_copy(url) as copy:
            gather_all(copy)
            assert len(copy.claim(NOW_US, 10)) == 1

        assert ledger.next_attempt_at_us() == before is None


def test_a_dry_copy_of_no_ledger_creates_none(tmp_path, url):
    """A first dry run."""
    with dry_copy(url) as copy:
        bill(copy, "t1")

    assert list(tmp_path.iterdir()) == []
