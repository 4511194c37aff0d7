"""What tests of the instrument read off a span."""

import json

TAGS = "langfuse.trace.tags"
CUSTOMER = "langfuse.trace.metadata.customerId"


def customer_of(span):
    """The customer as Langfuse reads it: metadata is parsed as JSON, and kept as it is if it is none."""
    text = span.attributes.get(CUSTOMER)
    return json.loads(text) if text and text.startswith('"') else text


def tags_of(span):
    return set(span.attributes.get(TAGS, ()))
