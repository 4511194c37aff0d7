"""The JSON API against its own document, by schemathesis: odd and ordinary input, and what each answer must be."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tallymark import config
from tallymark.clock import SystemClock
from tallymark.web.app import make_app
from web_callers import OPERATOR, TOKENS
from web_world import open_house

EXAMPLES = 12
NO_LIMIT = {"BILLING_API_REQUESTS_PER_MINUTE": "100000000"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def document_of(settings):
    """The document that the service publishes with these settings."""
    return make_app(settings, SystemClock()).openapi_schema.to_schema()


def operations():
    """Every operation of the document."""
    found = document_of(config.load(None, TOKENS))
    return [(method, path) for path, methods in found["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """The document, bound to an application with something to tell."""
    with open_house(tmp_path_factory.mktemp("house"), **TOKENS, **NO_LIMIT) as (_, settings):
        app = make_app(settings, SystemClock())
        loaded = schemathesis.openapi.from_dict(app.openapi_schema.to_schema())
        loaded.app = app
        yield loaded


@pytest.mark.parametrize(("method", "path"), operations())
def test_an_operation_keeps_to_the_document(schema, method, path):
    """Never a mistake of the server, and nothing that the document does not tell of, whatever is asked."""
    operation = schema[path][method.upper()]

    @seed(7)
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case):
        case.call_and_validate(headers={"Authorization": f"Bearer {OPERATOR}"}, checks=CHECKS)

    ask()


def test_every_operation_says_what_it_does():
    """In words, under a heading, with a name for generated clients that is its own."""
    found = document_of(config.load(None, TOKENS))
    told = [one for methods in found["paths"].values() for one in methods.values()]

    assert all(one.get("description") and one.get("tags") for one in told)
    assert len({one["operationId"] for one in told}) == len(told)
