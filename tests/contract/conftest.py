"""Nouns for tests of the observations generation, on whatever sandbox a test calls `langfuse`; and of Stripe's SDK."""

from contextlib import ExitStack

import pytest
from observation_services import ObservationPages, started
from stripe_account import served

from builders import PROJECT
from databases import has_table
from tallymark.flows.progress import quiet
from tallymark.flows.proof import verify_ledger
from tallymark.ledger.verify import NOTHING_NOTED
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe


@pytest.fixture
def serving_stripe():
    """A function that serves a fresh sandbox of Stripe, with faults or options, and gives its Account."""
    with ExitStack() as accounts:
        yield lambda *args, **options: accounts.enter_context(served(*args, **options))


@pytest.fixture
def write(langfuse):
    """A function that writes a trace of observations, each (minutes ago, changes); the first is the root."""

    def one(trace_id, *observations, customer="cus_1", on="every", **trace):
        metadata = {"customerId": customer} if customer else {}
        made = [
            {
                "id": f"{trace_id}-{number}",
                **started(minutes),
                **({"parentObservationId": f"{trace_id}-0"} if number else {}),
                **changes,
            }
            for number, (minutes, changes) in enumerate(observations)
        ]
        body = {"id": trace_id, "timestamp": made[0]["startTime"], "metadata": metadata, "tags": ["billing:pending"]}
        langfuse.put_trace(PROJECT, {**body, **trace}, made, attributes_on=on)

    return one


@pytest.fixture
def bill(run, settings, clock, balance):
    """A function that syncs pages made by hand; the summary, and what was billed."""

    def sync(*pages, cursors=None, **changes):
        summary = run(settings(read_from=ObservationPages(*pages, cursors=cursors), **changes))
        return summary, balance()

    return sync


@pytest.fixture
def proved(ledger_url):
    """Whatever a test did, its ledger holds at the end: every digest and every sum (`tallymark ledger verify`)."""
    yield
    if has_table(ledger_url, "entry"):
        assert verify_ledger(ledger_url, NOTHING_NOTED, quiet).findings == []


@pytest.fixture
def undated(monkeypatch):
    """A Langfuse that names no time, as behind some proxies: a clock that is ahead cannot be seen."""
    monkeypatch.setattr(SandboxLangfuse, "_http_date", lambda _: "some time")


@pytest.fixture
def strict(clock):
    """An account that knows no customer, and says so only after it has answered 200."""
    stripe = SandboxStripe(clock=clock, any_customer=False)
    stripe.add_meter("credits")
    return stripe
