"""`billable` and the span processor: which spans carry which customer, on the real Langfuse SDK and without it."""

import asyncio
import contextlib
import contextvars
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from langfuse import Langfuse, propagate_attributes
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tallymark.instrument import BillingSpanProcessor, billable, install, refusals, scopes, sdks, set_strict
from tallymark.instrument.owners import TraceOwners

TAGS = "langfuse.trace.tags"
CUSTOMER = "langfuse.trace.metadata.customerId"
CUSTOMERS = [f"cus_{number}" for number in range(8)]
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


def customer_of(span):
    """The customer as Langfuse reads it: metadata is parsed as JSON, and kept as it is if it is none."""
    text = span.attributes.get(CUSTOMER)
    return json.loads(text) if text and text.startswith('"') else text


def tags_of(span):
    return set(span.attributes.get(TAGS, ()))


def test_every_span_of_the_trace_is_labelled(span, spans):
    """On a v4 server a span without labels has none (observed item 26)."""
    with (
        billable(
            customer="cus_1", flow="chat", ownership="user", user="ada", session="s1", metadata={"gbMonth": "2.5"}
        ),
        span("root"),
        span("child"),
    ):
        pass

    for one in spans().values():
        assert tags_of(one) == {"billing:pending", "chat"}
        assert customer_of(one) == "cus_1"
        assert json.loads(one.attributes["langfuse.trace.metadata.gbMonth"]) in ("2.5", 2.5)
        assert "user" in one.attributes["langfuse.trace.metadata.aiCredentialsOwnership"]
        assert (one.attributes["user.id"], one.attributes["session.id"]) == ("ada", "s1")
    assert set(spans()) == {"root", "child"}


def test_a_customer_of_digits_stays_text(span, spans):
    """Langfuse would make a number of bare digits."""
    with billable(customer="00123456789012345678901"), span("root"):
        pass

    assert spans()["root"].attributes[CUSTOMER] == '"00123456789012345678901"'


def test_the_root_that_is_already_open_is_labelled_too(span, spans):
    with span("root"), billable(customer="cus_1", flow="chat"), span("child"):
        pass

    assert {customer_of(one) for one in spans().values()} == {"cus_1"}
    assert tags_of(spans()["root"]) == {"billing:pending", "chat"}


def test_the_open_root_keeps_its_own_tags(span, spans):
    """Langfuse's own call overwrites them (facts/langfuse.md section 9.3)."""
    with span("root"):
        otel_trace.get_current_span().set_attribute(TAGS, ["mine"])
        with billable(customer="cus_1"):
            pass

    assert tags_of(spans()["root"]) == {"mine", "billing:pending"}


def test_tags_and_metadata_of_the_application_stay(client, spans):
    """Both are propagated by Langfuse's own call, whichever comes first."""
    with (
        propagate_attributes(tags=["before"], metadata={"a": "1"}),
        billable(customer="cus_1", flow="chat"),
        propagate_attributes(tags=["after"]),
        client.start_as_current_observation(name="root"),
    ):
        pass

    assert tags_of(spans()["root"]) == {"before", "billing:pending", "chat", "after"}
    assert spans()["root"].attributes["langfuse.trace.metadata.a"] == '"1"'


def test_a_run_inside_another_adds_to_it(span, spans, customers):
    """What is not given is inherited, for the same customer or none."""
    with (
        billable(customer="cus_1", flow="agent", session="s1"),
        span("root"),
        billable(flow="tool", user="ada"),
        billable(customer="cus_1"),
        span("child"),
    ):
        pass

    assert customers() == {"root": {"cus_1"}, "child": {"cus_1"}}
    assert tags_of(spans()["child"]) == {"billing:pending", "agent", "tool"}
    assert (spans()["child"].attributes["user.id"], spans()["child"].attributes["session.id"]) == ("ada", "s1")


@pytest.mark.parametrize("inner", ["cus_2", None, "", "x" * 201], ids=["another", "None", "empty", "too long"])
def test_a_run_for_another_customer_has_a_trace_of_its_own(span, spans, customers, inner):
    """
    Nothing of the outer run is in it: not its customer, user, session or tags.

    The same if the inner customer cannot be used: it is nobody's, not the outer one's.
    """
    set_strict(False)
    with (
        billable(customer="cus_1", flow="agent", user="ada", session="s1"),
        span("outer"),
        billable(customer=inner, flow="review"),
        span("inner"),
    ):
        pass

    assert customers() == {"outer": {"cus_1"}, "inner": {"cus_2" if inner == "cus_2" else None}}
    assert tags_of(spans()["inner"]) == {"billing:pending", "review"}
    assert not {"user.id", "session.id"} & set(spans()["inner"].attributes)


def test_after_an_inner_run_the_outer_one_goes_on(span, spans, customers):
    with billable(customer="cus_1"), span("outer"):
        with billable(customer="cus_2"), span("inner"):
            pass
        with span("later"):
            pass

    assert customers() == {"outer": {"cus_1"}, "later": {"cus_1"}, "inner": {"cus_2"}}
    assert spans()["later"].parent.span_id == spans()["outer"].context.span_id


def test_a_trace_stays_with_its_first_customer(span, customers):
    """A batch job under one span: the first customer's run takes the trace, the others get their own."""
    with span("batch"):
        for number in (1, 2, 1):
            with span(f"step-{number}"), billable(customer=f"cus_{number}"), span(f"work-{number}"):
                pass

    assert customers()["work-1"] == customers()["batch"] == {"cus_1", None}
    assert customers()["work-2"] == {"cus_2"}


def work(span, customer):
    """A traced call inside another one."""
    with span(f"root of {customer}"), span(f"child of {customer}"):
        pass


def expected_customers():
    return {f"{what} of {customer}": {customer} for customer in CUSTOMERS for what in ("root", "child")}


def test_parallel_threads_keep_their_own_customers(span, customers):
    """Also when they share one `billable` whose customer comes from the arguments."""
    run = billable(customer=lambda span, customer: customer)(work)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, [span] * len(CUSTOMERS), CUSTOMERS))

    assert customers() == expected_customers()


def test_parallel_threads_share_one_object_without_mixing(span, spans):
    shared = billable(customer="cus_1")
    contexts = [contextvars.copy_context(), contextvars.copy_context()]
    for context in contexts:
        context.run(shared.__enter__)
    for context in contexts:
        context.run(work, span, "shared")
        context.run(shared.__exit__, None, None, None)
        context.run(work, span, "after")

    assert {customer_of(one) for name, one in spans().items() if "shared" in name} == {"cus_1"}
    assert {customer_of(one) for name, one in spans().items() if "after" in name} == {None}


def test_a_thread_with_a_copied_context_works_for_the_same_customer(span, customers):
    with billable(customer="cus_1"), span("outer"), ThreadPoolExecutor(1) as threads:
        threads.submit(contextvars.copy_context().run, work, span, "thread").result()

    assert set(map(frozenset, customers().values())) == {frozenset({"cus_1"})}


def test_a_thread_with_the_context_of_opentelemetry_works_for_the_same_customer(span, customers):
    """That context alone is what OpenTelemetry's own instrumentation of threads carries over."""

    def in_thread(context):
        token = otel_context.attach(context)
        work(span, "thread")
        otel_context.detach(token)

    with billable(customer="cus_1"), ThreadPoolExecutor(1) as threads:
        threads.submit(in_thread, otel_context.get_current()).result()

    assert customers() == {"root of thread": {"cus_1"}, "child of thread": {"cus_1"}}


def test_parallel_tasks_keep_their_own_customers(span, customers):
    async def run(customer):
        with billable(customer=customer), span(f"root of {customer}"):
            await asyncio.sleep(0)
            with span(f"child of {customer}"):
                await asyncio.sleep(0)

    async def run_all():
        await asyncio.gather(*map(run, CUSTOMERS))

    asyncio.run(run_all())

    assert customers() == expected_customers()


def test_a_decorated_function_is_itself(span):
    """Name, result and errors are the function's."""

    @billable(customer="cus_1")
    def divide(dividend, divisor):
        return dividend / divisor

    assert (divide.__name__, divide(6, divisor=3)) == ("divide", 2)
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)


def test_a_decorated_coroutine_function(span, customers):
    @billable(customer=lambda customer: customer)
    async def answer(customer):
        await asyncio.sleep(0)
        with span("root"):
            return customer

    assert asyncio.run(answer("cus_7")) == "cus_7"
    assert customers() == {"root": {"cus_7"}}


def test_a_decorated_generator_does_not_leak_to_who_iterates(span, customers):
    """Between two steps the consumer's spans are the consumer's; inside, spans stay open over the steps."""

    @billable(customer="cus_1")
    def answers():
        with span("inside"):
            for number in (1, 2):
                with span(f"step-{number}"):
                    pass
                yield number
        return "end"

    for number in answers():
        with span(f"outside-{number}"):
            pass

    inside, outside = ("inside", "step-1", "step-2"), ("outside-1", "outside-2")
    assert customers() == {name: {"cus_1"} for name in inside} | {name: {None} for name in outside}


def test_a_decorated_generator_is_a_generator():
    """What is sent and thrown into it arrives, and what it returns comes back."""

    @billable(customer="cus_1")
    def echo():
        got = yield "first"
        try:
            yield got
        except KeyError:
            return "returned"

    generator = echo()
    assert (next(generator), generator.send("sent")) == ("first", "sent")
    with pytest.raises(StopIteration, match="returned"):
        generator.throw(KeyError("thrown"))


def test_a_decorated_asynchronous_generator_does_not_leak(span, customers):
    @billable(customer=lambda customer: customer)
    async def answers(customer):
        with span("inside"):
            for number in (1, 2):
                await asyncio.sleep(0)
                yield number

    async def consume():
        async for number in answers("cus_1"):
            with span(f"outside-{number}"):
                await asyncio.sleep(0)

    asyncio.run(consume())

    assert customers() == {"inside": {"cus_1"}, "outside-1": {None}, "outside-2": {None}}


def test_a_decorated_asynchronous_generator_is_one():
    """It runs in the task of who awaits it, and closing or cancelling it runs its own `finally`."""
    seen = []

    @billable(customer="cus_1")
    async def answers():
        try:
            seen.append(asyncio.current_task())
            yield 1
            await asyncio.sleep(3600)
        finally:
            seen.append("closed")

    async def consume():
        stream = answers()
        await anext(stream)
        assert seen == [asyncio.current_task()]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other = answers()
        await anext(other)
        await other.aclose()

    asyncio.run(consume())

    assert seen.count("closed") == 2


def test_leaving_in_another_context_changes_nothing(span, customers):
    """As some web frameworks do: entered in one copy of the context, left in another."""
    run = billable(customer="cus_1")
    contextvars.copy_context().run(run.__enter__)
    run.__exit__(None, None, None)
    with span("root"):
        pass

    assert customers() == {"root": {None}}


def test_a_run_that_was_never_left_ends_with_the_one_around_it(span, customers):
    """A generator that is dropped half-way leaves its `with` open; the next trace must not be billed to it."""
    forgotten = billable(customer="cus_2")
    with billable(customer="cus_1"):
        forgotten.__enter__()
    with span("root"):
        pass

    assert customers() == {"root": {None}}


@pytest.mark.parametrize("strict", [True, False])
def test_errors_of_the_application_pass(span, spans, strict):
    set_strict(strict)

    with pytest.raises(LookupError, match="mine"), billable(customer="cus_1"), span("root"):
        raise LookupError("mine")

    assert customer_of(spans()["root"]) == "cus_1"


def test_errors_of_the_langfuse_sdk_do_not_reach_the_application(tracer, spans, monkeypatch, caplog):
    """And what does not need it goes on: the labels are still there for the processor."""
    set_strict(False)

    def broken():
        raise RuntimeError("secret")

    monkeypatch.setattr(sdks, "langfuse", broken)
    with billable(customer="cus_1"), tracer.start_as_current_span("root"), billable(flow="chat"):
        pass

    assert customer_of(spans()["root"]) == "cus_1"
    assert tags_of(spans()["root"]) == {"billing:pending", "chat"}
    [line] = caplog.messages
    assert "RuntimeError" in line
    assert "secret" not in line


@pytest.mark.parametrize(("encodes_metadata", "sent"), [(True, "123"), (False, '"123"')], ids=["SDK 5", "SDK 3 and 4"])
def test_digits_are_encoded_once(monkeypatch, encodes_metadata, sent):
    """SDK 5 writes metadata as JSON itself, the others as it is (facts/langfuse.md section 9.2)."""
    received = []

    def propagate_attributes(**given):
        received.append(given["metadata"])
        return contextlib.nullcontext()

    monkeypatch.setattr(sdks, "langfuse", lambda: sdks.Langfuse(propagate_attributes, encodes_metadata))
    with billable(customer="123"):
        pass

    assert received == [{"customerId": sent}]


def test_a_failing_function_for_a_customer_leaves_the_trace_to_nobody(span, customers, caplog):
    """Not to the customer of the run around it either."""
    set_strict(False)

    @billable(customer=lambda request: request["customer"])
    def answer(request):
        with span("root"):
            return "answered"

    with billable(customer="cus_1"):
        assert answer({}) == "answered"

    assert customers() == {"root": {None}}
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("given", [("a", "b"), '["a", "b"]', "a, b", "a,b"], ids=["strings", "JSON", "text", "CSV"])
def test_the_processor_adds_to_tags_in_any_form(tracer, spans, given):
    with billable(customer="cus_1"), tracer.start_as_current_span("root", attributes={TAGS: given}):
        pass

    assert spans()["root"].attributes[TAGS] == ("a", "b", "billing:pending")


def test_the_processor_keeps_what_a_span_says_itself(tracer, spans):
    attributes = {"user.id": "grace", "session.id": "s2"}
    with billable(customer="cus_1", user="ada"), tracer.start_as_current_span("root", attributes=attributes):
        pass

    assert attributes.items() <= dict(spans()["root"].attributes).items()


def test_the_processor_reads_the_context_that_a_span_is_given(tracer, spans):
    """A span may be started with an explicit context, far from where it was made."""
    with billable(customer="cus_1"):
        context = otel_context.get_current()
    tracer.start_span("root", context=context).end()

    assert customer_of(spans()["root"]) == "cus_1"


def test_the_processor_changes_nothing_that_langfuse_has_written(client, provider, spans):
    with billable(customer="cus_1", flow="chat", user="ada"), client.start_as_current_observation(name="without"):
        pass
    install(provider)
    with billable(customer="cus_1", flow="chat", user="ada"), client.start_as_current_observation(name="with"):
        pass

    assert dict(spans()["with"].attributes) == dict(spans()["without"].attributes)


def test_install_adds_one_processor(provider):
    assert isinstance(install(provider), BillingSpanProcessor)
    assert install(provider) is install(provider)


def test_install_says_that_there_is_no_provider(caplog):
    """The API's own provider takes no processors."""
    with pytest.raises(ValueError, match="no tracer provider"):
        install(otel_trace.NoOpTracerProvider())
    set_strict(False)

    assert install(otel_trace.NoOpTracerProvider()) is None
    assert "no tracer provider" in caplog.text


def test_a_processor_never_raises_into_the_application(tracer, monkeypatch, spans, caplog):
    set_strict(False)
    monkeypatch.setattr("tallymark.instrument.processor.complete", None)
    with billable(customer="cus_1"), tracer.start_as_current_span("root"):
        pass

    assert "root" in spans()
    assert "TypeError" in caplog.text


def test_owners_of_traces_are_remembered_up_to_a_limit():
    owners = TraceOwners(traces_max=2)

    assert owners.claim(1, "cus_1")
    assert not owners.claim(1, "cus_2")
    assert owners.claim(2, "cus_1")
    assert owners.claim(3, "cus_1")
    assert owners.claim(1, "cus_2")
