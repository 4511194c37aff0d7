"""Nouns that tests of the instrument ask for: exporters, tracers, the real Langfuse SDK, and spans that have ended."""

import itertools

import pytest
from instrument_spans import customer_of
from langfuse import Langfuse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tallymark.instrument import install, refusals, scopes, sdks, set_strict

# The SDK keeps one client a key for ever: with a key of its own, each test has a new one.
PUBLIC_KEYS = map("pk-test-{}".format, itertools.count())


@pytest.fixture(autouse=True)
def _strict():
    """Nothing may be refused in these tests unless they say so; nothing of one test holds in the next."""
    refusals.forget()
    set_strict(True)
    yield
    set_strict(None)
    assert scopes.active_scope() is None


@pytest.fixture
def exporter():
    """Holds the spans that have ended."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    """An OpenTelemetry provider of the test's own that exports each span as it ends."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def tracer(provider):
    """An application that knows nothing of Langfuse, with our processor installed."""
    install(provider)
    return provider.get_tracer("app")


@pytest.fixture
def client(provider):
    """The real Langfuse SDK; its own exporter discards."""
    made = Langfuse(
        public_key=next(PUBLIC_KEYS),
        secret_key="sk-test",
        base_url="http://127.0.0.1:9",
        tracer_provider=provider,
        span_exporter=InMemorySpanExporter(),
    )
    yield made
    made.shutdown()


@pytest.fixture(params=["langfuse", "processor"])
def span(request):
    """A function that starts a span, of the Langfuse SDK or of plain OpenTelemetry with our processor."""
    if request.param == "langfuse":
        langfuse = request.getfixturevalue("client")
        return lambda name: langfuse.start_as_current_observation(name=name)
    tracer = request.getfixturevalue("tracer")
    request.getfixturevalue("monkeypatch").setattr(sdks, "langfuse", lambda: None)
    return tracer.start_as_current_span


@pytest.fixture
def spans(exporter):
    """A function that gives the ended spans by name."""
    return lambda: {one.name: one for one in exporter.get_finished_spans()}


@pytest.fixture
def customers(exporter):
    """A function that gives the customers of each trace, by the name of a span in it."""

    def by_name():
        ended = exporter.get_finished_spans()
        of_trace = {one.context.trace_id: set() for one in ended}
        for one in ended:
            of_trace[one.context.trace_id].add(customer_of(one))
        return {one.name: of_trace[one.context.trace_id] for one in ended}

    return by_name
