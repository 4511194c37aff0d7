"""PostgreSQL under the ledger, on a real server: what is its own, and a clear error for each way in which it fails."""

import contextlib
import sys
import threading
from importlib import resources
from unittest import mock

import psycopg
import pytest

from builders import read_trace
from databases import SQLITE, ask, everything, fresh_ledgers, run_script, tables_of
from ledger_lines import NOW_US, RUN, bill, charge, entry, gather_all
from postgres_server import PASSWORD, ROLE, as_superuser, server
from tallymark.errors import (
    ConfigError,
    LedgerFull,
    LedgerLocked,
    LedgerMissing,
    LedgerNewer,
    LedgerUnreachable,
    LedgerUnusable,
)
from tallymark.failpoints import Side, Step
from tallymark.ledger import open_ledger, postgres
from tallymark.ledger.opening import dry_copy, open_database
from tallymark.ledger.postgres import MIGRATIONS
from tallymark.ledger.rows import TouchTrace
from tallymark.ledger.statements import numbered
from tallymark.settings import parse_ledger_url

pytestmark = pytest.mark.databases("postgres")
SQL = resources.files("tallymark.ledger").joinpath("sql")
STATEMENTS = sorted({file.name.split(".")[0] for file in SQL.iterdir()})
COLUMN_TYPES = {20: "bigint", 23: "integer", 25: "text", 19: "name"}
COUNT = "select count(*) from entry"


@contextlib.contextmanager
def opened(url, **options):
    with contextlib.closing(open_ledger(url, **options)) as ledger:
        yield ledger


# ---- statements and schema


@pytest.fixture(scope="module")
def prepared():
    """A function that has a server prepare a statement and tells the types of its columns."""
    with fresh_ledgers("postgres", None) as address, opened(address()) as ledger:
        connection = ledger._db._connection.pgconn

        def prepare(name):
            result = connection.prepare(name.encode(), numbered(name, "postgres").encode())
            assert not result.error_message, result.error_message.decode()
            described = connection.describe_prepared(name.encode())
            return {COLUMN_TYPES.get(described.ftype(each)) for each in range(described.nfields)}

        yield prepare


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_runs_on_a_server(prepared, name):
    """The server knows its tables, columns and types; and no sum leaves as anything but an integer."""
    assert None not in prepared(name)


def shape_of_file(url):
    """Each table's columns in order with (whether it may be null, place in the primary key), and its indexes."""
    columns = {
        table: [
            (name, not (required or key), key)
            for name, required, key in ask(url, 'select name, "notnull", pk from pragma_table_info(?)', table)
        ]
        for table in tables_of(url)
    }
    indexes = ask(url, "select name from sqlite_master where type = 'index' and name not like 'sqlite_%'")
    return columns, sorted(name for (name,) in indexes)


def shape_on_server(url):
    """The same of a schema."""
    key = """coalesce((select array_position(k.conkey, a.attnum) from pg_constraint as k
                        where k.conrelid = a.attrelid and k.contype = 'p'), 0)"""
    question = f"""select a.attname, not a.attnotnull, {key} from pg_attribute as a
                    where a.attrelid = ?::regclass and a.attnum > 0 order by a.attnum"""
    columns = {table: ask(url, question, table) for table in tables_of(url) if table != "schema_version"}
    indexes = """select indexname from pg_indexes where schemaname = current_schema()
                    and indexname not like '%_pkey' and indexname not like '%_key'"""
    return columns, sorted(name for (name,) in ask(url, indexes))


def test_both_databases_have_the_same_tables_columns_and_indexes(ledger, ledger_url, tmp_path):
    """A migration of one cannot be forgotten in the other."""
    with fresh_ledgers(SQLITE, tmp_path) as address, opened(address()):
        tables, indexes = shape_of_file(address())
    found_tables, found_indexes = shape_on_server(ledger_url)

    assert found_tables == tables
    assert found_indexes == indexes


def test_text_is_ordered_by_its_bytes_in_every_column(ledger, ledger_url):
    """As SQLite does, and as the code that pages by the last id believes, whatever the locale of the database."""
    question = """select c.relname, a.attname, l.collname from pg_attribute as a
                    join pg_class as c on c.oid = a.attrelid join pg_collation as l on l.oid = a.attcollation
                   where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and a.attnum > 0"""
    found = ask(ledger_url, question)

    assert len(found) > 100
    assert {collation for _, _, collation in found} == {"C"}


def test_the_short_name_of_the_scheme_is_known(ledger_url):
    """As libpq knows it, and many a hoster gives it."""
    short = ledger_url.replace("postgresql://", "postgres://")

    with opened(parse_ledger_url(short)) as ledger:
        bill(ledger, "t1")

    assert ask(ledger_url, COUNT) == [(1,)]


# ---- migrations


def test_many_processes_make_one_ledger(new_ledger):
    """All find nothing and want to make it; one does, under the lock, and its id is everybody's."""
    ids, gate = [], threading.Barrier(6)

    def open_one():
        gate.wait()
        with opened(new_ledger()) as ledger:
            ids.append(ledger.fact("ledger_id"))

    new_ledger()
    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 6
    assert len(set(ids)) == 1


@pytest.mark.parametrize("landed", range(len(MIGRATIONS)))
def test_every_schema_that_has_landed_is_carried_on(ledger_url, landed):
    """From nothing, and from each version before today's."""
    with mock.patch.object(postgres, "MIGRATIONS", MIGRATIONS[:landed]):
        database = open_database(ledger_url)
        database.migrate()
        database.close()

    with opened(ledger_url) as ledger:
        bill(ledger, "t1")

    assert ask(ledger_url, "select version from schema_version") == [(len(MIGRATIONS),)]


def test_an_older_schema_is_not_changed_by_reading(ledger, ledger_url):
    """`usage` says what to do."""
    with (
        mock.patch.object(postgres, "MIGRATIONS", (*MIGRATIONS, "0002_next")),
        pytest.raises(LedgerUnusable, match="older tallymark; `tallymark sync` brings it up to date"),
    ):
        open_ledger(ledger_url, read_only=True)


def test_a_newer_schema_is_left_alone(ledger, ledger_url):
    """A rollback of tallymark says so and changes nothing."""
    ask(ledger_url, "update schema_version set version = 99")

    with pytest.raises(LedgerNewer, match=r"newer tallymark \(schema 99\)"):
        open_ledger(ledger_url)


def test_a_migration_that_is_killed_leaves_nothing(ledger_url, stopped):
    """Tables and version come together."""
    with stopped(Step.MIGRATE, Side.BEFORE):
        open_ledger(ledger_url)
    assert tables_of(ledger_url) == []

    with opened(ledger_url) as ledger:
        bill(ledger, "t1")


def test_tables_of_something_else_are_left_alone(ledger_url):
    """A ledger has its schema to itself."""
    run_script(ledger_url, "create table users (name text)")

    with pytest.raises(LedgerUnusable, match="holds tables of something else"):
        open_ledger(ledger_url)

    assert tables_of(ledger_url) == ["users"]


def test_a_schema_that_is_not_there_is_named(ledger_url):
    """A search path that leads nowhere."""
    with pytest.raises(LedgerUnusable, match="no schema to keep a ledger in"):
        open_ledger(f"{ledger_url}x")


def test_another_encoding_is_refused():
    """Names and reasons are text of any language."""
    with (
        server().new_database("encoding 'LATIN1' template template0 locale 'C'") as url,
        pytest.raises(LedgerUnusable, match="has the encoding LATIN1, and a ledger needs UTF8"),
    ):
        open_ledger(url)


def test_a_database_of_its_own_needs_no_search_path():
    """As most will have it."""
    with server().new_database() as url, opened(url) as ledger:
        bill(ledger, "t1")

        assert ask(url, COUNT) == [(1,)]


def test_reading_a_ledger_that_is_not_there_creates_nothing(ledger_url):
    """`explain` before the first sync."""
    with pytest.raises(LedgerMissing, match="run `tallymark sync` first"):
        open_ledger(ledger_url, read_only=True)

    assert tables_of(ledger_url) == []


# ---- what cannot be reached or done


def no_password(raised):
    """The error's whole chain is free of the password, in each of its forms."""
    error = raised.value
    while error is not None:
        for form in (PASSWORD, "p%40ss"):
            assert form not in f"{error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_server_that_does_not_run(ledger_url):
    """Connection refused."""
    with pytest.raises(LedgerUnreachable, match="Check that its server runs") as raised:
        open_ledger(f"postgresql://{ROLE}:p%40ss%3Aw%2Frd%25%23@127.0.0.1:1/ledger")

    assert raised.value.exit_status == 4
    assert "postgresql://tallymark@127.0.0.1:1/ledger" in str(raised.value)
    no_password(raised)


def test_a_database_that_does_not_exist():
    """The server's own words are passed on."""
    with pytest.raises(LedgerUnreachable, match='database "nowhere" does not exist') as raised:
        open_ledger(server().url("nowhere"))

    no_password(raised)


def test_a_wrong_password():
    """It is not shown either."""
    with pytest.raises(LedgerUnreachable, match="password authentication failed") as raised:
        open_ledger(server().url().replace("p%40ss", "p%40ssx"))

    no_password(raised)


# An @ or / of the password that is not encoded ends it for libpq, and the rest would be a host, a port, a database.
SPLIT = ["postgresql://u:x@p%40ss@h/d", "postgresql://u:p%40ss/x@h/d", "postgresql://u:1/p%40ss@h/d"]


@pytest.mark.parametrize(
    "url",
    [f"postgresql://u:{PASSWORD}@h/d", "postgresql://u:p%40ss%zz@h/d", "postgresql://u:p%40ss@h/d?nothing=1", *SPLIT],
)
def test_an_address_that_cannot_be_read_is_not_repeated(url):
    """Its password may be the very thing that was not escaped."""
    with pytest.raises(ConfigError, match="not an address that PostgreSQL can read") as raised:
        open_ledger(url)

    no_password(raised)


def test_a_missing_driver_is_named(ledger_url, monkeypatch):
    """The extra is not installed."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "tallymark.ledger.postgres")

    with pytest.raises(ConfigError, match=r"pip install 'tallymark\[postgres\]'"):
        open_ledger(ledger_url)


def test_a_server_that_is_too_old(ledger_url):
    """What the statements use came with PostgreSQL 13."""
    with (
        mock.patch.object(postgres, "SERVER_VERSION_MIN", 10**7),
        pytest.raises(LedgerUnusable, match="upgrade it to PostgreSQL 13 or later"),
    ):
        open_ledger(ledger_url)


@pytest.fixture
def reader(ledger, ledger_url):
    """The address of a ledger for a role that may only read it."""
    schema = ledger_url.rpartition("%3D")[2]
    server().execute(f"create role reader login password '{PASSWORD}'")
    server().execute(f"grant usage on schema {schema} to reader")
    server().execute(f"grant select on all tables in schema {schema} to reader")
    yield ledger_url.replace(f"//{ROLE}:", "//reader:")
    server().execute("drop owned by reader")
    server().execute("drop role reader")


def test_a_role_that_may_only_read_reads(ledger, reader):
    """For reports and `explain`."""
    bill(ledger, "t1")

    with opened(reader, read_only=True) as theirs:
        assert [row["entries_micros"] for row in theirs.query("balances")] == [2_500_000]


def test_a_role_that_may_not_write_is_told_so(reader):
    """With what to do next."""
    with opened(reader) as theirs, pytest.raises(LedgerUnusable, match=r"permission denied for table trace.*grant it"):
        bill(theirs, "t1")


def test_a_ledger_opened_for_reading_is_not_written(ledger, ledger_url):
    """Whatever the role may do."""
    with opened(ledger_url, read_only=True) as theirs, pytest.raises(LedgerUnusable, match="is read-only"):
        theirs.put_fact("a", "b")


def raising(code):
    """A script after which every insert into `trace` fails with an SQLSTATE."""
    return f"""
        create function fail() returns trigger language plpgsql as $$
        begin raise exception 'secret of a row' using errcode = '{code}'; end $$;
        create trigger fail before insert on trace for each row execute function fail()
    """


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("53100", LedgerFull, "no space is left"),
        ("40P01", LedgerLocked, "locks tables"),
        ("57014", LedgerUnusable, "broke off a statement"),
        ("57P01", LedgerUnreachable, "was lost; nothing is half-written"),
        ("22003", LedgerUnusable, r"NumericValueOutOfRange, SQLSTATE 22003"),
    ],
)
def test_what_the_server_refuses_has_a_word_and_nothing_is_half_written(ledger, ledger_url, code, error, words):
    """Disk full in the middle of a batch, and the others."""
    bill(ledger, "before")
    before = everything(ledger_url)
    run_script(ledger_url, raising(code))

    with pytest.raises(error, match=words):
        ledger.record(RUN, [read_trace("t1")], lambda one, _: charge(one, entry(one, 1)))

    assert everything(ledger_url) == before
    run_script(ledger_url, "drop trigger fail on trace")
    bill(ledger, "t1")


def end_connection(ledger):
    """End a ledger's connection from the server's side."""
    (ended,) = server().execute("select pg_terminate_backend(%s)", ledger._db._connection.info.backend_pid).fetchone()
    assert ended


def test_a_connection_lost_in_a_transaction_leaves_nothing(ledger, ledger_url):
    """Decided, half stored, and the server is gone."""
    bill(ledger, "before")
    before = everything(ledger_url)

    def decide(trace, _known):
        end_connection(ledger)
        return charge(trace, entry(trace, 1))

    with pytest.raises(LedgerUnreachable, match=r"was lost; nothing is half-written. Run again"):
        ledger.record(RUN, [read_trace("t1")], decide)

    assert everything(ledger_url) == before
    with pytest.raises(LedgerUnreachable):
        ledger.fact("ledger_id")


def test_a_connection_lost_before_the_commit_leaves_nothing(ledger, ledger_url):
    """All was stored, and not committed."""
    before = everything(ledger_url)

    with pytest.raises(LedgerUnreachable), ledger.transaction(Step.PUT_FACT) as db:
        db.write("put_fact", name="a", value="b")
        end_connection(ledger)

    assert everything(ledger_url) == before


def test_a_connection_lost_while_rows_are_read(ledger):
    """The rest of the rows is missed, not believed to be none."""
    for number in range(2 * postgres.ROWS_AT_ONCE // 100 + 1):
        traces = [read_trace(f"t{number}-{each}") for each in range(100)]
        ledger.record(RUN, traces, lambda one, _: charge(one, entry(one, 1)))

    rows = ledger.query("all_entries")
    next(rows)
    end_connection(ledger)

    with pytest.raises(LedgerUnreachable):
        list(rows)


def test_a_lock_of_a_lost_process_is_free_at_once(ledger, ledger_url):
    """Its transaction has ended with its connection."""
    with opened(ledger_url) as other:
        other._db._connection.execute(postgres._BEGIN)
        other._db._connection.pgconn.finish()

        bill(ledger, "t1")


# ---- one writer, many readers


def test_ledgers_in_two_schemas_do_not_wait_for_each_other(new_ledger):
    """The lock is the schema's."""
    with opened(new_ledger()) as one, opened(new_ledger("other")) as other:
        other._db._connection.execute("set lock_timeout = '1ms'")
        with one.transaction(Step.RECORD):
            other.put_fact("a", "b")


def test_what_is_streamed_is_one_moment_and_hinders_no_writer(ledger, ledger_url):
    """Rows are read one by one while this connection, and another one, write."""
    for number in range(5):
        bill(ledger, f"t{number}")
    with mock.patch.object(postgres, "ROWS_AT_ONCE", 2), opened(ledger_url) as other:
        rows = ledger.query("all_entries")
        first = next(rows)
        bill(ledger, "mine")
        bill(other, "theirs")

        assert [first["trace_id"], *(row["trace_id"] for row in rows)] == [f"t{number}" for number in range(5)]


def test_a_stream_that_is_dropped_is_closed(ledger):
    """In a transaction and outside it."""
    bill(ledger, "t1")
    bill(ledger, "t2")
    next(ledger.query("all_entries"))
    with ledger.one_moment() as db:
        next(db.stream("all_entries"))

    assert ledger._db._connection.execute("select count(*) from pg_cursors").fetchone() == (0,)


def test_the_stamp_of_the_data_tells_every_commit(ledger, ledger_url):
    """A decision may rest on what was read earlier only if nobody has written since; here the server is ours alone."""
    with opened(ledger_url) as other:
        stamps = [ledger._db.version_of_data()]
        assert ledger._db.version_of_data() == stamps[0]
        for each in (ledger, other):
            bill(each, f"by {len(stamps)}")
            stamps.append(ledger._db.version_of_data())

    assert len(set(stamps)) == 3


def test_the_stamp_tells_a_commit_that_was_overtaken(ledger, ledger_url):
    """A transaction that began before another one, and ended after it, changes the stamp too."""
    with opened(ledger_url) as other:
        with psycopg.connect(as_superuser(ledger_url), autocommit=True) as newer, other.transaction(Step.RECORD) as db:
            db.write("put_fact", name="a", value="b")
            newer.execute("select pg_current_xact_id()")
            before = ledger._db.version_of_data()

        assert ledger._db.version_of_data() != before


# ---- values


def test_nul_never_stops_a_batch(ledger, look):
    """PostgreSQL takes no NUL; what comes from elsewhere than Langfuse loses it on its way into a statement."""
    bill(ledger, "t1")
    gather_all(ledger)
    ledger.put_fact("said", "a\0b")

    assert look("select value from fact where name = 'said'") == [("a\ufffdb",)]


def test_large_amounts_are_exact(ledger):
    """Beyond 32 bits, and summed."""
    for number in range(3):
        bill(ledger, f"t{number}", 9_007_199_254_740_993)

    assert [row["entries_micros"] for row in ledger.query("balances")] == [27_021_597_764_222_979]


def test_a_dry_copy_holds_what_the_ledger_holds_and_gives_nothing_back(ledger, ledger_url):
    """A dry run goes through all steps on a file."""
    bill(ledger, "t1")
    before = everything(ledger_url)

    with dry_copy(ledger_url) as copy:
        gather_all(copy)
        assert len(copy.claim(NOW_US, 10)) == 1

    assert everything(ledger_url) == before


def test_a_dry_copy_of_no_ledger_creates_none(ledger_url):
    """A first dry run."""
    with dry_copy(ledger_url) as copy:
        bill(copy, "t1")

    assert tables_of(ledger_url) == []


def test_one_thread_reads_row_by_row_while_another_writes_many(ledger):
    """Both use the connection of the transaction, as storing does (docs/adr/0044): they take turns at it."""
    rows = [TouchTrace("run", "processed", NOW_US, "", "none", "project", f"t{number}") for number in range(5000)]
    with ledger.transaction(Step.RECORD) as db:
        writer = threading.Thread(target=db.write_many, args=("touch_trace", rows))
        writer.start()
        # The driver sends many rows in a mode of its own, in which it refuses to read row by row.
        while writer.is_alive() and not db._connection.pgconn.pipeline_status:
            pass
        assert writer.is_alive()
        assert list(db.stream("rate_cards")) == []
        writer.join()
