"""Nouns that tests ask for: a clock, the two sandboxes, and settings that lead to them."""

import contextlib
import sqlite3

import pytest

from builders import NOW_US, PROJECT, ingested
from tallymark import config, failpoints
from tallymark.flows.backfill import backfill
from tallymark.flows.sync import sync
from tallymark.ledger import open_ledger
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe


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
def settings(langfuse, stripe, serving, ledger_path):
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
                "STRIPE_SECRET_KEY": "sk_test_sandbox",
                "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000000",
                "BILLING_LEDGER_URL": f"sqlite:///{ledger_path}",
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
def balance(stripe, ledger_path):
    """A function that gives what each customer was billed: Stripe's tally in micro-credits, plus the ledger's carry."""

    def read():
        with contextlib.closing(sqlite3.connect(ledger_path)) as database:
            carry = dict(database.execute("select customer_id, sum(amount_micros) from carry group by customer_id"))
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
def ledger_path(tmp_path):
    """Where the ledger of `ledger` and of `settings` is."""
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def ledger(ledger_path):
    """An open ledger."""
    opened = open_ledger(f"sqlite:///{ledger_path}")
    yield opened
    opened.close()


@pytest.fixture
def look(ledger_path):
    """A function that asks the ledger's file over a connection of its own, which sees only what is committed."""

    def ask(question, *values):
        with contextlib.closing(sqlite3.connect(ledger_path)) as database:
            return database.execute(question, values).fetchall()

    return ask
