"""The databases under the ledger, for tests: addresses of fresh ledgers, and questions over a connection of our own."""

import contextlib
import re
import sqlite3
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path

import psycopg

from postgres_server import server

SQLITE, POSTGRES = "sqlite", "postgres"
DATABASES = (SQLITE, POSTGRES)


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


def _integer(value):
    """A sum of integers, which PostgreSQL gives as a Decimal."""
    return int(value) if isinstance(value, Decimal) else value


def has_table(url, name):
    """Whether a ledger is there, with a table."""
    if is_file(url):
        return path_of(url).exists() and bool(ask(url, "select 1 from sqlite_master where name = ?", name))
    return bool(ask(url, "select 1 from pg_tables where schemaname = current_schema() and tablename = ?", name))
