"""Values that nobody expects, and tallymark run on them in this process, as a shell would run it."""

import contextlib
import copy
import io
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tallymark import cli

RECORDINGS = Path(__file__).parent / "golden" / "langfuse"
HUGE = "x" * 20_000
TEXTS = (
    "",
    " ",
    "-",
    "--",
    "-1",
    "0",
    "1.5",
    "1e400",
    "9" * 400,
    "nan",
    "a\x00b",
    "a\nb",
    "\x1b[31m",
    "☃é\u202e",
    "\udcff",
    "%s{}",
    "'; drop table entry; --",
    HUGE,
)
PATHS = (".", "..", "/", "/dev/null", "/dev/full", "/no/such/folder/x.csv", "~", "//", "here.html", "here.csv")
TIMES = (
    "0000-01-01",
    "0001-01-01",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-02-30",
    "2026-11-01T24:00:00Z",
    "2026-11-01T10:00:00",
    "2026-11-01T10:00:00+99:99",
    "2026-11-01T10:00:00.0000001+00:00:59",
    "2026-W44-7",
    "1970-01-01",
    "0h",
    "36h",
    "36h\n",
    "٣d",
    "999999999d",
    "9" * 5000 + "d",
    "-5d",
)
# What `make fuzz FACTOR=…` multiplies the examples of every fuzzing test with.
FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
HOSTILE = st.sampled_from(TEXTS) | st.text(max_size=30)
HOSTILE_PATHS = st.sampled_from(PATHS) | HOSTILE


def examples(number):
    """So many examples, times FACTOR, however long each takes."""
    return settings(
        max_examples=number * FACTOR,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# ---- JSON

_ODD = ("", "\x00", "\ud83d", "a\udca9", "NaN", "-1", "1e999999999", HUGE[:600])
_TEXT = st.text(max_size=12) | st.sampled_from(_ODD)
_NUMBER = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-1, 0, 1e308, 2**63, 10**400, -0.0])
)
_TIME = st.sampled_from([*TIMES, "2026-11-23T11:00:00.000Z", "2026-11-23T11:00:00"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBER | _TEXT | _TIME,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
) | st.just("DEEP")
_DEEP = "[" * 3000 + "]" * 3000
_GONE = object()


def as_text(value):
    """A value as JSON text; DEEP in it is 3,000 brackets, which no value of Python's writer can be."""
    return json.dumps(value).replace('"DEEP"', _DEEP)


def places(value, above=()):
    """Every place in a JSON value, as the keys that lead to it; the whole is ()."""
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*above, key))


@st.composite
def mutated(draw, originals):
    """One of some JSON values with up to three of its parts replaced, taken away, or moved elsewhere."""
    value = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        spots = [place for place in places(value) if place]
        if not spots:
            break
        spot = draw(st.sampled_from(spots))
        new = draw(ANY_JSON | st.just(_GONE) | st.sampled_from(spots).map(lambda place: _at(value, place)))
        _replace(value, spot, copy.deepcopy(new) if new is not _GONE else new)
    return value


def _at(value, place):
    for key in place:
        value = value[key]
    return value


def _replace(value, spot, new):
    holder = _at(value, spot[:-1])
    if new is _GONE:
        del holder[spot[-1]]
    else:
        holder[spot[-1]] = new


def recorded_rows(path, server="*"):
    """Every row of a list that a real Langfuse server was recorded to give on a path."""
    rows = []
    for file in sorted(RECORDINGS.glob(f"{server}/*.json")):
        for step in json.loads(file.read_text("utf-8"))["steps"]:
            asked, answer = step.get("request", {}), step.get("response", {})
            if asked.get("path", "").split("?")[0] == path and (asked["method"], answer["status"]) == ("GET", 200):
                rows += answer["body"].get("data", [])
    assert rows
    return rows


# ---- command lines


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said on its two outputs."""

    status: object
    out: str
    err: str


def run(*arguments):
    """Run a command line in this process. An exception that the command line does not catch comes out."""
    out, err = _stream("strict"), _stream("backslashreplace")
    with contextlib.ExitStack() as around:
        # What a shell hands over that is no UTF-8 comes as lone surrogates; the outputs are a pipe's.
        around.enter_context(mock.patch.object(sys, "argv", ["tallymark", *arguments]))
        around.enter_context(mock.patch.object(sys, "excepthook", sys.excepthook))
        around.enter_context(mock.patch.object(logging.getLogger(), "handlers", []))
        around.enter_context(contextlib.redirect_stdout(out))
        around.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.main()
        except SystemExit as ended:
            return Said(ended.code, _text(out), _text(err))
    raise AssertionError("it did not end with a status")


def _stream(errors):
    return io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)


def _text(stream):
    stream.flush()
    return stream.buffer.getvalue().decode()


def environment(settings):
    """A context in which the environment holds these settings of tallymark and no others."""
    prefixes = ("BILLING_", "LANGFUSE_", "STRIPE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return mock.patch.dict(os.environ, {**kept, **settings}, clear=True)
