"""The sandbox Langfuse answers as a real server did: every recording, step by step."""

from __future__ import annotations

import pytest
from langfuse_replay import RECORDINGS, UNCOMPARED, Replay, request_of

CASES = sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.mark.parametrize("name", CASES)
def test_recording(name: str) -> None:
    """Status, headers and body of each recorded answer are the sandbox's too."""
    replay = Replay(name)
    if name == "40-rate-limit":
        _use_up_the_limit(replay)
    assert replay.differences() == []


def _use_up_the_limit(replay: Replay) -> None:
    """Read until the first 429, as the recorder did before it began to write down."""
    request = request_of(replay.steps[0]["request"], replay.project)
    statuses = []
    while not statuses or statuses[-1] == 200:
        statuses.append(replay.sandbox.handle(request).status)
    assert statuses == [200] * 14 + [429]


def test_all_recordings_are_there() -> None:
    """The comparison covers the cases it was made for."""
    numbers = {name.split("-")[0] for name in CASES}
    assert numbers >= {"01", "02", "02b", "03", "04", "04b", "05", "06", "07", "08", "08b", "10", "10b", "11", "12"}
    assert numbers >= {"20", "30", "40", "41"}


def test_exceptions_name_cases_that_exist() -> None:
    """No exception outlives its recording."""
    assert {case for case, *_ in UNCOMPARED} - {"*"} <= set(CASES)


def test_replay_sees_differences() -> None:
    """A changed answer is told: the comparison is able to fail."""
    replay = Replay("07-late-observation")
    replay.steps[2]["response"]["body"]["data"][0]["totalCost"] = 0.0026
    replay.steps[5]["response"]["body"]["data"][0]["updatedAt"] = "2026-11-23T23:01:48.000Z"
    del replay.steps[9]["response"]["body"]["data"][0]["externalId"]
    told = replay.differences()
    assert [text.split(":")[1].strip() for text in told][:2] == ["body.data.0.totalCost", "body.data.0.updatedAt"]
    assert any("keys" in text for text in told)
