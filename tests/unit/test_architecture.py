"""Rooms and directions as data: who may import whom, what the SQL looks like, and what start-up does not load."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "tallymark"
SQL = sorted((PACKAGE / "ledger" / "sql").glob("*.sql"))

# What a station may import of tallymark besides itself (DESIGN section 2).
ALLOWED = {
    "core": set(),
    "rating": {"core", "errors"},
    "remote": {"core", "errors", "failpoints", "machine"},
    "source": {"core", "errors", "remote"},
    "ledger": {"core", "errors", "failpoints", "machine"},
    "meter": {"core", "errors", "failpoints", "machine"},
    "queue": {"errors"},
    "marks": {"core", "errors", "remote"},
    "instrument": set(),
}
# Pure: nothing but the standard library (DESIGN section 2).
STANDARD_LIBRARY_ONLY = ("core",)
# No clock, no I/O (DESIGN section 2).
PURE = ("core", "rating")
IMPURE_MODULES = {"time", "socket", "subprocess", "threading", "asyncio", "sqlite3", "urllib3", "stripe", "requests"}
# The command that starts the sandbox, and the demo that runs on it (DESIGN section 9).
MAY_IMPORT_SANDBOX = re.compile(r"^(sandbox|cli|demo)")
HEAVY_AT_START = (
    *("urllib3", "requests", "stripe", "sqlite3", "http.client", "socketserver", "litestar", "psycopg"),
    *("duckdb", "boto3", "clickhouse_connect", "procrastinate"),
)


def statement_of(file: Path) -> str:
    """The name of a statement, whichever database its file is for."""
    return file.stem.removesuffix(".postgres")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    """The folder directly under the package, or the module's own name."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def package_of(file: Path) -> str:
    return ".".join(("tallymark", *file.relative_to(PACKAGE).parts[:-1]))


def imports_of(file: Path) -> Iterator[str]:
    """Absolute names of everything a module imports, anywhere in it; those only for type checking count too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(name, package_of(file)) if node.level else name
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_used_by(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(file) if name.startswith("tallymark.")} - {room_of(file)}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_station_knows_only_what_the_table_allows(room):
    """No station imports another one; only flows join them."""
    wrong = {
        str(file.relative_to(PACKAGE)): sorted(rooms_used_by(file) - ALLOWED[room])
        for file in modules()
        if room_of(file) == room and rooms_used_by(file) - ALLOWED[room]
    }

    assert wrong == {}


def test_every_room_of_the_table_exists_and_has_modules():
    """The table cannot go stale by a rename."""
    assert set(ALLOWED) <= {room_of(file) for file in modules()}


def test_only_the_sandbox_its_command_and_the_demo_import_the_sandbox():
    """The sandbox is for demo and tests; nothing that bills real customers rests on it."""
    users = {
        str(file.relative_to(PACKAGE))
        for file in modules()
        if "sandbox" in rooms_used_by(file) and not MAY_IMPORT_SANDBOX.match(room_of(file))
    }

    assert users == set()


def test_the_core_imports_only_the_standard_library():
    """The words of tallymark need nothing installed."""
    outside = {
        name
        for file in modules()
        if room_of(file) in STANDARD_LIBRARY_ONLY
        for name in imports_of(file)
        if name.split(".")[0] not in sys.stdlib_module_names | {"tallymark"}
    }

    assert outside == set()


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_have_no_clock_and_no_io(room):
    """core and rating decide from values only."""
    impure = {
        (str(file.relative_to(PACKAGE)), name)
        for file in modules()
        if room_of(file) == room
        for name in imports_of(file)
        if name.split(".")[0] in IMPURE_MODULES or name.endswith("datetime.now")
    }

    assert impure == set()


def test_only_the_ledger_knows_the_database():
    """One owner of transactions."""
    users = {
        room_of(file) for file in modules() for name in imports_of(file) if name.split(".")[0] in ("sqlite3", "psycopg")
    }

    assert users == {"ledger"}


@pytest.mark.parametrize("file", SQL, ids=lambda file: file.stem)
def test_every_statement_says_what_it_is_for(file):
    """A statement of more than one line starts with a comment that begins with its name."""
    text = file.read_text("utf-8").strip()

    assert "\n" not in text or text.startswith(f"-- {statement_of(file)}: ")


def test_every_statement_is_used():
    """One statement a file, and no file that nobody runs."""
    literals = {
        node.value
        for file in modules()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert [file.stem for file in SQL if statement_of(file) not in literals] == []


@pytest.mark.parametrize("module", ["tallymark", "tallymark.config", "tallymark.errors", "tallymark.rating.rate"])
def test_start_up_loads_no_http_database_or_web_library(module):
    """`tallymark --help` must be quick: what needs a network or a database is imported where it is used."""
    script = f"import sys, {module}; print([name for name in {HEAVY_AT_START!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
