"""The documentation is complete, fresh, and true where a program can tell: its names exist and its examples run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import uvicorn

import tallymark
from tallymark import client
from tallymark.cli import cli
from tallymark.clock import SystemClock
from tallymark.config import SETTINGS, load
from tallymark.core.decisions import MarkState, Outcome
from tallymark.core.states import State
from tallymark.flows.backfill import BackfillSummary
from tallymark.flows.summary import SyncSummary
from tallymark.ledger import open_ledger
from tallymark.rating.cards import parse_card
from tallymark.sandbox.process import Options, Ready, start
from tallymark.show_ledger import copied_as_json, verified_as_json
from tallymark.web.app import make_app
from worlds import until

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(DOCS.rglob("*.md"))
HOWTOS = sorted((DOCS / "howto").glob("*.md"))
ADRS = sorted((DOCS / "adr").glob("*.md"))


def text_of(path: Path) -> str:
    """A page."""
    return path.read_text("utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    """How pytest calls a page."""
    return str(path.relative_to(ROOT))


def commands(group: click.Group, *words: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by its full name."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *words, word)
        else:
            yield " ".join((*words, word)), command


COMMANDS = list(commands(cli))


# ---- commands and settings


def generate_docs() -> Any:
    """The script that makes the generated pages, as a module."""
    loader = SourceFileLoader("generate_docs", str(ROOT / "scripts" / "generate-docs"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    with no_bytecode():
        loader.exec_module(module)
    return module


@contextlib.contextmanager
def no_bytecode() -> Iterator[None]:
    """Leave no compiled file beside a script."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    yield
    sys.dont_write_bytecode = before


def test_generated_pages_are_fresh():
    """If this fails, run scripts/generate-docs. In a process of its own: other tests here walk and run the commands."""
    command = [sys.executable, ROOT / "scripts" / "generate-docs", "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_check_finds_a_stale_page(tmp_path, monkeypatch):
    """--check fails on what is missing or edited, and writes nothing."""
    script = generate_docs()
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    assert script.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    (tmp_path / "settings.md").write_text("edited")
    assert script.main(["--check"]) == 1


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_and_option_is_documented(name, command):
    """Each command has a section with its help, and each of its options stands there."""
    sections = re.split(r"^## ", text_of(DOCS / "reference" / "commands.md"), flags=re.MULTILINE)
    section = next(section for section in sections if section.startswith(f"tallymark {name}\n"))
    assert command.help and command.help in section
    for option in (param for param in command.params if isinstance(param, click.Option)):
        for flag in (*option.opts, *option.secondary_opts):
            assert f"`{flag}`" in section


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented(setting):
    """Variables, key and help of each setting stand on the page."""
    page = text_of(DOCS / "reference" / "settings.md")
    for name in (*setting.variables, setting.key):
        assert f"`{name}`" in page
    assert setting.help in page


def commands_in(path: Path) -> list[str]:
    """The lines `tallymark …` in the shell blocks of a page, without comments and redirections."""
    found = re.findall(r"(?:^|&& |\$\()(tallymark [^#>&|\n]*)", "".join(blocks(path, "sh")), re.MULTILINE)
    return [line.strip() for line in found]


SHELL_LINES = sorted({line for page in PAGES for line in commands_in(page)})


@pytest.mark.parametrize("line", SHELL_LINES)
def test_commands_in_examples_exist(line):
    """Every command line in an example names a command, with options and arguments that it takes."""
    command: click.Command = cli
    _, *words = shlex.split(line)
    context = click.Context(command, info_name="tallymark")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
        context = click.Context(command, parent=context, info_name=command.name)
    command.parse_args(context, words)


def test_the_readme_shows_commands():
    """The test above looks at something."""
    assert {"tallymark init", "tallymark doctor", "tallymark sync", "tallymark sync --dry-run"} <= set(SHELL_LINES)


# ---- JSON


def section_of(name: str) -> str:
    """What the JSON page says of one command."""
    sections = re.split(r"^## ", text_of(DOCS / "reference" / "json.md"), flags=re.MULTILINE)
    return next(section for section in sections if section.startswith(f"{name}\n"))


def words_in(section: str) -> set[str]:
    """The words in code type, also those behind a dot: `held.too_old` names too_old."""
    return {word for quoted in re.findall(r"`([^`]+)`", section) for word in re.findall(r"\w+", quoted)}


def keys_of(value: Any) -> set[str]:
    """Every key in an object, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def empty(kind: type[Any]) -> Any:
    """A summary with nothing in it but what is required, as JSON has it."""
    required = [field for field in msgspec.structs.fields(kind) if field.required]
    return msgspec.to_builtins(kind(**{field.name: "" for field in required}))


def test_every_field_of_sync_is_documented():
    """Each field, reason and count of `sync --json`."""
    assert keys_of(empty(SyncSummary)) <= words_in(section_of("sync"))


def test_every_field_of_backfill_is_documented():
    """Each field of `backfill --json`, which shares some with sync."""
    assert set(empty(BackfillSummary)) <= words_in(section_of("backfill"))


def test_every_field_of_sandbox_is_documented():
    """Each field of the line that says a sandbox is ready."""
    assert {field.name for field in msgspec.structs.fields(Ready)} <= words_in(section_of("sandbox"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Any]:
    """A sandbox with a small story."""
    with start(Options(story=200)) as running:
        yield running


@pytest.fixture(scope="module")
def environment(sandbox, tmp_path_factory) -> dict[str, str]:
    """The variables for the sandbox and for a ledger in which its story is billed."""
    folder = tmp_path_factory.mktemp("ledger")
    found = {**sandbox.environment(), "BILLING_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3"}
    tallymark.sync(load(None, found))
    return found


def rate_card_page_card(folder: Path) -> Path:
    """The card by tokens of the page on rate cards, as a file."""
    cards = [block for name, block in toml_blocks(DOCS / "howto" / "rate-cards.md") if name == "rate-card.toml"]
    path = folder / "rate-card.toml"
    path.write_text(cards[-1])
    return path


READING = [
    "explain",
    "held list",
    "usage",
    "close",
    "doctor",
    "rates check",
    "rates show",
    "rates simulate",
    "ledger verify",
    "ledger backup",
    "ledger export",
]


@pytest.fixture(scope="module")
def answers(environment, tmp_path_factory) -> dict[str, Any]:
    """What the commands that change nothing print as JSON, by command."""
    folder = tmp_path_factory.mktemp("copies")
    config = load(None, environment)
    held = tallymark.held(config)
    billed = open_ledger(config.ledger_url, read_only=True)
    with contextlib.closing(billed):
        trace_id = next(iter(billed.query("latest_billed")))["trace_id"]
    return {
        "explain": tallymark.explain(config, trace_id),
        "held list": held,
        "usage": {"by": "customer", "rows": tallymark.usage(config)},
        "close": msgspec.to_builtins(tallymark.close_period(config, "last")),
        "doctor": {"findings": msgspec.to_builtins(tallymark.doctor(config))},
        "rates check": tallymark.check_rates(config),
        "rates show": tallymark.show_rates(config),
        "rates simulate": tallymark.simulate_rates(config, rate_card_page_card(tmp_path_factory.mktemp("card"))),
        "ledger verify": verified_as_json(tallymark.verify_ledger(config, expect=f"9999999:{'0' * 64}")),
        "ledger backup": copied_as_json(tallymark.backup_ledger(config, folder / "backup"), folder / "backup"),
        "ledger export": {"folder": "export", **tallymark.export_ledger(config, folder / "export")},
    }


@pytest.mark.parametrize("command", READING)
def test_every_field_of_a_reading_command_is_documented(answers, command):
    """Each key that a real answer has, at any depth, stands in the command's section."""
    keys = keys_of(answers[command])
    assert len(keys) > 2
    assert keys <= words_in(section_of(command))


# ---- the ledger


def test_every_table_and_state_is_documented(tmp_path):
    """The page on the ledger names every table of a fresh ledger and every state in it."""
    path = tmp_path / "ledger.sqlite3"
    open_ledger(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        tables = {name for (name,) in ledger.execute("select name from sqlite_master where type = 'table'")}
    states = {str(state) for kind in (State, Outcome, MarkState) for state in kind} - {""}
    assert "meter_event" in tables
    assert tables | states <= words_in(text_of(DOCS / "reference" / "ledger.md"))


def test_the_sums_on_the_ledger_page_agree(environment):
    """The statements of the section on proving a sum run, and entries = accepted + carry for each customer."""
    entries, accepted, carry = blocks(DOCS / "reference" / "ledger.md", "sql")[0].strip().removesuffix(";").split(";")
    path = environment["BILLING_LEDGER_URL"].removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        sums = [{row[0]: row[2] for row in ledger.execute(query)} for query in (entries, accepted, carry)]
    assert len(sums[0]) > 5
    assert sums[0] == {customer: sums[1].get(customer, 0) + micros for customer, micros in sums[2].items()}


# ---- examples


def toml_blocks(path: Path) -> list[tuple[str, str]]:
    """The TOML blocks of a page: the file's name, which stands in the first line, and the text."""
    return [(block.split("\n")[0].removeprefix("# "), block) for block in blocks(path, "toml")]


TOML = [(page, name, block) for page in [*HOWTOS, ROOT / "README.md"] for name, block in toml_blocks(page)]


@pytest.mark.parametrize(("page", "name", "block"), TOML, ids=[f"{page.stem}-{name}" for page, name, _ in TOML])
def test_toml_examples_are_valid(page, name, block, tmp_path):
    """Each TOML block says what file it is; rate cards parse, and settings load beside the page's rate card."""
    assert name in ("tallymark.toml", "rate-card.toml")
    for other, text in toml_blocks(page):
        (tmp_path / other).write_text(text)
    if name == "rate-card.toml":
        parse_card(block)
    else:
        (tmp_path / name).write_text(block)
        load(tmp_path / name, {})


def test_the_rate_card_page_has_cards():
    """The test above looks at something."""
    assert sum(name == "rate-card.toml" for _, name, _ in TOML) >= 2


def printed_by(block, environment):
    """What a block of Python prints, run as it stands."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_python_of_the_readme_runs(environment):
    """The examples run as they stand, in an environment that names servers and a ledger; one prints what was billed."""
    said = ""
    for block in blocks(ROOT / "README.md", "python"):
        said += printed_by(block, environment)
    assert "cus_001" in said


def test_the_example_for_applications_runs(environment):
    """The page's example prints what the first customer of the story has used."""
    block, _ = blocks(DOCS / "howto" / "show-credits-to-customers.md", "python")
    # The story may have begun in the month before this one.
    block = block.replace('usage_summary("cus_001"', 'usage_summary("cus_001", from_us=0')
    block = block.replace('usage_events("cus_001"', 'usage_events("cus_001", from_us=0')
    said = printed_by(block, environment)
    (billed,) = [row for row in tallymark.usage(load(None, environment)) if row["key"] == "cus_001"]
    assert said.startswith(f"{billed['credits']} credits in {billed['traces']} runs since 1970-01-01")
    events = client.usage_events("cus_001", from_us=0, limit=3, config=load(None, environment))
    assert [line.split(" ")[0] for line in said.splitlines()[-3:]] == [event.time for event in events]


def test_the_example_over_http_runs(environment):
    """It says the same as the library does, with a token that may only read."""
    _, block = blocks(DOCS / "howto" / "show-credits-to-customers.md", "python")
    token = "a-token-that-may-only-read"
    with served(load(None, {**environment, "BILLING_API_READ_TOKEN": token})) as url:
        shown = {"TALLYMARK_URL": url, "BILLING_API_READ_TOKEN": token}
        said = printed_by(block.replace('/usage"', '/usage?from=1970-01-01"'), {**environment, **shown})
    (billed,) = [row for row in tallymark.usage(load(None, environment), from_us=0) if row["key"] == "cus_001"]
    assert said.startswith(f"{billed['credits']} credits as of 20")


@contextlib.contextmanager
def served(config):
    """The address of a service with these settings."""
    server = uvicorn.Server(uvicorn.Config(make_app(config, SystemClock()), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_sandbox_example_is_a_test_that_passes(tmp_path):
    """The test on the page about tests passes as it stands."""
    (block,) = blocks(DOCS / "howto" / "sandbox-in-your-tests.md", "python")
    path = tmp_path / "test_example.py"
    path.write_text(block)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


# ---- links, names, form


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", HOWTOS, ids=name_of)
def test_the_readme_links_every_how_to(page):
    """Nobody has to look into the folder to find a page."""
    assert f"]({name_of(page)})" in text_of(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    """Every link and picture that is not on the web leads to a file, and to a heading if it names one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        assert not anchor or anchor in anchors_of(page.parent / path), target


def paths_in(page: Path) -> set[str]:
    """What stands in code type and looks like a path of this project."""
    quoted = re.findall(r"`([\w./-]+)`", text_of(page))
    return {name for name in quoted if "/" in name and re.search(r"\.(py|sql|md|svg|toml)$|/$|^scripts/|^\.ci/", name)}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ADRS], ids=name_of)
def test_named_files_exist(page):
    """Every module, test and script that a page names is there; modules may be named from the package on."""
    # Facts are notes that are no part of the project; they are named as sources only.
    for name in (name for name in paths_in(page) if "NAME" not in name and not name.startswith("facts/")):
        assert (ROOT / name).exists() or (ROOT / "src" / "tallymark" / name).exists(), name


def test_the_readme_names_a_test_for_every_promise():
    """Each row of the table of guarantees names a test file, or a make target that exists."""
    table = text_of(ROOT / "README.md").partition("| promise | proof |")[2].partition("\n\n")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")]
    targets = re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert len(rows) == 7
    for row in rows:
        named = re.search(r"`make ([a-z-]+)`", row)
        assert re.search(r"`tests/[\w/]+\.py`", row) or (named and named[1] in targets), row


def test_adrs_have_one_form():
    """Numbered without a gap, one heading with the number, and the four parts in their order."""
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))
    for number, path in enumerate(ADRS, 1):
        assert text_of(path).startswith(f"# {number}. ")
        parts = re.findall(r"^## (.+)$", text_of(path), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Alternatives"], path.name


def test_the_changelog_has_this_version():
    """The version of the package has a section."""
    assert f"\n## {tallymark.__version__}\n" in text_of(ROOT / "CHANGELOG.md")
