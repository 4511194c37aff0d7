"""Any command with any values: a sentence and a status of the contract, never a traceback; JSON where it was asked."""

import contextlib
import json
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ingested
from fuzzing import HOSTILE, HOSTILE_PATHS, PATHS, TIMES, environment, examples, run
from tallymark.cli import cli
from tallymark.clock import SystemClock
from tallymark.commands.common import Moment
from tallymark.core.clock import HOUR_US
from worlds import PROJECT, open_world

STATUSES = (0, 1, 2, 3, 4, 130)
CARD = (
    'name = "new"\n[[rule]]\nfrom = "beginning"\ncredit_price_usd = "0.1"\ncompute_usd_per_minute = "0"\nai = "cost"\n'
)
# They run until they are stopped, or for long; what they take is tried below.
LONG = ("demo", "sandbox", "serve")


def commands(group, path=()):
    """Every command that can be run: its words, and what it is."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = {" ".join(path): command for path, command in commands(cli)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Servers with a billed trace and a held one; the current folder is one of the test."""
    folder = tmp_path_factory.mktemp("fuzz")
    with open_world(folder) as world, contextlib.chdir(folder), environment({**world.settings, "HOME": str(folder)}):
        for trace_id, customer in (("billed", "cus_1"), ("held", None)):
            trace, observations = ingested(trace_id, customer=customer, at_us=SystemClock().now_us() - HOUR_US)
            world.langfuse.put_trace(PROJECT, trace, observations)
        assert run("sync").status == 1
        Path("card.toml").write_text(CARD, "utf-8")
        yield world


def words_for(parameter, value):
    """The words that give one parameter a value, as a shell hands them over."""
    if isinstance(parameter, click.Argument):
        return st.tuples(value).map(list)
    flags = st.sampled_from([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return flags.map(lambda flag: [flag])
    return st.tuples(flags, value).map(list)


def right_for(parameter):
    """A value that the parameter takes, or at least may take."""
    choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ["held", "billed", "card.toml"]
    return st.sampled_from(list(choices))


def wrong_for(parameter):
    """Values that nobody expects there."""
    if isinstance(parameter.type, Moment):
        return st.sampled_from(TIMES) | HOSTILE
    return HOSTILE_PATHS if isinstance(parameter.type, click.Path) else HOSTILE


def words_of(command):
    """Words for a whole command: of all that it takes a few are given, and of those one is wrong, or none."""
    given_words = st.lists(st.sampled_from(command.params), max_size=4, unique=True)

    def filled(chosen):
        needed = [parameter for parameter in command.params if parameter.required and parameter not in chosen]
        parts = [words_for(parameter, right_for(parameter)) for parameter in [*chosen[1:], *needed]]
        parts += [words_for(parameter, wrong_for(parameter)) for parameter in chosen[:1]]
        return st.tuples(*parts).map(lambda found: [word for words in found for word in words])

    return given_words.flatmap(filled)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in LONG])
def test_any_words_end_in_a_sentence_and_a_status(world, name):
    """`make fuzz` tries many more."""

    @examples(25)
    @given(words_of(COMMANDS[name]))
    def any_words(words):
        said = run(*name.split(), *words)

        assert said.status in STATUSES, said
        assert "Traceback" not in said.err
        # What is typed is no damage of the ledger, which hides whatever went wrong here.
        assert "holds something that cannot be used" not in said.err + said.out
        if said.status not in (0, 1):
            assert said.err.strip()
        if "--json" in words and "--" not in words:
            assert isinstance(json.loads(said.out), dict)

    any_words()


MOMENTS = [
    (name, parameter.opts[0])
    for name, command in COMMANDS.items()
    for parameter in command.params
    if isinstance(parameter.type, Moment)
]


@pytest.mark.parametrize("moment", TIMES, ids=range(len(TIMES)))
@pytest.mark.parametrize(("name", "option"), MOMENTS)
def test_every_odd_time_is_taken_or_refused(world, name, option, moment):
    """Years, zones, digits and ages that no calendar has; an error that arithmetic ran into is not one of ours."""
    required = {"ledger export": ["--to", "made"], "rates simulate": ["--card", "card.toml"]}
    said = run(*name.split(), *required.get(name, []), option, moment)

    assert said.status in (0, 1, 2), said
    assert "Error" not in said.err.replace("Error: Invalid value for", "")


NAMES = [*PATHS, "", " ", "-", "\n", "x" * 250, "x" * 400, "x/" * 5000, "☃"]
FILES = [
    (name, parameter)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if isinstance(parameter.type, click.Path) and name not in LONG
]
NEEDED = {
    "usage": ["--format", "csv"],
    "ledger export": ["--to", "made"],
    "rates simulate": ["--card", "card.toml"],
}


@pytest.mark.parametrize("path", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize(("name", "parameter"), FILES, ids=lambda value: str(getattr(value, "name", value)))
def test_every_odd_name_of_a_file_is_taken_or_refused(world, name, parameter, path):
    """Devices, folders, names that are too long: a sentence, and what is there stays what it is."""
    words = words_of_file(name, parameter, path)
    said = run(*name.split(), *words)

    assert said.status in (0, 1, 2, 4), said
    assert "Error" not in said.err.replace("Error: ", "")
    assert Path("/dev/null").is_char_device()


def words_of_file(name, parameter, path):
    """A command line with this file, and with what the command needs besides."""
    if isinstance(parameter, click.Argument):
        return ["--", path]
    needed = [] if parameter.opts[0] in NEEDED.get(name, []) else NEEDED.get(name, [])
    return [*needed, parameter.opts[0], path]


# A demo may be as long as anybody likes.
REFUSED = [("sandbox", "--port-stripe", number) for number in ("65536", "99999999999999999999")] + [
    (name, option, word)
    for name, option in (("sandbox", "--port-stripe"), ("demo", "--traces"))
    for word in ("-1", "", "x", "\udcff")
]


@pytest.mark.parametrize(("name", "option", "word"), REFUSED)
def test_the_long_ones_refuse_what_they_cannot_do(world, name, option, word):
    """Ports and numbers of traces."""
    said = run(name, option, word)

    assert said.status == 2, said
    assert said.err.strip()
