"""Nouns that tests ask for: a clock, the two sandboxes, and settings that lead to them."""

import contextlib
from functools import partial

import pytest

from builders import NOW_US, PROJECT, ingested
from databases import DATABASES, SQLITE, ask, fresh_ledgers
from postgres_server import stop_server
from tallymark import config, failpoints
from tallymark.flows.backfill import backfill
from tallymark.flows.sync import sync
from tallymark.ledger import open_ledger
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe


def pytest_addoption(parser):
    """Where ledgers are that no test has placed."""
    parser.addoption("--database", choices=DATABASES, default=SQLITE, help="the database of every test's ledger")


def pytest_generate_tests(metafunc):
    """Run a test that asks for a ledger once on each of the databases that its marker `databases` names."""
    marker = metafunc.definition.get_closest_marker("databases")
    if marker is not None and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", marker.args)


def pytest_unconfigure():
    """Leave no server behind."""
    stop_server()


@pytest.fixture
def database(request):
    """The kind of database that ledgers of the test are in."""
    return request.config.getoption("--database")


@pytest.fixture
def clock():
    """A clock that stands until it is told to move."""
    return VirtualClock(NOW_US)


@pytest.fixture
def langfuse(clock):
    """An empty sandbox Langfuse."""
    return SandboxLangfuse(clock=clock)


@pytest.fixture
def stripe(clock):
    """A sandbox Stripe with the meter "credits"."""
    sandbox = SandboxStripe(clock=clock)
    sandbox.add_meter("credits")
    return sandbox


@pytest.fixture
def serving():
    """A function that serves a sandbox on loopback, with faults if given, and returns its address."""
    with contextlib.ExitStack() as servers:
        yield lambda service, faults=None: servers.enter_context(serve(service, faults=faults)).url


@pytest.fixture
def put(langfuse):
    """A function that writes one trace into the sandbox; see `builders.ingested`."""

    def write(trace_id, **changes):
        trace, observations = ingested(trace_id, **changes)
        langfuse.put_trace(PROJECT, trace, observations)

    return write


@pytest.fixture
def settings(langfuse, stripe, serving, ledger_url):
    """A function that makes settings which lead to the sandboxes (or to those named) and to a ledger of the test."""
    served = {}

    def address(service, faults):
        if (id(service), id(faults)) not in served:
            served[id(service), id(faults)] = serving(service, faults)
        return served[id(service), id(faults)]

    def make(*, read_from=langfuse, bill_to=stripe, langfuse_faults=None, stripe_faults=None, **changes):
        return config.load(
            None,
            {
                "LANGFUSE_BASE_URL": address(read_from, langfuse_faults),
                "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
                "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
                "STRIPE_API_BASE": address(bill_to, stripe_faults),
                "STRIPE_METER_EVENTS_BASE": address(bill_to, stripe_faults),
                "STRIPE_SECRET_KEY": "sk_test_sandbox",
                "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000000",
                "BILLING_LEDGER_URL": ledger_url,
                **changes,
            },
        )

    return make


@pytest.fixture
def run(settings, clock):
    """A function that syncs; `to` are settings, everything else goes to `sync`."""

    def once(to=None, **request):
        return sync(to or settings(), clock=clock, **request)

    return once


@pytest.fixture
def run_backfill(settings, clock):
    """A function that backfills; `to` are settings, everything else goes to `backfill`."""

    def once(to=None, **request):
        return backfill(to or settings(), clock=clock, **request)

    return once


@pytest.fixture
def balance(stripe, look):
    """A function that gives what each customer was billed: Stripe's tally in micro-credits, plus the ledger's carry."""

    def read():
        carry = dict(look("select customer_id, sum(amount_micros) from carry group by customer_id"))
        for (customer, _), credits in stripe.tally().items():
            carry[customer] = carry.get(customer, 0) + int(credits) * 1_000_000
        return {customer: micros for customer, micros in carry.items() if micros}

    return read


@pytest.fixture
def stopped():
    """A function that ends the process, as far as a test can, where a step is reached; a context."""

    @contextlib.contextmanager
    def at(step, side):
        def stop(*reached):
            if reached == (step, side):
                raise KeyboardInterrupt

        failpoints.arm(stop)
        try:
            with pytest.raises(KeyboardInterrupt):
                yield
        finally:
            failpoints.arm(None)

    return at


@pytest.fixture
def new_ledger(database, tmp_path):
    """A function that gives the address of a ledger of the test, by its name."""
    with fresh_ledgers(database, tmp_path) as address:
        yield address


@pytest.fixture
def ledger_url(new_ledger):
    """Where the ledger of `ledger` and of `settings` is."""
    return new_ledger()


@pytest.fixture
def ledger_path(tmp_path):
    """The file of that ledger, where it is one."""
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def ledger(ledger_url):
    """An open ledger."""
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def look(ledger_url):
    """A function that asks the ledger over a connection of its own, which sees only what is committed."""
    return partial(ask, ledger_url)
