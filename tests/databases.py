"""The databases under the ledger, for tests: addresses of fresh ledgers, and questions over a connection of our own."""

import contextlib
import re
import sqlite3
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from unittest import mock

import psycopg
from psycopg.rows import dict_row

from postgres_server import as_superuser, server
from tallymark.ledger import sqlite
from tallymark.ledger.opening import open_database

SQLITE, POSTGRES = "sqlite", "postgres"
DATABASES = (SQLITE, POSTGRES)
# What a database says to an edit that a trigger, or a unique key, refuses.
REFUSED = (sqlite3.IntegrityError, psycopg.Error)
NESTED = (sqlite3.OperationalError, RuntimeError)


@contextlib.contextmanager
def fresh_ledgers(kind, folder):
    """A function that gives the address of a ledger by its name, of a kind: "sqlite" or "postgres"."""
    if kind == SQLITE:
        yield lambda name="ledger": f"sqlite:///{folder / name}.sqlite3"
        return
    made = {}

    def address(name="ledger"):
        if name not in made:
            made[name] = server().new_schema()
        return made[name]

    try:
        yield address
    finally:
        for url in made.values():
            server().drop_schema(url)


def is_file(url):
    """Whether a ledger is a file."""
    return url.startswith("sqlite:")


def path_of(url):
    """Where the file of a ledger is."""
    assert is_file(url), f"{url} names no file"
    return Path(url.removeprefix("sqlite:///"))


def ask(url, question, *values):
    """Rows of a ledger, as tuples, over a connection of our own, which sees only what is committed; `?` is a value."""
    if is_file(url):
        with contextlib.closing(sqlite3.connect(path_of(url))) as database:
            found = database.execute(question, values).fetchall()
            database.commit()
            return found
    numbers = partial(next, count(1))
    with psycopg.connect(url, cursor_factory=psycopg.RawCursor) as database:
        cursor = database.execute(re.sub(r"\?", lambda _: f"${numbers()}", question), values)
        return [tuple(map(_integer, row)) for row in cursor.fetchall()] if cursor.description else []


def run_script(url, script):
    """Run statements, with a ledger's own rights."""
    if is_file(url):
        with contextlib.closing(sqlite3.connect(path_of(url))) as database:
            database.executescript(script)
    else:
        with psycopg.connect(url) as database:
            database.execute(script)


def _integer(value):
    """A sum of integers, which PostgreSQL gives as a Decimal."""
    return int(value) if isinstance(value, Decimal) else value


def tables_of(url):
    """The tables of a ledger."""
    if is_file(url):
        question = "select name from sqlite_master where type = 'table' order by 1"
    else:
        question = "select tablename from pg_tables where schemaname = current_schema() order by 1"
    return [name for (name,) in ask(url, question)]


def everything(url):
    """Everything that a second connection can read, by table."""
    return {table: sorted(ask(url, f"select * from {table}"), key=repr) for table in tables_of(url)}


@contextlib.contextmanager
def impatient(url):
    """A database of its own on a ledger, that waits for no other."""
    with mock.patch.object(sqlite, "BUSY_TIMEOUT_SECONDS", 0):
        database = open_database(url)
    if not is_file(url):
        database._connection.execute("set lock_timeout = '1ms'")
    with contextlib.closing(database):
        yield database


@contextlib.contextmanager
def without_triggers(url):
    """A function that runs statements on a ledger which no trigger stops, and gives their rows by column name."""
    with _editor_of_file(url) if is_file(url) else _editor_on_server(url) as edit:
        yield edit


@contextlib.contextmanager
def _editor_of_file(url):
    with contextlib.closing(sqlite3.connect(path_of(url), isolation_level=None)) as database:
        database.row_factory = sqlite3.Row
        triggers = database.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"drop trigger {name}")
        yield lambda statement, *values: database.execute(statement, values).fetchall()
        for _, sql in triggers:
            database.execute(sql)


@contextlib.contextmanager
def _editor_on_server(url):
    with psycopg.connect(as_superuser(url), row_factory=dict_row) as database:
        database.execute("set session_replication_role = replica")

        def edit(statement, *values):
            cursor = database.execute(statement.replace("?", "%s") if values else statement, values or None)
            return cursor.fetchall() if cursor.description else []

        yield edit


def has_table(url, name):
    """Whether a ledger is there, with a table."""
    return (not is_file(url) or path_of(url).exists()) and name in tables_of(url)
