"""The machine of the simulation: one thread, no sockets, processes that die when the seed says so."""

import contextlib

import stripe
import urllib3

from tallymark.core.clock import SECOND_US
from tallymark.machine import Machine
from tallymark.sandbox.faults import Ending

LANGFUSE_TIMEOUT_SECONDS = 60


class Killed(BaseException):
    """The process ended here. Nothing catches it but the simulation."""


class SimulatedMachine(Machine):
    """Does everything in one thread, in an order that the seed chooses."""

    reads_ahead = False

    def __init__(self, chance, network, processes):
        self._chance, self._network, self._processes = chance, network, processes

    @contextlib.contextmanager
    def pool(self, threads, name):
        """One thing after the other, in any order."""
        yield self

    def map(self, do, items):
        """What doing it came to for each item, in the order of the items."""
        items = list(items)
        order = list(range(len(items)))
        self._chance.shuffle(order)
        done = {place: do(items[place]) for place in order}
        return iter([done[place] for place in range(len(items))])

    def random_hex(self, digits):
        """A name by chance."""
        return f"{self._chance.getrandbits(4 * digits):0{digits}x}"

    def langfuse_connections(self, **options):
        """Connections to the sandbox."""
        return LangfuseConnections(self._network, options["headers"])

    def stripe_connections(self, timeout_seconds, url):
        """Connections to the sandbox."""
        return StripeConnections(self._network, timeout_seconds)

    def host(self):
        """A host."""
        return "simulated"

    def process_id(self):
        """The process that runs now."""
        return self._processes.current.number

    def process_started(self, process_id):
        """Whether it is alive."""
        return self._processes.started(process_id)


class LangfuseConnections:
    """What looks like urllib3's PoolManager."""

    def __init__(self, network, headers):
        self._network, self.headers = network, headers

    def request(self, method, url, body=None, headers=None):
        """Ask the sandbox; raises what urllib3 raises."""
        answer = self._network.ask("langfuse", method, url, headers or self.headers, body or b"")
        if answer.ending is Ending.HANG:
            self._network.wait(LANGFUSE_TIMEOUT_SECONDS)
            raise urllib3.exceptions.ReadTimeoutError(None, url, "no answer")
        if answer.ending is not Ending.SENT:
            raise urllib3.exceptions.ProtocolError("the connection was closed")
        return _Response(answer.response)

    def clear(self):
        """Close nothing."""


class _Response:
    def __init__(self, response):
        self.status, self.data, self.headers = response.status, response.body, response.headers


class StripeConnections(stripe.HTTPClient):
    """What Stripe's SDK asks over."""

    name = "simulated"

    def __init__(self, network, timeout_seconds):
        super().__init__()
        self._network, self._timeout_seconds = network, timeout_seconds

    def request_with_retries(self, method, url, headers, post_data=None, max_network_retries=None, *, _usage=None):
        """Ask the sandbox; raises what the SDK raises where no answer comes."""
        body = post_data.encode() if isinstance(post_data, str) else post_data or b""
        answer = self._network.ask("stripe", method.upper(), url, headers, body)
        if answer.ending is Ending.HANG:
            self._network.wait(self._timeout_seconds)
        if answer.ending is not Ending.SENT:
            raise stripe.APIConnectionError(f"no answer: {answer.ending.value}")
        return answer.response.body.decode(), answer.response.status, dict(answer.response.headers)

    def close(self):
        """Close nothing."""


class Process:
    """One process of tallymark: its number, where it is going to be killed, and which lanes it is calling."""

    def __init__(self, number, fate):
        self.number, self.fate = number, fate
        self.dead = False
        self.calling = {}


class Processes:
    """Every process there was; the innermost is the one that runs."""

    def __init__(self):
        self.stack, self._alive, self._number = [], set(), 0

    @property
    def current(self):
        """The process that runs now."""
        return self.stack[-1]

    def start(self, fate):
        """Start a process, inside the one that waits meanwhile."""
        self._number += 1
        self._alive.add(self._number)
        self.stack.append(Process(self._number, fate))
        return self.current

    def end(self):
        """End the process that runs."""
        self._alive.discard(self.stack.pop().number)

    def started(self, number):
        """When a process was started; empty if it has ended."""
        return str(number * SECOND_US) if number in self._alive else ""
