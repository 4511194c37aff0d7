"""The span processor for applications that do not call Langfuse."""

import pytest
from instrument_spans import TAGS, customer_of
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from tallymark.instrument import BillingSpanProcessor, billable, install, set_strict


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
