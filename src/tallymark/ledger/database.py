"""What the ledger needs of a database: statements by name, rows by column, transactions that are named and exclusive.

The two adapters, sqlite.py and postgres.py, say how one is opened, locked and migrated, and turn its errors into ours.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Protocol, SupportsIndex

from ..failpoints import Side, Step, reach
from .statements import INSERT_ROWS, numbered, parameters, takes_many_rows


class Row(Protocol):
    """A row of a statement, by column name."""

    def __getitem__(self, name: str, /) -> Any: ...

    def keys(self) -> Any:
        """The names of its columns."""
        ...


class NamedRow(Protocol):
    """A named tuple of values to bind."""

    @property
    def _fields(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: SupportsIndex, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(abc.ABC):
    """One connection to a ledger. Every write happens inside `transaction`, and one transaction at a time writes."""

    dialect: str
    name: str
    """What errors call it: a file, or an address without its password."""

    # --- statements

    def rows(self, name: str, /, **values: Any) -> list[Any]:
        """Run a statement and return all of its rows; only for results with a known bound."""
        return list(self._run(numbered(name, self.dialect), self._bound(name, values)))

    def row(self, name: str, /, **values: Any) -> Any:
        """Run a statement and return its first row; None if there is none."""
        return next(iter(self.rows(name, **values)), None)

    def tuples(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """As `rows`, each a tuple in the order of the statement: for many rows, where names would cost more."""
        return self._run_plain(numbered(name, self.dialect), self._bound(name, values))

    def write(self, name: str, /, **values: Any) -> int:
        """Run a writing statement inside a transaction; how many rows it changed."""
        return self._change(numbered(name, self.dialect), self._bound(name, values))

    def write_many(self, name: str, rows: Sequence[NamedRow]) -> None:
        """Run a writing statement once for each row, inside a transaction. Raises TypeError for rows of another one."""
        if not rows:
            return
        names = parameters(name, self.dialect)
        if rows[0]._fields != names:
            raise TypeError(f"{type(rows[0]).__name__} does not have the parameters of {name}: {names}")
        done = 0
        for size in INSERT_ROWS if takes_many_rows(name, self.dialect) else ():
            for at in range(done, len(rows) - size + 1, size):
                self._change(numbered(name, self.dialect, size), tuple(chain.from_iterable(rows[at : at + size])))
                done = at + size
        self._change_each(numbered(name, self.dialect), rows[done:])

    @abc.abstractmethod
    def stream(self, name: str, /, **values: Any) -> Iterator[Any]:
        """Run a statement and yield its rows one by one, however many there are."""

    @abc.abstractmethod
    def stream_table(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Every row of a table, for copies, in the order of `columns_of`."""

    @abc.abstractmethod
    def columns_of(self, table: str) -> list[str]:
        """The columns of a table in their order."""

    @abc.abstractmethod
    def tables(self) -> list[str]:
        """The tables of the ledger, in the order of their names."""

    @abc.abstractmethod
    def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert copied rows into a table, inside a transaction."""

    def _bound(self, name: str, values: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(values[parameter] for parameter in parameters(name, self.dialect))

    @abc.abstractmethod
    def _run(self, sql: str, values: tuple[Any, ...]) -> list[Any]: ...

    @abc.abstractmethod
    def _run_plain(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]: ...

    @abc.abstractmethod
    def _change(self, sql: str, values: tuple[Any, ...]) -> int: ...

    @abc.abstractmethod
    def _change_each(self, sql: str, rows: Sequence[NamedRow]) -> None: ...

    # --- transactions

    @contextlib.contextmanager
    def transaction(self, step: Step) -> Iterator[None]:
        """Commit everything inside together or not at all; nobody else writes meanwhile, so what is read stays true.

        Raises LedgerError if the database cannot be used or another process holds it for too long.
        """
        with self._exclusive():
            yield
            reach(step, Side.BEFORE)
        reach(step, Side.AFTER)

    @abc.abstractmethod
    def one_moment(self) -> contextlib.AbstractContextManager[None]:
        """What is read inside is the ledger at one moment, whatever others write; nothing is written inside."""

    @abc.abstractmethod
    def _exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Begin with the write lock; commit at the end, or undo all of it if an error comes out."""

    def damage(self) -> list[str]:
        """What the database finds wrong with itself, in its own words; nothing for one that looks after itself."""
        return []

    def changes_of_schema(self) -> list[str]:
        """Tables, indexes and triggers that are not as the migrations make them, as far as that can be told."""
        return []

    def weaknesses(self) -> list[str]:
        """Settings of the database under which a commit may be lost after all, for `doctor`."""
        return []

    # --- life

    @abc.abstractmethod
    def migrate(self) -> None:
        """Bring the schema to this version, under the write lock. Raises LedgerNewer for a schema from the future."""

    @abc.abstractmethod
    def require_current(self) -> None:
        """Raise LedgerError unless the schema is this version's: reading must not change it."""

    @abc.abstractmethod
    def version_of_data(self) -> object:
        """A stamp that is equal to an earlier one only if nobody, this connection included, has written between."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""
