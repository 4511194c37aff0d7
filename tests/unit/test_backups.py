"""Backups and restores: a copy of one moment, verified before it counts, private, whole or not there at all."""

import contextlib
import sqlite3
import stat

import pytest

from ledger_lines import bill, gather_all
from older_ledgers import LEDGER_ID, make_older
from proved_ledgers import fill, quiet, tamper, verified
from tallymark.errors import ConfigError, LedgerFull, LedgerLocked, LedgerNewer, LedgerUnusable
from tallymark.failpoints import Step
from tallymark.flows import proof
from tallymark.ledger import backups, copies, open_ledger, sqlite
from tallymark.ledger.backups import back_up, copy_rows_txn, verified_backup
from tallymark.ledger.backups import fill as fill_ledger
from tallymark.ledger.opening import open_database
from tallymark.ledger.sqlite import MIGRATIONS, SqliteDatabase
from tallymark.ledger.verify import NOTHING_NOTED, verify


def check(db):
    """Verify, with rate cards whose text is their digest."""
    return verify(db, NOTHING_NOTED, lambda text: text, quiet)


@pytest.fixture
def used(ledger):
    """A ledger with every kind of line."""
    return fill(ledger)


@pytest.fixture
def file(tmp_path):
    """Where backups go."""
    return tmp_path / "backup.sqlite3"


@pytest.fixture
def target(tmp_path):
    """The URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path / 'restored.sqlite3'}"


def back_up_to(file, ledger_path, check=check):
    with contextlib.closing(open_database(f"sqlite:///{ledger_path}", read_only=True)) as source:
        return back_up(source, file, check, quiet)


def restore_from(file, url):
    with verified_backup(file, check) as source, contextlib.closing(open_ledger(url)) as ledger:
        return fill_ledger(ledger, source, check, quiet)


def everything_in(path):
    """Every row of a ledger's file, by table."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {table: sorted(database.execute(f"select * from {table}"), key=repr) for table in tables}


def version_of(path):
    with contextlib.closing(SqliteDatabase(str(path), read_only=True)) as database:
        return database.version()


def order_in(ledger):
    return [row[0] for row in ledger._db._connection.execute("select meter_event_id from meter_event order by rowid")]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- backup


def test_a_backup_is_the_whole_ledger_in_one_private_file(used, ledger_path, file):
    """Every row, the ledger's id included, and nothing beside the file that would have to be copied with it."""
    report = back_up_to(file, ledger_path)

    assert everything_in(file) == everything_in(ledger_path)
    assert report.entries == verified(used).entries
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [name for name in names_in(file.parent) if name.startswith("backup")] == ["backup.sqlite3"]


def test_a_backup_takes_what_is_committed_and_nothing_else(used, ledger_path, file):
    """Another process is in the middle of a transaction, which a backup neither waits for nor sees."""
    before = everything_in(ledger_path)
    with used.transaction(Step.RECORD) as db:
        db.write("put_fact", name="half", value="written")
        back_up_to(file, ledger_path)

    assert everything_in(file) == before


def test_nothing_is_overwritten(used, ledger_path, file):
    """The file of an earlier backup stays; so does a file that appears while the copy is made."""
    file.write_text("another")
    with pytest.raises(ConfigError, match="is there already, and nothing is overwritten"):
        back_up_to(file, ledger_path)
    file.unlink()

    def appear(db):
        file.write_text("another")
        return check(db)

    with pytest.raises(ConfigError, match="is there already"):
        back_up_to(file, ledger_path, appear)
    assert file.read_text() == "another"
    assert [name for name in names_in(file.parent) if name.startswith("backup")] == ["backup.sqlite3"]


def test_a_backup_into_a_folder_that_is_not_there_is_refused(used, ledger_path, file):
    """The message names the file."""
    with pytest.raises(ConfigError, match=r"missing/backup.sqlite3 cannot be written: No such file or directory"):
        back_up_to(file.parent / "missing" / file.name, ledger_path)


def test_a_ledger_that_does_not_hold_is_not_backed_up(used, ledger_path, file):
    """A backup that cannot be restored would be found out too late."""
    tamper(f"sqlite:///{ledger_path}", "update entry set amount_micros = 1 where entry_id = 4")

    with pytest.raises(
        LedgerUnusable, match=r"does not verify, so nothing was written: \d+ findings, the first at entry 4"
    ):
        back_up_to(file, ledger_path)

    assert not [name for name in names_in(file.parent) if name.startswith("backup")]


def test_a_full_disk_leaves_no_backup(used, ledger_path, file, monkeypatch):
    """Neither under its name nor beside it; the message names the copy, and not the ledger."""
    connect = SqliteDatabase.__init__

    def small(database, path, **options):
        connect(database, path, **options)
        if path.endswith(".partial"):
            database._connection.execute("pragma max_page_count = 10")

    monkeypatch.setattr(SqliteDatabase, "__init__", small)
    with pytest.raises(LedgerFull, match=r"no space is left for the ledger .*backup\.sqlite3\.\w+\.partial"):
        back_up_to(file, ledger_path)

    assert not [name for name in names_in(file.parent) if name.startswith("backup")]


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS) + 1))
def test_a_ledger_of_an_older_version_is_backed_up_as_it_is(tmp_path, file, schema):
    """Before an upgrade is when a backup is wanted most; neither the ledger nor its copy is migrated."""
    older = make_older(tmp_path / "older.sqlite3", schema)
    before = everything_in(older)

    report = proof.backup_ledger(f"sqlite:///{older}", file, quiet)

    assert report.entries.startswith("1:")
    assert everything_in(file) == everything_in(older) == before
    assert [version_of(path) for path in (file, older)] == [schema, schema]


# ---- restore


def test_a_restored_ledger_is_the_one_that_was_backed_up(used, ledger_path, file, target):
    """Row for row, under the same id: the identifiers of its meter events must stay what they are."""
    back_up_to(file, ledger_path)
    expected = everything_in(ledger_path)

    report = restore_from(file, target)

    restored = file.parent / "restored.sqlite3"
    assert everything_in(restored) == expected
    assert report.ledger_id == used.fact("ledger_id")
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600


def test_a_restored_ledger_goes_on(used, ledger_path, file, target):
    """New lines are chained to those that were restored."""
    back_up_to(file, ledger_path)
    restore_from(file, target)

    with contextlib.closing(open_ledger(target)) as ledger:
        bill(ledger, "after", 3_000_000)
        gather_all(ledger)
        report = verified(ledger)

    assert (report.findings, report.entries[:3]) == ([], "16:")


@pytest.mark.parametrize(
    "use",
    [
        lambda ledger: bill(ledger, "t1"),
        lambda ledger: ledger.start_run("run-9", "sync", 0, "card", "card"),
    ],
)
def test_only_an_empty_ledger_is_filled(used, ledger_path, file, target, use):
    """Two histories are never mixed."""
    back_up_to(file, ledger_path)
    with contextlib.closing(open_ledger(target)) as ledger:
        use(ledger)
    before = everything_in(file.parent / "restored.sqlite3")

    with pytest.raises(ConfigError, match="is in use, and a backup is restored into an empty one only"):
        restore_from(file, target)

    assert everything_in(file.parent / "restored.sqlite3") == before


def test_a_ledger_that_was_only_looked_at_is_empty(used, ledger_path, file, target):
    """`tallymark doctor` writes a fact and an id; the id of the backup takes its place."""
    back_up_to(file, ledger_path)
    with contextlib.closing(open_ledger(target)) as ledger:
        ledger.put_fact("doctor", "wrote here")
        assert ledger.fact("ledger_id") != used.fact("ledger_id")

    assert restore_from(file, target).ledger_id == used.fact("ledger_id")


def test_a_backup_that_does_not_hold_is_refused_and_no_ledger_is_made(used, ledger_path, file, target):
    """There is no way around it."""
    back_up_to(file, ledger_path)
    tamper(f"sqlite:///{file}", "update carry set amount_micros = 1")

    with pytest.raises(LedgerUnusable, match=r"the backup .*backup.sqlite3 does not verify, so nothing was written"):
        restore_from(file, target)

    assert "restored.sqlite3" not in names_in(file.parent)


def test_what_was_copied_is_verified_before_it_is_committed(used, ledger_path, file, target, monkeypatch):
    """A copy that lost a row leaves an empty ledger."""
    back_up_to(file, ledger_path)
    insert_rows = SqliteDatabase.insert_rows

    def lose_one(database, table, columns, rows):
        insert_rows(database, table, columns, rows[:-1] if table == "attempt" else rows)

    monkeypatch.setattr(SqliteDatabase, "insert_rows", lose_one)
    with pytest.raises(LedgerUnusable, match=r"the restored ledger .* does not verify.*not numbered"):
        restore_from(file, target)
    monkeypatch.undo()

    with contextlib.closing(open_ledger(target)) as ledger, ledger.one_moment() as db:
        assert not db.row("is_used")["used"]
    assert restore_from(file, target).holds


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS) + 1))
def test_a_backup_of_every_schema_is_restored(tmp_path, target, schema):
    """It is brought up to date on a copy: the backup stays as it is, byte for byte."""
    older = make_older(tmp_path / "older.sqlite3", schema)
    before = older.read_bytes()

    report = proof.restore_ledger(target, older, quiet)

    assert (report.ledger_id, report.entries[:2]) == (LEDGER_ID, "1:")
    assert older.read_bytes() == before
    with contextlib.closing(open_ledger(target)) as ledger:
        assert ledger.billed_by_meter(("p", "t1")) == {"credits": 2_500_000}


def test_a_backup_of_a_newer_version_is_refused(used, ledger_path, file, target):
    """With what to do."""
    back_up_to(file, ledger_path)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")

    with pytest.raises(LedgerNewer, match=r"newer tallymark .*upgrade"):
        restore_from(file, target)


def test_an_empty_file_is_no_backup(file, target):
    """A copy that was cut to nothing opens as an empty database, and must not pass for a ledger without lines."""
    file.touch()

    with pytest.raises(LedgerUnusable, match=r"the backup .*backup.sqlite3 cannot be read, or is no ledger"):
        restore_from(file, target)


def test_a_backup_that_is_not_there_is_named(file, target):
    """A slip of the keyboard."""
    with pytest.raises(ConfigError, match="there is no file"):
        restore_from(file, target)


def test_a_ledger_that_somebody_writes_is_waited_for(used, ledger_path, file, target, monkeypatch):
    """A restore takes the write lock first, so that nothing comes between."""
    back_up_to(file, ledger_path)
    open_ledger(target).close()
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(target.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(LedgerLocked, match="another process has held the ledger"):
            restore_from(file, target)


def test_a_restore_never_joins_a_transaction_that_is_open(used, ledger_path, file, target):
    """The ledger is the only owner of transactions, and the outer one can still be undone."""
    back_up_to(file, ledger_path)
    with contextlib.closing(open_ledger(target)) as ledger:
        nested = pytest.raises(sqlite3.OperationalError, match="within a transaction")
        with verified_backup(file, check) as source, nested, ledger._db.transaction(Step.RECORD):
            fill_ledger(ledger, source, check, quiet)
        assert not ledger._db._connection.in_transaction


def test_rows_are_copied_in_batches_and_in_their_order(used, ledger_path, target, monkeypatch):
    """Memory does not grow with the ledger, and rows lie as they lay."""
    monkeypatch.setattr(copies, "ROWS", 4)
    sizes = []
    insert_rows = SqliteDatabase.insert_rows

    def counted(database, table, columns, rows):
        sizes.append(len(rows))
        insert_rows(database, table, columns, rows)

    monkeypatch.setattr(SqliteDatabase, "insert_rows", counted)
    with contextlib.closing(open_ledger(target)) as ledger:
        with ledger.transaction(Step.RESTORE) as db, used.one_moment() as source:
            copy_rows_txn(source, db, quiet)
        order = order_in(ledger)
    assert max(sizes) == 4
    assert order == order_in(used)


def test_a_database_of_another_kind_is_backed_up_row_by_row(used, file, monkeypatch):
    """What has no backup of its own goes into the file through streams of its tables, and the copy is the same."""

    class Other(SqliteDatabase):
        copy_to = None

    monkeypatch.setattr(backups, "SqliteDatabase", type("Made", (SqliteDatabase,), {}))
    other = Other(used._db.path, read_only=True)

    back_up(other, file, check, quiet)

    restored = everything_in(file)
    assert {table: len(rows) for table, rows in restored.items() if rows} == {
        "attempt": 5, "carry": 7, "chain": 2, "decision": 3, "entry": 15, "fact": 1, "meter_event": 11, "rate_card": 1,
        "run": 1, "trace": 9, "usage_stale": 7,
    }  # fmt: skip
