"""PostgreSQL under the ledger: opening, one writer at a time, migrations, its errors in our words (docs/adr/0032)."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, cast

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

from ..core.text import without_nul
from ..errors import (
    ConfigError,
    LedgerError,
    LedgerFull,
    LedgerLocked,
    LedgerMissing,
    LedgerNewer,
    LedgerUnreachable,
    LedgerUnusable,
)
from ..failpoints import Step
from .database import Database, NamedRow
from .statements import migration, numbered

MIGRATIONS = (
    "0001_first",
    "0002_jobs",
    "0003_requested_runs",
    "0004_usage_sums",
    "0005_search",
    "0006_alerts",
    "0007_stale_by_batch",
    "0008_plans",
    "0009_streamed",
    "0010_claims",
    "0011_meter_windows",
)
SERVER_VERSION_MIN = 130_000
BUSY_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 10
ROWS_AT_ONCE = 1000
# A process that stands still, or a machine that is gone, must not hold the ledger for longer. What is sent must outlast
# a power cut, or it would be forgotten and sent again as something else.
_SESSION = f"""
set lock_timeout = '{BUSY_TIMEOUT_SECONDS}s';
set idle_in_transaction_session_timeout = '5min';
set tcp_keepalives_idle = 30;
set tcp_keepalives_interval = 10;
set tcp_keepalives_count = 3;
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';
"""
# The lock's class is "tall" in ASCII, and its object the schema, so that two ledgers in a database do not meet.
_BEGIN = (
    "begin isolation level read committed; "
    "select pg_advisory_xact_lock(1952541804, oid::int) from pg_namespace where nspname = current_schema()"
)
_CREATES = re.compile(
    r"^create (?:unique )?(table|index|trigger|function) (\w+)(?:[^;$]*?execute function (\w+)|[^;$]*?\$\$(.*?)\$\$)?",
    re.DOTALL | re.MULTILINE,
)
_DROPS = re.compile(r"^drop (table|index|trigger|function) (\w+)", re.MULTILINE)

# These are told before the connection ends.
_LOST = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleInTransactionSessionTimeout)
_RUN_AGAIN = "nothing is half-written. Run again when the server is reachable."
_ERRORS: tuple[tuple[type[psycopg.Error], type[LedgerError], str], ...] = (
    (
        pg.LockNotAvailable,
        LedgerLocked,
        "another process has held the ledger {name} for too long; run again when it is done.",
    ),
    (
        pg.DeadlockDetected,
        LedgerLocked,
        "something else locks tables of the ledger {name}; run again when it is done.",
    ),
    (
        pg.InsufficientPrivilege,
        LedgerUnusable,
        "the role may not do this in the ledger {name} ({said}); grant it what docs/howto/postgres.md lists.",
    ),
    (
        pg.ReadOnlySqlTransaction,
        LedgerUnusable,
        "the ledger {name} is read-only; let BILLING_LEDGER_URL name the server that takes writes.",
    ),
    (
        pg.DiskFull,
        LedgerFull,
        "no space is left for the ledger {name}; nothing is half-written. Free space on its server and run again.",
    ),
    (
        pg.UndefinedTable,
        LedgerUnusable,
        "the ledger {name} lacks a table ({said}); restore the newest backup that verifies into an empty database.",
    ),
    (
        pg.UndefinedColumn,
        LedgerUnusable,
        "the ledger {name} lacks a column ({said}); restore the newest backup that verifies into an empty database.",
    ),
    (
        pg.QueryCanceled,
        LedgerUnusable,
        "the server of the ledger {name} broke off a statement ({said}); raise statement_timeout for this role.",
    ),
)


class _Text(StrDumperUnknown):
    """Text without NUL, which PostgreSQL refuses. Its type is that of the column, as SQLite has it."""

    def dump(self, obj: str) -> Any:
        return super().dump(without_nul(obj))


class _Integer(Int8Dumper):
    """An integer whose type is that of its column, so that a null beside it makes no other statement."""

    oid = 0


class PostgresDatabase(Database):
    """One connection to a ledger on a server: the tables in the first schema of its search path."""

    dialect = "postgres"

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.name, options = _options(url)
        self._cursors = count(1)
        self._one_at_a_time = threading.Lock()
        try:
            self._connection = psycopg.connect(**options, autocommit=True, cursor_factory=psycopg.RawCursor)
        except psycopg.Error as error:
            raise LedgerUnreachable(
                f"the ledger {self.name} cannot be reached: {_last_line(error)}. Check that its server runs, and that "
                "BILLING_LEDGER_URL names its host, role, password and an existing database (docs/howto/postgres.md)."
            ) from None  # The driver's own error might say more of the address than anybody should read.
        self._connection.server_cursor_factory = psycopg.RawServerCursor
        self._connection.adapters.register_dumper(str, _Text)
        self._connection.adapters.register_dumper(int, _Integer)
        with contextlib.ExitStack() as undo:
            undo.callback(self._connection.close)
            self._begin_session(read_only)
            undo.pop_all()

    def _begin_session(self, read_only: bool) -> None:
        if self._connection.info.server_version < SERVER_VERSION_MIN:
            raise LedgerUnusable(
                f"the server of the ledger {self.name} is too old (version {self._connection.info.server_version}); "
                "upgrade it to PostgreSQL 13 or later."
            )
        with self._errors():
            self._connection.execute(_SESSION)
            if read_only:
                self._connection.execute("set default_transaction_read_only = on")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: psycopg.Error) -> LedgerError:
        said = error.diag.message_primary or ""
        for kind, ours, message in _ERRORS:
            if isinstance(error, kind):
                return ours(message.format(name=self.name, said=said))
        if self._connection.closed or isinstance(error, _LOST):
            return LedgerUnreachable(f"the connection to the ledger {self.name} was lost; {_RUN_AGAIN}")
        # What the server says may hold a value of a row; its kind does not.
        return LedgerUnusable(
            f"the ledger {self.name} refused a statement ({type(error).__name__}, SQLSTATE {error.sqlstate}). Run "
            "`tallymark ledger verify`: if it finds nothing, report this as a bug."
        )

    # --- transactions

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._transaction(_BEGIN), self._errors():
            yield

    @contextlib.contextmanager
    def one_moment(self) -> Iterator[None]:
        """As Database.one_moment."""
        # The moment is that of the first read.
        with self._transaction("begin isolation level repeatable read, read only; select 1"):
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        if self._connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            # The server would only warn, and the end of the inner one would be that of the outer one.
            raise RuntimeError("cannot start a transaction within a transaction")
        try:
            with self._errors():
                self._connection.execute(begin)
            yield
            with self._errors():
                self._connection.execute("commit")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # A lost connection has ended the transaction already; a second error would hide the first.
        with contextlib.suppress(psycopg.Error):
            self._connection.execute("rollback")

    # --- statements

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One statement at a time: while one thread writes many rows, the driver refuses other ways of asking."""
        with self._one_at_a_time, self._errors():
            yield

    def _run(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self._turn():
            cursor = self._connection.cursor(row_factory=dict_row).execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def _run_plain(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._turn():
            return self._connection.cursor(row_factory=tuple_row).execute(sql, values).fetchall()

    def stream(self, name: str, /, **values: Any) -> Iterator[Any]:
        """As Database.stream."""
        return self._stream(numbered(name, self.dialect), self._bound(name, values), dict_row)

    def _stream(self, sql: str, values: tuple[Any, ...], rows: Any) -> Iterator[Any]:
        """Rows from a cursor on the server; outside a transaction it keeps them, as others may write meanwhile."""
        alone = self._connection.info.transaction_status == TransactionStatus.IDLE
        cursor = self._connection.cursor(f"rows_{next(self._cursors)}", row_factory=rows, withhold=alone)
        try:
            with self._turn():
                cursor.execute(sql, values)
            while found := self._fetch(cursor):
                yield from found
        finally:
            # It may be dropped after its connection, or after its transaction has failed.
            with contextlib.suppress(psycopg.Error):
                cursor.close()

    def _fetch(self, cursor: psycopg.ServerCursor[Any]) -> list[Any]:
        with self._turn():
            return cursor.fetchmany(ROWS_AT_ONCE)

    def _change(self, sql: str, values: tuple[Any, ...]) -> int:
        with self._turn():
            return self._connection.execute(sql, values).rowcount

    def _change_each(self, sql: str, rows: Sequence[NamedRow]) -> None:
        if rows:
            with self._turn(), self._connection.cursor() as cursor:
                cursor.executemany(sql, cast(Sequence[tuple[Any, ...]], rows))

    def tables(self) -> list[str]:
        """As Database.tables."""
        return [row["name"] for row in self.rows("catalog_tables")]

    def columns_of(self, table: str) -> list[str]:
        """As Database.columns_of."""
        return [row["name"] for row in self.rows("catalog_columns", table_name=table)]

    def stream_table(self, table: str) -> Iterator[tuple[Any, ...]]:
        """As Database.stream_table."""
        # The table is one of `tables`, never text of a caller.
        return self._stream(f"select {', '.join(self.columns_of(table))} from {table}", (), tuple_row)  # noqa: S608

    def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """As Database.insert_rows."""
        names = ", ".join(columns)
        with self._errors(), self._connection.cursor().copy(f"copy {table} ({names}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)

    # --- the schema

    def weaknesses(self) -> list[str]:
        """As Database.weaknesses."""
        off = [row["name"] for row in self.rows("catalog_weaknesses")]
        return [f"{name} is off on its server: a power cut there can lose what was sent to Stripe" for name in off]

    def changes_of_schema(self) -> list[str]:
        """As Database.changes_of_schema."""
        ours = _made_by_migrations()
        theirs = {f"the {row['kind']} {row['name']}": row["does"] for row in self.rows("catalog_made")}
        wrong = [f"{what} is missing or was changed" for what, does in ours.items() if theirs.get(what) != does]
        return wrong + [f"{what} is none that tallymark makes" for what in theirs if what not in ours]

    def migrate(self) -> None:
        """As Database.migrate."""
        if self.version() == len(MIGRATIONS):
            return
        with self.transaction(Step.MIGRATE):
            for number in range(self.version(), len(MIGRATIONS)):
                self._connection.execute(migration(MIGRATIONS[number], self.dialect))
                self._connection.execute("delete from schema_version")
                self._change("insert into schema_version (version) values ($1)", (number + 1,))

    def version(self) -> int:
        """How many migrations the schema has seen. Raises LedgerNewer or LedgerUnusable."""
        if not self.columns_of("schema_version"):
            self._require_empty()
            return 0
        found = int(self._run("select max(version) as version from schema_version", ())[0]["version"] or 0)
        if found > len(MIGRATIONS):
            raise LedgerNewer(
                f"the ledger {self.name} was written by a newer tallymark (schema {found}); upgrade tallymark."
            )
        return found

    def _require_empty(self) -> None:
        """Raise LedgerUnusable unless a ledger can be made here."""
        place = self.row("catalog_place")
        if place["schema"] is None:
            raise LedgerUnusable(
                f"the role of {self.name} has no schema to keep a ledger in; make one that it owns, or grant it usage "
                "and create on the one it should use (docs/howto/postgres.md)."
            )
        if place["encoding"] != "UTF8":
            raise LedgerUnusable(
                f"the database {self.name} has the encoding {place['encoding']}, and a ledger needs UTF8; make one "
                "with `create database … encoding 'UTF8' template template0`."
            )
        if self.tables():
            raise LedgerUnusable(
                f"the schema {place['schema']} of {self.name} holds tables of something else; set BILLING_LEDGER_URL "
                "to a database of its own, or to a schema of its own with ?options=-csearch_path%3DSCHEMA."
            )

    def require_current(self) -> None:
        """As Database.require_current."""
        found = self.version()
        if found == 0:
            raise LedgerMissing(
                f"there is no ledger in {self.name} yet; run `tallymark sync` first, or set BILLING_LEDGER_URL."
            )
        if found < len(MIGRATIONS):
            raise LedgerUnusable(
                f"the ledger {self.name} was written by an older tallymark; `tallymark sync` brings it up to date."
            )

    def version_of_data(self) -> object:
        """As Database.version_of_data: which transactions are visible, of any database of the server."""
        return self._run("select pg_current_snapshot()::text as snapshot", ())[0]["snapshot"]

    def close(self) -> None:
        """As Database.close."""
        self._connection.close()


def schema_beside(url: str, suffix: str) -> tuple[str, str]:
    """A schema beside that of a ledger, of the same name with a suffix, and an address that finds its tables first.

    Raises LedgerError or ConfigError as opening the ledger does.
    """
    with contextlib.closing(PostgresDatabase(url, read_only=True)) as database:
        own = database.row("catalog_place")["schema"] or ""
    schema = '"' + f"{own}{suffix}".replace('"', '""') + '"'
    given = conninfo_to_dict(url)
    path = schema.replace("\\", "\\\\").replace(" ", "\\ ")
    return schema, make_conninfo("", **{**given, "options": f"{given.get('options') or ''} -c search_path={path}"})


def _options(url: str) -> tuple[str, dict[str, Any]]:
    """What errors call the ledger that a URL names, and how to connect to it. Raises ConfigError for no such URL."""
    try:
        given = conninfo_to_dict(url)
        _refuse_a_split_password(given)
    except (psycopg.Error, ValueError):
        raise ConfigError(
            "BILLING_LEDGER_URL is not an address that PostgreSQL can read; write "
            "postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE, with @ : / % and # of a password percent-encoded."
        ) from None  # The driver's error repeats the address, with the password in it.
    role = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    name = f"postgresql://{role}{given.get('host') or ''}{port}/{given.get('dbname') or ''}"
    defaults = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "fallback_application_name": "tallymark"}
    return name, {**defaults, **given, "client_encoding": "utf8"}


def _refuse_a_split_password(given: dict[str, Any]) -> None:
    """Raise ValueError if an @ or / of a password was not encoded: its rest would be told as host, port or database."""
    parts = f"{given.get('host') or ''}{given.get('dbname') or ''}"
    if "@" in parts or not re.fullmatch(r"[0-9,]*", str(given.get("port") or "")):
        raise ValueError


def _last_line(error: psycopg.Error) -> str:
    """What the server, or the network, said in the end."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


def _made_by_migrations() -> dict[str, str]:
    """What the migrations make: of a trigger, the function that it calls; of a function, what it does."""
    made: dict[str, str] = {}
    for name in MIGRATIONS:
        script = migration(name, PostgresDatabase.dialect)
        for kind, named in _DROPS.findall(script):
            del made[f"the {kind} {named}"]
        for kind, named, calls, does in _CREATES.findall(script):
            made[f"the {kind} {named}"] = calls or does
    return dict(sorted(made.items()))
