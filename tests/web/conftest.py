"""Nouns of tests that ask the service over HTTP: a world with billed traces, and callers with tokens or a session."""

import contextlib

import pytest
from litestar.testing import TestClient

from tallymark.web.app import make_app
from web_callers import OPERATOR, TOKENS, Browser


@pytest.fixture
def connect(settings, clock):
    """A function that opens a client of the application, with these settings; it has shown nothing yet."""
    with contextlib.ExitStack() as open_clients:

        def client(**changes):
            app = make_app(settings(**{**TOKENS, **changes}), clock)
            made = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            made.follow_redirects = False
            return open_clients.enter_context(made)

        yield client


@pytest.fixture
def api(connect):
    """A function: ask the JSON API under /api/v1, as an operator unless another token is given."""
    client = connect()

    def ask(method, path, token=OPERATOR, **request):
        headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
        return client.request(method, f"/api/v1{path}", headers=headers, **request)

    return ask


@pytest.fixture
def browser(connect, ledger):
    """An operator named Ada who has signed in."""
    made = Browser(connect())
    assert made.sign_in(OPERATOR).status_code == 303
    return made
