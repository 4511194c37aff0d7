"""One value that no reader takes does not cost the other rows of a page."""

import json

import pytest
from stub_services import Answers

from builders import NOW_US
from tallymark.errors import Garbled
from tallymark.remote.langfuse import UNREADABLE, LangfuseClient, _decoded
from tallymark.remote.mending import DEPTH_MAX, mended
from tallymark.sandbox.clock import VirtualClock
from tallymark.source import observations, rows
from tallymark.source.probe import server_version

TRACE = {"id": "t1", "projectId": "p", "timestamp": "2026-11-23T11:00:00.000Z", "totalCost": 0.01, "latency": 12}
OBSERVATION = {"id": "o1", "traceId": "t1", "projectId": "p", "startTime": "2026-11-23T11:00:00.000Z"}
DEEP = "[" * 5000 + '"end"' + "]" * 5000
ODD = ['"cut \\ud83d"', '"\\udca9 cut"', '"nul \\u0000"', DEEP, DEEP.replace("[", '{"a":').replace("]", "}")]


def page(good, odd, where):
    """A page of two rows: a good one, and one with an odd value."""
    bad = json.dumps({**good, "id": "odd", where: "@"}).replace('"@"', odd)
    return f'{{"data":[{json.dumps(good)},{bad}],"meta":{{"totalItems":2}}}}'.encode()


@pytest.mark.parametrize("where", ["input", "metadata", "unknown"])
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_both_traces_of_a_page_are_read(odd, where):
    """The odd one too: what cannot be read is nothing that billing looks at."""
    read = _decoded(page(TRACE, odd, where), rows.decode_page)

    assert [(trace.trace_id, trace.units[0].problem) for trace in read.traces] == [("t1", None), ("odd", None)]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_both_observations_of_a_page_are_read(odd):
    """As an answer and, from the mended body, as rows."""
    body, _ = _decoded(page(OBSERVATION, odd, "output"), observations._with_cursor)

    [reading] = observations.decode_page(body).readings
    assert [(unit.unit_id, unit.problem) for unit in reading.units] == [("o1", None), ("odd", None)]


def test_half_a_character_is_told_apart():
    """Two ids that differ only there stay two."""
    bodies = [page(TRACE, f'"t \\ud83{digit}"', "name") for digit in "de"]

    assert [_decoded(body, rows.decode_page).traces[1].name for body in bodies] == ["t \\ud83d", "t \\ud83e"]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"\ud83d\ude00 \\ud83d \" \n"}',
        b'{"a":[[1,{"b":"]]}}"}],[]]}',
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
    ],
)
def test_what_can_be_read_is_not_touched(body):
    assert mended(body) == body


def test_what_lies_too_deep_is_null_and_the_rest_stays():
    body = b"[" * (DEPTH_MAX - 1) + b'[1],[[2,"]"]],3' + b"]" * (DEPTH_MAX - 1)

    assert mended(body) == body.replace(b'[2,"]"]', b"null")


@pytest.mark.parametrize("body", [b"<html>", b'{"data":', b'{"data":"\xff"}', b"[" * 9000, b'{"data":[],"meta":5}'])
def test_what_is_no_page_is_still_none(body):
    with pytest.raises(UNREADABLE):
        _decoded(body, rows.decode_page)


@pytest.mark.parametrize("body", [b"[" * 9000, b'{"version":"\xff"}', b'{"version":"\\ud83d'])
def test_an_answer_that_cannot_be_read_is_named(serving, body):
    """Not a traceback."""
    client = LangfuseClient(serving(Answers(200, body)), "pk", "sk", VirtualClock(NOW_US))
    with pytest.raises(Garbled, match="not Langfuse's JSON"):
        server_version(client)
