"""A client of the sandbox's Stripe in process, for the contract tests."""

import json
from urllib.parse import urlencode

from stripe_shapes import DOCUMENT, problems

from tallymark.core.clock import SECOND_US
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request

NOW_SECONDS = 1_795_003_200  # a whole hour
DAY_SECONDS = 86_400
METER_EVENTS = "/v1/billing/meter_events"


class Client:
    """Calls a sandbox in process, and checks every answer against Stripe's own schema where the document has one."""

    def __init__(self, clock, stripe, headers=None):
        self.clock, self.stripe = clock, stripe
        self.headers = headers if headers is not None else {"authorization": "Bearer sk_test_sandbox"}
        self.last = None

    def call(self, method, path, params=(), **headers):
        pairs = tuple((name, str(value)) for name, value in dict(params).items())
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        query, body = (pairs, b"") if method == "GET" else ((), urlencode(pairs).encode())
        return self.ask(Request(method, path, query, sent, body))

    def post_json(self, path, content, **headers):
        """Post JSON, as v2 takes it; returns (status, JSON)."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask(Request("POST", path, (), {**self.headers, **headers}, body))

    def ask(self, request):
        self.last = self.stripe.handle(request)
        content = json.loads(self.last.body)
        self.check_shape(content)
        return self.last.status, content

    def check_shape(self, content):
        asked = self.stripe.requests()[-1]
        refused = "error v2" if asked.path.startswith("/v2/") else "error"
        route = asked.route if self.last.status == 200 else refused
        if route in DOCUMENT["responses"]:
            assert problems(route, content) == []

    def get(self, path, **params):
        return self.call("GET", path, params)

    def send(self, identifier="one", value="5", customer="cus_1", event_name="credits", timestamp=None, **headers):
        """Send a meter event; returns (status, JSON)."""
        params = {"event_name": event_name, "payload[stripe_customer_id]": customer, "payload[value]": value}
        params |= {"identifier": identifier, "timestamp": NOW_SECONDS if timestamp is None else timestamp}
        return self.call("POST", METER_EVENTS, params, **headers)


def make(**options):
    """A client of a fresh account with one meter, "credits"."""
    clock = VirtualClock(NOW_SECONDS * SECOND_US)
    stripe = SandboxStripe(clock=clock, **options)
    stripe.add_meter("credits")
    return Client(clock, stripe)


def message(answer):
    """The message of a refusal."""
    status, content = answer
    assert status >= 400, content
    return content["error"]["message"]
