"""The examples, traced with the real Langfuse SDKs into the sandbox: every trace is its own customer's."""

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from builders import PROJECT
from tallymark.clock import SystemClock
from tallymark.core.credits import round_to_micros
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import DEFAULT_PROJECT

ROOT = Path(__file__).parents[2]
SDKS = ("3.15.0", "4.18.0", "5.0.4")
# example: its spans in each trace
EXAMPLES = {
    "chat_flow": {"chat-chain", "look-up", "model"},
    "agent_flow": {"supervisor", "researcher", "search", "writer", "model", "streaming-model"},
}
# Fewer, since each is a process of some seconds: every SDK once, and the newest with both.
ON_A_V4_SERVER = [("chat_flow", "3.15.0"), ("agent_flow", "4.18.0"), ("chat_flow", "5.0.4"), ("agent_flow", "5.0.4")]
SETTLED_SECONDS = 3600
CREDIT_PRICE_USD = Decimal("0.00004")
COMPUTE_USD_PER_MINUTE = Decimal("0.05")


@pytest.fixture
def clock():
    """A clock that stands at the present, since the SDKs take the time of their spans from the machine."""
    return VirtualClock(SystemClock().now_us())


@pytest.fixture
def run_example(langfuse, serving):
    """A function that runs an example as a process of its own, with an SDK; what it printed: its traces."""

    def run(example, version):
        python = ROOT / ".venvs" / f"langfuse-{version}" / "bin" / "python"
        assert python.exists(), f"langfuse {version} is not installed: run scripts/setup-sdks"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "LANGFUSE_BASE_URL": serving(langfuse),
            "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
            "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
            "TALLYMARK_INSTRUMENT_STRICT": "1",
        }
        command = [python, ROOT / "examples" / f"{example}.py"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture
def bills_exactly(langfuse, clock, run, balance):
    """A function that syncs what an example printed, and compares Stripe's tally with the sandbox's own numbers."""

    def check(printed):
        expected = {said["customer"]: micros_of(langfuse.trace(PROJECT, said["trace_id"]), said) for said in printed}
        clock.advance(SETTLED_SECONDS)
        summary = run()
        assert (summary.fetched, summary.processed) == (len(printed), len(printed))
        assert balance() == expected

    return check


def micros_of(trace, said):
    """DESIGN section 5 at the default prices: AI by cost unless the customer's own, compute by seconds."""
    cost_usd = Decimal(str(trace["totalCost"])) if said["ownership"] == "platform" else 0
    compute_usd = Decimal(str(trace["latency"])) * COMPUTE_USD_PER_MINUTE / 60
    return round_to_micros((cost_usd + compute_usd) / CREDIT_PRICE_USD)


@pytest.mark.parametrize("version", SDKS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_trace_is_billed_to_its_own_customer(example, version, langfuse, run_example, bills_exactly):
    """Tags, customer, user and session are on the trace, and a sync bills just those customers, exactly."""
    printed = run_example(example, version)

    held = {trace["id"]: said_by(trace) for trace in langfuse.traces(PROJECT)}
    assert held == {said["trace_id"]: said for said in printed}
    assert len({said["customer"] for said in printed}) == 3
    bills_exactly(printed)


@pytest.mark.parametrize(("example", "version"), ON_A_V4_SERVER)
def test_every_observation_says_whose_it_is(example, version, langfuse, run_example, bills_exactly):
    """On a v4 server labels live on each observation, and nothing merges (observed item 26); each is billed so."""
    langfuse.set_generation("events_only")
    printed = run_example(example, version)

    for said in printed:
        rows = langfuse.rows(PROJECT, said["trace_id"])
        assert {row["name"] for row in rows} == EXAMPLES[example]
        assert [said_by({**row, "id": row["traceId"]}) for row in rows] == [said] * len(rows)
    bills_exactly(printed)


def said_by(row):
    """What a trace or an observation says, in the words that the examples print."""
    [flow] = set(row["tags"]) - {"billing:pending"}
    return {
        "trace_id": row["id"],
        "flow": flow,
        "ownership": row["metadata"]["aiCredentialsOwnership"],
        "customer": row["metadata"]["customerId"],
        "user": row["userId"],
        "session": row["sessionId"],
    }
