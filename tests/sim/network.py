"""The way between tallymark and the sandboxes: time passes, faults strike, and a judge looks at what goes by."""

from urllib.parse import parse_qsl, urlsplit

from tallymark.core.clock import SECOND_US
from tallymark.sandbox.faults import Answer, Ending, Fault, Faults, answer
from tallymark.sandbox.wire import Request

LATENCY_SECONDS_MAX = 0.4
LIST = "/api/public/traces"
SENDS = "/v1/billing/meter_events"
# How long a request may hang somewhere on the way before it arrives after all.
LATE_SECONDS_MAX = 600
NO_FAULTS = {}
FAULT_KINDS = frozenset(
    {f"{service} {kind.value}" for service in ("langfuse", "stripe") for kind in Fault}
    | {"page repeated", "request repeated", "request late"}
)
"""All that can go wrong on the way."""


class Network:
    """Carries requests to the services, one at a time."""

    def __init__(self, chance, clock, services, events):
        self._chance, self._clock, self._services, self._events = chance, clock, services, events
        self._faults = {name: Faults(chance.getrandbits(32), NO_FAULTS, hang_seconds=0) for name in services}
        self._last_page = {}
        self.repeated_pages = self.repeated_requests = 0.0
        self.watch, self.in_flight = [], lambda: None
        self.late_sends, self._late = 0.0, []
        self._rates = dict.fromkeys(services, NO_FAULTS)

    @property
    def is_calm(self):
        """Whether nothing goes wrong on the way."""
        return not any((*self._rates.values(), self.repeated_pages, self.repeated_requests, self.late_sends))

    def set_faults(self, service, rates):
        """Let faults strike by these probabilities from now on."""
        self._faults[service].change(rates)
        self._rates[service] = rates

    def be_calm(self):
        """Let nothing go wrong from now on."""
        self.late_sends = 0.0
        self.repeated_pages = self.repeated_requests = 0.0
        for service in self._rates:
            self.set_faults(service, NO_FAULTS)

    def wait(self, seconds):
        """Let time pass; what hangs somewhere arrives in its time."""
        until_us = self._clock.now_us() + round(seconds * SECOND_US)
        self._let_late_ones_arrive(until_us)
        self._clock.advance((until_us - self._clock.now_us()) / SECOND_US)

    def ask(self, service, method, url, headers, body):
        """What the client sees of an answer."""
        parts = urlsplit(url)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else ()
        lower = {name.lower(): value for name, value in headers.items()}
        request = Request(method, parts.path, query, lower, body if isinstance(body, bytes) else bytes(body))
        for watcher in self.watch:
            watcher.before(service, request)
        self._let_late_ones_arrive(self._clock.now_us())
        self.wait(self._chance.random() * LATENCY_SECONDS_MAX / 2)
        self.in_flight()
        found = self._exchange(service, request)
        self.wait(self._chance.random() * LATENCY_SECONDS_MAX / 2)
        status = found.response.status if found.response is not None else "-"
        self._events.add(f"{service} {method} {parts.path}?{parts.query} {found.ending.value} {status}")
        for watcher in self.watch:
            watcher.after(service, request, found)
        return found

    def _exchange(self, service, request):
        faults, handler = self._faults[service], self._services[service]
        if request.path == SENDS and self.late_sends and self._chance.random() < self.late_sends:
            self._events.count("fault", "request late")
            arrives_us = self._clock.now_us() + self._chance.randrange(LATE_SECONDS_MAX) * SECOND_US
            self._late.append((arrives_us, handler, request))
            return Answer(Ending.RESET, None)
        before = dict(faults.done)
        if self.repeated_requests and self._chance.random() < self.repeated_requests:
            # Delivered twice: the first answer goes nowhere, the second one comes.
            self._events.count("fault", "request repeated")
            handler.handle(request)
            return Answer(Ending.SENT, handler.handle(request))
        found = answer(handler, request, faults)
        for fault, times in faults.done.items():
            if times > before.get(fault, 0):
                self._events.count("fault", f"{service} {fault.value}")
        return self._page_again(request, found) if request.path == LIST else found

    def _let_late_ones_arrive(self, until_us):
        """Those that hung for long enough: whatever is answered, nobody waits for it any more."""
        for late in sorted((late for late in self._late if late[0] <= until_us), key=lambda late: late[0]):
            self._clock.advance(max(0, late[0] - self._clock.now_us()) / SECOND_US)
            self._late.remove(late)
            late[1].handle(late[2])

    def _page_again(self, request, found):
        """Now and then a page of traces is the one before it once more."""
        if found.ending is not Ending.SENT or found.response.status != 200:
            return found
        page = int(dict(request.query).get("page", "1"))
        question = tuple(pair for pair in request.query if pair[0] != "page")
        before = self._last_page.get((question, page - 1))
        self._last_page[question, page] = found
        if before is None or self._chance.random() >= self.repeated_pages:
            return found
        self._events.count("fault", "page repeated")
        return before


def rates_of(chance, share):
    """Some faults, together as often as `share`."""
    kinds = chance.sample(list(Fault), chance.randint(1, 4))
    return {kind: share / len(kinds) for kind in kinds}
