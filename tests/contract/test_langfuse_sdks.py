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
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "sdk_clients"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PROJECT_ID = DEFAULT_PROJECT.project_id

SDKS = {"2.60.10": "langfuse_v2.py", "3.15.0": "langfuse_otel.py", "4.18.0": "langfuse_otel.py"}


@pytest.fixture
def sandbox() -> SandboxLangfuse:
    """A sandbox whose writes are visible at once."""
    return SandboxLangfuse(clock=VirtualClock(parse_time("2026-11-24T00:00:00Z")))


@pytest.fixture
def server(sandbox: SandboxLangfuse) -> Iterator[Server]:
    """The sandbox on loopback."""
    with serve(sandbox, port=0) as running:
        yield running


def run_sdk(version: str, server: Server, step: str) -> Any:
    """One step of the client script, in the SDK's own environment, as a process of its own; what it printed."""
    python = ROOT / ".venvs" / f"langfuse-{version}" / "bin" / "python"
    assert python.exists(), f"langfuse {version} is not installed: run scripts/setup-sdks"
    environment = {
        "PATH": os.environ["PATH"],
        "LANGFUSE_HOST": server.url,
        "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
        "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
    }
    command = [python, CLIENTS / SDKS[version], step, TRACE_ID]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", SDKS)
def test_sdk_traces_marks_and_reads(version: str, sandbox: SandboxLangfuse, server: Server) -> None:
    """What an SDK traced is held with tags, metadata and cost; its mark is added; it reads both back."""
    run_sdk(version, server, "write")
    written = sandbox.trace(PROJECT_ID, TRACE_ID)
    assert written["tags"] == ["billing:pending", "sdk"]
    assert (written["name"], written["userId"], written["sessionId"]) == ("sdk-trace", "u1", "s1")
    assert written["metadata"]["customerId"] == "cus_1"
    assert written["totalCost"] == 0.3075

    run_sdk(version, server, "mark")
    marked = sandbox.trace(PROJECT_ID, TRACE_ID)
    assert marked["tags"] == ["billing:pending", "billing:processed", "sdk"]
    assert marked["metadata"] == {**written["metadata"], "billing_status": "processed"}
    kept = ("name", "userId", "sessionId", "timestamp", "totalCost", "environment", "input", "output")
    assert {key: marked[key] for key in kept} == {key: written[key] for key in kept}
    assert [score["stringValue"] for score in sandbox.scores(PROJECT_ID, TRACE_ID)] == ["processed"]

    read = run_sdk(version, server, "read")
    assert read["listed"] == [[TRACE_ID, 0.3075, marked["tags"], marked["metadata"]]]
    assert ["llm", 0.0075] in read["observations"]
    assert ["own", 0.3] in read["observations"]
    assert read["scores"] == [["billing_status", "processed"]]


@pytest.mark.parametrize(("version", "path"), [("2.60.10", "ingestion"), ("3.15.0", "otel/v1/traces")])
def test_sdk_sends_by_its_own_way(version: str, path: str, sandbox: SandboxLangfuse, server: Server) -> None:
    """Version 2 sends ingestion batches, version 3 OpenTelemetry: the sandbox takes both (observed item 29)."""
    run_sdk(version, server, "write")
    assert sandbox.counts()[f"POST /api/public/{path}"] >= 1
