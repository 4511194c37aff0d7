"""The demo: the sandbox, a story of traces, and the whole run over them, checked against the sandbox's own tally."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from .clock import SystemClock
from .config import Config, load
from .console import print_json, print_table, progress
from .core.clock import DAY_US, SECOND_US, format_time
from .core.credits import MICROS_PER_CREDIT, format_micros
from .errors import ConfigError
from .flows.explain import explain
from .flows.summary import SyncSummary
from .flows.sync import sync
from .ledger import Ledger, open_ledger
from .remote.langfuse import LangfuseClient
from .sandbox.langfuse import Generation
from .sandbox.process import Options, Ready, SandboxProcess, environment_of, say_as_json, start
from .sandbox.process import run as run_services
from .sandbox.story import Expected, expect, tell
from .show import show_explanation, show_sync

DEMO_LOOKBACK_US = 45 * DAY_US
LATE_COST_USD = "0.0123"


@dataclass(slots=True)
class Story:
    """What the demo shows, and the checks that decide its exit status."""

    config: Config
    sandbox: SandboxProcess
    say: Callable[[str], None]
    quiet: bool
    generation: str
    problems: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def check(self, what: str, holds: bool) -> None:
        """Say whether something holds; remember if it does not."""
        self.say(f"  {'ok ' if holds else 'NOT'} {what}")
        if not holds:
            self.problems.append(what)


def run(*, traces: int, generation: str, workload: tuple[Path, ...], keep: bool, as_json: bool, quiet: bool) -> int:
    """Run the demo; returns its exit status: 0 if every check holds."""
    say: Callable[[str], None] = (lambda line: None) if as_json or quiet else click.echo
    server = "Langfuse 3" if generation == "traces" else "Langfuse 4 (events_only)"
    say(f"starting the sandbox: a local {server} and Stripe, {_size(traces, workload)}")
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(start(_options(traces, generation, workload)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tallymark-demo-"))
        config = load(None, {**sandbox.environment(), "BILLING_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3"})
        story = Story(config, sandbox, say, quiet or as_json, generation)
        _tell(story, None if workload else expect(tell(traces, sandbox.ready.now_us)))
        if as_json:
            print_json({**story.report, "generation": generation, "problems": story.problems})
        if keep:
            _keep(story)
    return 1 if story.problems else 0


def _options(traces: int, generation: str, workload: tuple[Path, ...]) -> Options:
    server: Generation = "legacy" if generation == "traces" else "events_only"
    return Options(generation=server, story=0 if workload else traces, workload=tuple(str(path) for path in workload))


def _size(traces: int, workload: tuple[Path, ...]) -> str:
    return f"filled from {', '.join(path.name for path in workload)}" if workload else f"{traces:,} traces"


def _tell(story: Story, expected: Expected | None) -> None:
    first = _first_sync(story, expected)
    _second_sync(story)
    # Before the late usage, so that it can be compared with what the traces alone come to.
    story.report["customers"] = _credits_by_customer(story)
    trace_id = _late_usage(story)
    _judge(story, expected)
    story.say(f"\n== tallymark explain {trace_id}")
    _explain(story, trace_id)
    story.report |= {"fetched": first.fetched, "processed": first.processed}


def _sync(story: Story, from_us: int | None = None) -> SyncSummary:
    with progress(not story.quiet) as step:
        summary = sync(story.config, from_us=from_us, progress=step)
    if not story.quiet:
        show_sync(summary)
    return summary


def _first_sync(story: Story, expected: Expected | None) -> SyncSummary:
    story.say("\n== first sync: everything that Langfuse has")
    summary = _sync(story, story.sandbox.ready.now_us - DEMO_LOOKBACK_US)
    story.report["first_sync"] = summary
    if expected is not None:
        story.say("  the story holds " + ", ".join(f"{n:,} {kind}" for kind, n in sorted(expected.kinds.items())))
        story.check("every trace ended as the story says", _results(summary) == expected.results)
    return summary


def _results(summary: SyncSummary) -> Counter[str]:
    found = Counter({"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held})
    return +found


def _second_sync(story: Story) -> None:
    story.say("\n== second sync: nothing new, so only the overlap is read")
    summary = _sync(story)
    story.report["second_sync"] = summary
    story.check("nothing was billed twice", summary.meter_events.accepted == 0 and summary.processed == 0)


def _credits_by_customer(story: Story) -> dict[str, str]:
    with contextlib.closing(open_ledger(story.config.ledger_url, read_only=True)) as ledger:
        return {row["customer_id"]: format_micros(row["entries_micros"]) for row in ledger.query("balances")}


def _late_usage(story: Story) -> str:
    """One more generation arrives for a trace that was billed."""
    trace_id, at_us = _a_billed_trace(story)
    story.say(f"\n== late usage: one more generation of {LATE_COST_USD} USD arrives for {trace_id}")
    _report_late(story, trace_id, at_us)
    summary = _sync(story, at_us - SECOND_US)
    story.report["late_sync"] = summary
    story.check("the difference was billed as one adjustment", summary.adjusted == 1)
    return trace_id


def _a_billed_trace(story: Story) -> tuple[str, int]:
    with contextlib.closing(open_ledger(story.config.ledger_url, read_only=True)) as ledger:
        row = next(iter(ledger.query("latest_billed")))
        return row["trace_id"], row["timestamp_us"]


def _report_late(story: Story, trace_id: str, at_us: int) -> None:
    """Report the late generation as an application would: by ingestion, or by OpenTelemetry to a v4 server."""
    project = story.config.projects[0]
    client = LangfuseClient(project.base_url, project.public_key or "", project.secret_key or "", SystemClock())
    if story.generation == "observations":
        client.post("/api/public/otel/v1/traces", msgspec.json.encode(_late_span(trace_id, at_us)), bytes)
    else:
        client.post("/api/public/ingestion", msgspec.json.encode(_late_generation(trace_id, at_us)), bytes)
    client.close()


def _late_generation(trace_id: str, at_us: int) -> dict[str, Any]:
    body = {
        "id": "late-observation",
        "traceId": trace_id,
        "type": "GENERATION",
        "startTime": format_time(at_us),
        "endTime": format_time(at_us),
        "costDetails": {"total": msgspec.Raw(LATE_COST_USD.encode())},
    }
    now = format_time(SystemClock().now_us())
    return {"batch": [{"id": "late", "type": "generation-create", "timestamp": now, "body": body}]}


def _late_span(trace_id: str, at_us: int) -> dict[str, Any]:
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.cost_details": f'{{"total":{LATE_COST_USD}}}',
    }
    span = {
        "traceId": trace_id,
        "spanId": "late-observation",
        "parentSpanId": "an-earlier-span",
        "name": "llm",
        "startTimeUnixNano": str(at_us * 1000),
        "endTimeUnixNano": str(at_us * 1000),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def _judge(story: Story, expected: Expected | None) -> None:
    """The judge is Stripe's own tally, plus what whole-credit rounding left in the carry."""
    story.say("\n== reconcile: what Stripe counted, what the ledger says")
    with contextlib.closing(open_ledger(story.config.ledger_url, read_only=True)) as ledger:
        rows = _balances(ledger, story.sandbox.tally())
    if not story.quiet:
        print_table(rows[:8], ("customer", "stripe_credits", "carry", "entries"), "the first customers, in credits")
    story.check("Stripe's tally + carry = entries, for every customer", all(row["equal"] for row in rows))
    if expected is not None:
        told = {customer: format_micros(micros) for customer, micros in expected.micros.items()}
        before = "before the late usage, the entries equalled the story's own arithmetic, to the micro-credit"
        story.check(before, story.report["customers"] == told)


def _balances(ledger: Ledger, tally: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "customer": row["customer_id"],
            "stripe_credits": tally.get(row["customer_id"], 0),
            "carry": format_micros(row["carry_micros"]),
            "entries": format_micros(row["entries_micros"]),
            "equal": tally.get(row["customer_id"], 0) * MICROS_PER_CREDIT + row["carry_micros"]
            == row["entries_micros"],
        }
        for row in ledger.query("balances")
    ]


def _explain(story: Story, trace_id: str) -> None:
    with contextlib.closing(open_ledger(story.config.ledger_url, read_only=True)) as ledger:
        found = explain(ledger, trace_id)
    story.report["explain"] = found
    if not story.quiet:
        show_explanation(found)


def _keep(story: Story) -> None:
    story.say("\nthe sandbox keeps running; stop it with Ctrl-C. To use it from another shell:")
    _say_exports({**story.sandbox.environment(), "BILLING_LEDGER_URL": story.config.ledger_url}, story.say)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _say_exports(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    for name, value in environment.items():
        say(f"  export {name}={value}")


def run_sandbox(*, port_langfuse: int, port_stripe: int, traces: int, generation: Generation, as_json: bool) -> None:
    """Run only the sandbox until stopped. Raises ConfigError if a port is taken."""

    def announce(ready: Ready) -> None:
        click.echo(f"Langfuse on {ready.langfuse_url}, Stripe on {ready.stripe_url}, {ready.traces:,} traces.")
        click.echo(
            "What they received: /sandbox/requests on both, /sandbox/tally on Stripe. Ctrl-C stops. To use them:"
        )
        _say_exports(environment_of(ready), click.echo)

    options = Options(port_langfuse=port_langfuse, port_stripe=port_stripe, story=traces, generation=generation)
    try:
        run_services(options, say_as_json if as_json else announce)
    except OSError as error:
        raise ConfigError(
            f"the sandbox cannot listen there ({error.strerror}); choose other ports with --port-…."
        ) from error
