"""The sandbox Langfuse answers as a real server did: every recording, step by step."""

from __future__ import annotations

import fnmatch

import pytest
from langfuse_replay import LIMITED, RECORDINGS, UNCOMPARED, Replay, replay_of, request_of

CASES = sorted(f"{path.parent.name}/{path.stem}" for path in RECORDINGS.glob("*/*.json"))


@pytest.mark.parametrize("name", CASES)
def test_recording(name: str) -> None:
    """Status, headers and body of each recorded answer are the sandbox's too."""
    replay = replay_of(name)
    if isinstance(replay, Replay) and name.endswith(LIMITED):
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
    """The comparison covers the cases it was made for, on each generation."""
    numbers = {(name.split("/")[0], name.split("/")[1].split("-")[0]) for name in CASES}
    legacy = {"01", "02", "02b", "03", "04", "04b", "06", "07", "08", "08b", "10", "11", "12", "20", "30"}
    assert numbers >= {("v3.225.4", number) for number in legacy | {"05", "10b", "40", "41"}}
    assert numbers >= {("v4.16.0-dual", number) for number in legacy | {"31", "31b"}}
    assert numbers >= {("v4.16.0-events-only", number) for number in ("20", "30", "31", "32")}


@pytest.mark.parametrize("pattern", sorted({case for case, *_ in UNCOMPARED}))
def test_exceptions_name_cases_that_exist(pattern: str) -> None:
    """No exception outlives its recording."""
    assert fnmatch.filter(CASES, pattern)


def test_replay_sees_differences() -> None:
    """A changed answer is told: the comparison is able to fail."""
    replay = Replay("v3.225.4/07-late-observation")
    replay.steps[2]["response"]["body"]["data"][0]["totalCost"] = 0.0026
    replay.steps[5]["response"]["body"]["data"][0]["updatedAt"] = "2026-11-23T23:01:48.000Z"
    del replay.steps[9]["response"]["body"]["data"][0]["externalId"]
    told = replay.differences()
    assert [text.split(":")[1].strip() for text in told][:2] == ["body.data.0.totalCost", "body.data.0.updatedAt"]
    assert any("keys" in text for text in told)
