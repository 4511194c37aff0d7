"""The SQL of the ledger: one statement a file, the same for every database but where a file says otherwise."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_VALUES = re.compile(r"values (\([^;]*?\))(?=\s*(?:on conflict|$))")
_PARAMETER = re.compile(r"(?<![\w:]):([a-z_]+)")
# Many rows in one statement take less time than many statements. Other threads run meanwhile, and a statement that has
# ended waits for its turn among them: the fewer, the better. SQLite binds as many values as 900 rows have.
INSERT_ROWS = (400, 50)


@cache
def statement(name: str, dialect: str) -> str:
    """The SQL of a statement: NAME.DIALECT.sql where the databases must differ, else NAME.sql."""
    folder = resources.files("tallymark.ledger").joinpath("sql")
    own = folder.joinpath(f"{name}.{dialect}.sql")
    return (own if own.is_file() else folder.joinpath(f"{name}.sql")).read_text("utf-8")


@cache
def parameters(name: str, dialect: str) -> tuple[str, ...]:
    """The parameters of a statement, in the order of their first use."""
    return tuple(dict.fromkeys(_PARAMETER.findall(_without_comments(statement(name, dialect)))))


@cache
def numbered(name: str, dialect: str, rows: int = 1) -> str:
    """A statement with its parameters numbered (?1 or $1) instead of named; an insert may take several rows at once."""
    names, sign = parameters(name, dialect), "$" if dialect == "postgres" else "?"
    text = _without_comments(statement(name, dialect))

    def of_row(sql: str, row: int) -> str:
        return _PARAMETER.sub(lambda found: f"{sign}{row * len(names) + names.index(found[1]) + 1}", sql)

    values = _VALUES.search(text)
    if values is None or rows == 1:
        return of_row(text, 0)
    groups = ", ".join(of_row(values[1], row) for row in range(rows))
    return f"{text[: values.start(1)]}{groups}{text[values.end(1) :]}"


@cache
def takes_many_rows(name: str, dialect: str) -> bool:
    """Whether a statement inserts rows that are named one by one."""
    return _VALUES.search(_without_comments(statement(name, dialect))) is not None


def _without_comments(sql: str) -> str:
    return re.sub(r"^\s*--.*\n", "", sql, flags=re.MULTILINE)


def migration(name: str, dialect: str) -> str:
    """The script of a migration."""
    return resources.files("tallymark.ledger").joinpath("migrations", f"{name}.{dialect}.sql").read_text("utf-8")
