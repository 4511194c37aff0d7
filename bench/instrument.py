"""What `billable` and the span processor add to a traced call, with exporters that discard; in this process.

A traced call is a chain with one model inside, each with messages in and out. Two kinds of figures: against a call
whose model answers in 5 ms, sooner than any model does, for which there is a target; and against one whose model
answers at once, where nothing but tracing is left, to show what is added in microseconds and how much of that is
Langfuse's own `propagate_attributes`, the only call that the Langfuse SDK has for user, session, tags and metadata.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from tallymark.instrument import billable, install

from .figures import Figure

if TYPE_CHECKING:
    from langfuse import Langfuse
    from opentelemetry.sdk.trace import TracerProvider

ROUNDS = 15
CALLS = 20
CALLS_AT_ONCE = 100
MODEL_SECONDS = 0.005
ADDED_RATIO_MAX = 1.05

QUESTION = [
    {"role": "system", "content": "You are a patient assistant who answers from the help pages. " * 15},
    {"role": "user", "content": "How do I add a seat, and what is on the next invoice then? " * 3},
]
ANSWER = {"role": "assistant", "content": "Please open the settings and choose your plan. " * 15}

Call = Callable[[float], None]
Around = Callable[[], AbstractContextManager[Any]]


def measure() -> Iterator[Figure]:
    """Measure with the Langfuse SDK that is installed, and with plain OpenTelemetry."""
    client, call = _langfuse_call()
    by_hand = _by_hand()
    yield from _figures("Langfuse SDK, `billable`", [_each(call, nullcontext), _each(call, _billable)])
    yield from _at_once("Langfuse SDK", [_each(call, around) for around in (nullcontext, by_hand, _billable)])
    client.shutdown()
    bare, labelled = _opentelemetry_call(), _opentelemetry_call(processor=True)
    yield from _figures("OpenTelemetry, processor", [_each(bare, nullcontext), _each(labelled, _billable)])


def _each(call: Call, around: Around) -> Call:
    def one(model_seconds: float) -> None:
        with around():
            call(model_seconds)

    return one


def _billable() -> AbstractContextManager[Any]:
    return billable(customer="cus_12345", flow="chat", ownership="platform", user="user-7", session="session-8")


def _by_hand() -> Around:
    from langfuse import propagate_attributes

    return partial(
        propagate_attributes,
        user_id="user-7",
        session_id="session-8",
        tags=["billing:pending", "chat"],
        metadata={"customerId": "cus_12345", "aiCredentialsOwnership": "platform"},
    )


def _figures(what: str, calls: Sequence[Call]) -> Iterator[Figure]:
    rounds = _rounds(calls, CALLS, MODEL_SECONDS)
    group = f"{what}: a traced call whose model answers in 5 ms (median of {ROUNDS} alternating rounds)"
    yield Figure(group, "without, ms", median(without for without, _ in rounds) * 1000, "ms")
    yield Figure(group, "with / without", _ratio(rounds, 1, 0), "×", ADDED_RATIO_MAX)


def _at_once(what: str, calls: Sequence[Call]) -> Iterator[Figure]:
    rounds = _rounds(calls, CALLS_AT_ONCE, 0)
    group = f"{what}: the same call whose model answers at once (median of {ROUNDS} alternating rounds)"
    yield Figure(group, "without, µs", median(seconds[0] for seconds in rounds) * 1e6, "µs")
    yield Figure(group, "added by propagate_attributes, µs", _added_microseconds(rounds, 1, 0), "µs")
    yield Figure(group, "added by billable on top of it, µs", _added_microseconds(rounds, 2, 1), "µs")
    yield Figure(group, "with billable / with propagate_attributes", _ratio(rounds, 2, 1), "×")
    yield Figure(group, "with billable / without", _ratio(rounds, 2, 0), "×")


def _rounds(calls: Sequence[Call], count: int, model_seconds: float) -> list[list[float]]:
    """Seconds a call, for each of the calls in turn, round by round; a first round is not counted."""
    return [[_seconds(call, count, model_seconds) for call in calls] for _ in range(ROUNDS + 1)][1:]


def _seconds(call: Call, count: int, model_seconds: float) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call(model_seconds)
    return (time.perf_counter() - start) / count


def _ratio(rounds: Sequence[Sequence[float]], ours: int, theirs: int) -> float:
    return median(seconds[ours] / seconds[theirs] for seconds in rounds)


def _added_microseconds(rounds: Sequence[Sequence[float]], ours: int, theirs: int) -> float:
    return median(seconds[ours] - seconds[theirs] for seconds in rounds) * 1e6


def _langfuse_call() -> tuple[Langfuse, Call]:
    from langfuse import Langfuse

    client = Langfuse(
        public_key="pk-bench",
        secret_key="sk-bench",
        base_url="http://127.0.0.1:9",
        tracer_provider=_new_provider(),
        span_exporter=_discarding_exporter(),
    )

    def call(model_seconds: float) -> None:
        with client.start_as_current_observation(name="chain", input=QUESTION) as chain:
            with client.start_as_current_observation(
                name="model", as_type="generation", model="gpt-4o", input=QUESTION
            ) as model:
                time.sleep(model_seconds)
                model.update(output=ANSWER, usage_details={"input": 300, "output": 120})
            chain.update(output=ANSWER)

    return client, call


def _opentelemetry_call(*, processor: bool = False) -> Call:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = _new_provider()
    provider.add_span_processor(BatchSpanProcessor(_discarding_exporter()))
    if processor:
        install(provider)
    tracer = provider.get_tracer("bench")

    def call(model_seconds: float) -> None:
        with tracer.start_as_current_span("chain") as chain:
            chain.set_attribute("langfuse.observation.input", json.dumps(QUESTION))
            with tracer.start_as_current_span("model") as model:
                model.set_attributes({"gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 300})
                time.sleep(model_seconds)
                model.set_attribute("langfuse.observation.output", json.dumps(ANSWER))

    return call


def _new_provider() -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider()


def _discarding_exporter() -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Discarding(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return Discarding()
