"""A served sandbox of Stripe with the real SDK as its client."""

import contextlib
import warnings
from collections.abc import Iterator

from tallymark.core.clock import SECOND_US
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.stripe import SandboxStripe

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

NOW_SECONDS = 1_795_003_200  # a whole hour
TIMEOUT_SECONDS = 5


class Account:
    """A served sandbox and the SDK's client for it."""

    def __init__(self, sandbox, clock, server, timeout_seconds):
        self.sandbox, self.clock, self.server, self.timeout_seconds = sandbox, clock, server, timeout_seconds
        self.client = self.client_of("sk_test_sandbox")

    def client_of(self, key):
        """The SDK's client with a key."""
        return stripe.StripeClient(
            key,
            base_addresses={"api": self.server.url},
            http_client=stripe.RequestsClient(timeout=self.timeout_seconds),
            max_network_retries=0,
        )

    def send(
        self, identifier="one", value="5", customer="cus_1", timestamp=NOW_SECONDS, event_name="credits", key=None
    ):
        """Send a meter event."""
        params = {"event_name": event_name, "identifier": identifier, "timestamp": timestamp}
        params["payload"] = {"stripe_customer_id": customer, "value": value}
        return self.client.v1.billing.meter_events.create(params, {"idempotency_key": key} if key else {})


@contextlib.contextmanager
def served(faults=None, timeout_seconds=TIMEOUT_SECONDS, **options) -> Iterator[Account]:
    """An account with one meter, "credits", on a clock that stands still."""
    clock = VirtualClock(NOW_SECONDS * SECOND_US)
    sandbox = SandboxStripe(clock=clock, **options)
    sandbox.add_meter("credits")
    with serve(sandbox, faults=faults) as server:
        yield Account(sandbox, clock, server, timeout_seconds)
