"""The real Langfuse SDKs work against the sandbox, and the sandbox holds what they meant."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallymark.core.clock import parse_time
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import Server, serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, Generation, SandboxLangfuse

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "sdk_clients"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PROJECT_ID = DEFAULT_PROJECT.project_id

# version: client script, the way it sends traces (observed item 29), observations it makes of them
SDKS = {
    "2.60.10": ("langfuse_v2.py", "ingestion", 2),
    "3.15.0": ("langfuse_otel.py", "otel/v1/traces", 3),
    "4.18.0": ("langfuse_otel.py", "otel/v1/traces", 3),
}
SDK_5 = "5.0.4"


@pytest.fixture
def sandbox() -> SandboxLangfuse:
    """A sandbox whose writes are visible at once."""
    return SandboxLangfuse(clock=VirtualClock(parse_time("2026-11-24T00:00:00Z")))


@pytest.fixture
def server(sandbox: SandboxLangfuse) -> Iterator[Server]:
    """The sandbox on loopback."""
    with serve(sandbox, port=0) as running:
        yield running


def run_sdk(version: str, server: Server, script: str) -> Any:
    """Run a client script in the SDK's own environment, as a process of its own; what it read before and after."""
    skipped = ROOT / ".venvs" / f"langfuse-{version}" / "skipped"
    if skipped.exists():
        # Only scripts/setup-sdks writes it, where no Python can run this version; a missing environment is a failure.
        pytest.skip(skipped.read_text("utf-8").strip())
    python = ROOT / ".venvs" / f"langfuse-{version}" / "bin" / "python"
    assert python.exists(), f"langfuse {version} is not installed: run scripts/setup-sdks"
    environment = {
        "PATH": os.environ["PATH"],
        "LANGFUSE_HOST": server.url,
        "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
        "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
    }
    command = [python, CLIENTS / script, TRACE_ID]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", SDKS)
def test_sdk_traces_marks_and_reads(version: str, sandbox: SandboxLangfuse, server: Server) -> None:
    """What an SDK traces is held with tags, metadata and cost; its mark is added; it reads both back."""
    read = run_sdk(version, server, SDKS[version][0])

    held = sandbox.trace(PROJECT_ID, TRACE_ID)
    assert (held["name"], held["userId"], held["sessionId"]) == ("sdk-trace", "u1", "s1")
    assert (held["totalCost"], len(held["observations"])) == (0.3075, SDKS[version][2])
    assert held["tags"] == ["billing:pending", "billing:processed", "sdk"]
    assert (held["metadata"]["customerId"], held["metadata"]["billing_status"]) == ("cus_1", "processed")
    assert [score["stringValue"] for score in sandbox.scores(PROJECT_ID, TRACE_ID)] == ["processed"]
    assert sandbox.counts()[f"POST /api/public/{SDKS[version][1]}"] >= 1

    before, after = read["before"], read["after"]
    [[trace_id, cost, tags, metadata]] = before["listed"]
    assert (trace_id, cost, tags, before["scores"]) == (TRACE_ID, 0.3075, ["billing:pending", "sdk"], [])
    assert after["listed"] == [[TRACE_ID, 0.3075, held["tags"], {**metadata, "billing_status": "processed"}]]
    assert after["scores"] == [["billing_status", "processed"]]
    assert {"llm": 0.0075, "own": 0.3}.items() <= dict(after["observations"]).items()
    assert before["signed_in"]


def test_a_version_is_skipped_only_where_setup_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """An environment that is just missing fails; the reason of a skip is the one that scripts/setup-sdks gave."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"run scripts/setup-sdks"):
        run_sdk("2.60.10", server, "langfuse_v2.py")

    environment = tmp_path / ".venvs" / "langfuse-2.60.10"
    environment.mkdir(parents=True)
    (environment / "skipped").write_text("it does not run\n")
    with pytest.raises(pytest.skip.Exception, match=r"^it does not run$"):
        run_sdk("2.60.10", server, "langfuse_v2.py")


@pytest.mark.parametrize("generation", ["dual", "events_only"])
def test_sdk_5_traces_marks_and_reads(generation: Generation) -> None:
    """SDK 5 finds its spans by v2/observations at once, each with the attributes, and its score by v3/scores."""
    clock = VirtualClock(parse_time("2026-11-24T00:00:00Z"))
    sandbox = SandboxLangfuse(clock=clock, generation=generation, version="4.59.0", scores_api="list")
    with serve(sandbox, port=0) as server:
        read = run_sdk(SDK_5, server, "langfuse_v5.py")

    attributes = ["u1", ["billing:pending", "sdk"], "cus_1"]
    assert read["before"]["rows"] == {
        "llm": [0.0075, *attributes, False],
        "own": [0.3, *attributes, False],
        "root-span": [0, *attributes, True],
    }
    assert (read["before"]["pages"], read["before"]["scores"]) == ([2, 1, None], [])
    assert read["after"]["scores"] == [["billing_status", "processed", TRACE_ID]]
    assert read["before"]["signed_in"]
    counts = sandbox.counts()
    assert counts["POST /api/public/scores"] == 1
    assert counts["POST /api/public/otel/v1/traces"] >= 1
    assert not any("ingestion" in path or path.endswith("/traces/{traceId}") for path in counts)
