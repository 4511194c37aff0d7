"""A Langfuse whose answers are computed from the number of a trace, and held nowhere: histories of millions of traces.

`Index` makes pages of both generations in memory; `start` serves one, with the sandbox's Stripe beside it, in a process
of its own. It knows what a sync asks and no more: its lists, its filters as tallymark writes them, its writes, which it
takes and forgets. The sandbox, which behaves as the real server does, is what everything else is measured against.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import msgspec

from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, MINUTE_US, format_time, parse_time
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, Generation
from tallymark.sandbox.process import METER_EVENT_NAME, STRIPE_SECRET_KEY, Ready, SandboxProcess, say_as_json
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request, Response

MILLISECOND_US = 1000
# As long as those of the sandbox's story are on average.
_INPUT, _OUTPUT = b'"' + b"a prompt " * 900 + b'"', b'"' + b"an answer " * 180 + b'"'
_CALL_MS = 1_200
_SPAN_US_MAX = 30 * DAY_US
_STEP_MS_MAX = 30_000
# Settled when they are read, and within the two hours that a sync reads again.
_LATEST_AGE_US, _NEWCOMERS_US = 20 * MINUTE_US, 80 * MINUTE_US
_VERSIONS: Mapping[Generation, str] = {"legacy": "3.225.4", "events_only": "4.16.0"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How many traces, of how many customers, with how many observations each, and how the server offers them."""

    traces: int
    customers: int = 24
    observations_per_trace: int = 1
    generation: Generation = "legacy"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Traces numbered from `first`, one every `step_ms` from `start_ms` (since 1970) on."""

    first: int
    traces: int
    start_ms: int
    step_ms: int

    def before(self, moment_ms: int, parts: int) -> int:
        """How many observations, of `parts` for each trace at even distances, start before a moment."""
        whole, rest_ms = divmod(max(0, moment_ms - self.start_ms), self.step_ms)
        return min(whole * parts + min(parts, -(-rest_ms // self.gap_ms(parts))), self.traces * parts)

    def gap_ms(self, parts: int) -> int:
        """From one observation of a trace to the next."""
        return self.step_ms // parts

    def numbers(self, from_ms: int, to_ms: int, parts: int) -> range:
        """Numbers of the observations that start in a window: `parts` for each trace; 1 numbers the traces."""
        first = self.first * parts
        return range(first + self.before(from_ms, parts), first + self.before(to_ms, parts))


@dataclass(slots=True)
class Index:
    """All traces of a server, by their numbers."""

    options: Options
    now_us: int
    stretches: list[Stretch] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay the history out so that it ends before the newcomers begin."""
        step_ms = self._step_ms(_SPAN_US_MAX, self.options.traces)
        end_ms = (self.now_us - _LATEST_AGE_US - _NEWCOMERS_US) // MILLISECOND_US
        traces = self.options.traces
        self.stretches.append(Stretch(0, traces, end_ms - traces * step_ms, step_ms))

    def add(self, traces: int) -> None:
        """Let traces arrive that are younger than all others, and settled."""
        last = self.stretches[-1]
        step_ms = self._step_ms(_NEWCOMERS_US, traces)
        start_ms = (self.now_us - _LATEST_AGE_US - _NEWCOMERS_US) // MILLISECOND_US
        self.stretches.append(Stretch(last.first + last.traces, traces, start_ms, step_ms))

    def _step_ms(self, span_us: int, traces: int) -> int:
        return max(min(_STEP_MS_MAX, span_us // MILLISECOND_US // max(traces, 1)), self.options.observations_per_trace)

    # --- the trace list

    def trace_page(self, from_us: int, to_us: int, page: int, limit: int) -> bytes:
        """A page of GET /traces, oldest first. `page` counts from 1."""
        found = [stretch.numbers(from_us // MILLISECOND_US, to_us // MILLISECOND_US, 1) for stretch in self.stretches]
        total = sum(map(len, found))
        wanted = islice(chain(*found), (page - 1) * limit, page * limit)
        return _page(map(self._trace, wanted), b'{"totalItems":%d}' % total)

    def traces_by_id(self, trace_ids: Sequence[str]) -> bytes:
        """The answer of GET /traces filtered by id."""
        return _page(map(self._trace, map(_number_of, trace_ids)), b'{"totalItems":%d}' % len(trace_ids))

    def _trace(self, number: int) -> bytes:
        parts = self.options.observations_per_trace
        cost_micro_usd = sum(_cost_micro_usd(number * parts + part) for part in range(parts))
        duration_ms = (parts - 1) * self._stretch(number).gap_ms(parts) + _CALL_MS
        head = (
            f'{{"id":"{_trace_id(number)}","projectId":"{DEFAULT_PROJECT.project_id}","name":"chat",'
            f'"timestamp":"{format_time(self._start_us(number, 0))}","environment":"default",'
            f'"tags":["billing:pending"],"bookmarked":false,"release":null,"version":null,"userId":"user-7","sessionId":null,"public":false,'
            f'"metadata":{{"customerId":"{self._customer(number)}"}},"observations":[],"scores":[],'
            f'"totalCost":{_usd(cost_micro_usd)},"latency":{duration_ms // 1000}.{duration_ms % 1000:03d},"input":'
        )
        return head.encode() + _INPUT + b',"output":' + _OUTPUT + b"}"

    # --- observations

    def observation_page(self, from_us: int, to_us: int, offset: int, limit: int) -> bytes:
        """A page of GET /v2/observations, newest first; the cursor is how many rows stand before the page."""
        parts = self.options.observations_per_trace
        window = from_us // MILLISECOND_US, to_us // MILLISECOND_US
        found = [stretch.numbers(*window, parts)[::-1] for stretch in reversed(self.stretches)]
        wanted = islice(chain(*found), offset, offset + limit)
        more = offset + limit < sum(map(len, found))
        return _page(map(self._observation, wanted), b'{"cursor":"%d"}' % (offset + limit) if more else b"{}")

    def observations_of(self, trace_ids: Sequence[str]) -> bytes:
        """All observations of some traces, newest first."""
        parts = self.options.observations_per_trace
        numbers = sorted((_number_of(trace_id) for trace_id in trace_ids), reverse=True)
        return _page((self._observation(n * parts + part) for n in numbers for part in reversed(range(parts))), b"{}")

    def _observation(self, number: int) -> bytes:
        trace, part = divmod(number, self.options.observations_per_trace)
        start_us = self._start_us(trace, part)
        root_id = f"observation-{trace:08d}-0"
        return (
            f'{{"id":"observation-{trace:08d}-{part}","traceId":"{_trace_id(trace)}",'
            f'"startTime":"{format_time(start_us)}","endTime":"{format_time(start_us + _CALL_MS * MILLISECOND_US)}",'
            f'"projectId":"{DEFAULT_PROJECT.project_id}",'
            f'"parentObservationId":{"null" if part == 0 else _quoted(root_id)},"type":"GENERATION","name":"llm",'
            f'"level":"DEFAULT","statusMessage":"","version":"","environment":"default",'
            f'"userId":"user-7","sessionId":"",'
            f'"isRootObservation":{"true" if part == 0 else "false"},"bookmarked":false,"public":false,'
            f'"completionStartTime":null,"createdAt":"{format_time(start_us)}","updatedAt":"{format_time(start_us)}",'
            f'"metadata":{{"customerId":"{self._customer(trace)}"}},"model":"house-model","modelId":null,'
            f'"usageDetails":{{"input":300,"output":120,"total":420}},'
            f'"costDetails":{{"total":{_usd(_cost_micro_usd(number))}}},'
            f'"traceName":"chat","release":"","tags":["billing:pending"]}}'
        ).encode()

    def _start_us(self, trace: int, part: int) -> int:
        stretch = self._stretch(trace)
        gap_ms = stretch.gap_ms(self.options.observations_per_trace)
        return (stretch.start_ms + (trace - stretch.first) * stretch.step_ms + part * gap_ms) * MILLISECOND_US

    def _stretch(self, trace: int) -> Stretch:
        return next(stretch for stretch in reversed(self.stretches) if trace >= stretch.first)

    def _customer(self, trace: int) -> str:
        return f"cus_{trace % self.options.customers:05d}"


def _page(rows: Iterator[bytes], meta: bytes) -> bytes:
    return b'{"data":[' + b",".join(rows) + b'],"meta":' + meta + b"}"


def _trace_id(number: int) -> str:
    return f"trace-{number:08d}"


def _number_of(trace_id: str) -> int:
    return int(trace_id.removeprefix("trace-"))


def _cost_micro_usd(observation: int) -> int:
    return 100 + observation * 7919 % 59_900


def _usd(micro_usd: int) -> str:
    return f"{micro_usd // 1_000_000}.{micro_usd % 1_000_000:06d}"


def _quoted(text: str) -> str:
    return f'"{text}"'


class GeneratedLangfuse:
    """The service: a function from requests to answers, as the sandbox's services are."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._generation = index.options.generation

    def handle(self, request: Request) -> Response:
        """Answer one request; 404 for what a sync does not ask, and for what this generation does not have."""
        route = f"{request.method} {request.path.removeprefix('/api/public')}"
        body = self._write(route, request.body) if request.method == "POST" else self._read(route, dict(request.query))
        return Response(404 if body is None else 200, body or b"{}", {"content-type": "application/json"})

    def _write(self, route: str, body: bytes) -> bytes | None:
        if route == "POST /bench/arrivals":
            self._index.add(msgspec.json.decode(body))
            return b"{}"
        return b'{"successes":[],"errors":[]}' if route == "POST /ingestion" else None

    def _read(self, route: str, query: Mapping[str, str]) -> bytes | None:
        if route == "GET /health":
            return msgspec.json.encode({"status": "OK", "version": _VERSIONS[self._generation]})
        if route == "GET /v3/scores":
            return _page(iter(()), b"{}")
        if route == "GET /traces" and self._generation == "legacy":
            return self._traces(query)
        return self._observations(query) if route == "GET /v2/observations" else None

    def _traces(self, query: Mapping[str, str]) -> bytes:
        asked = _filters(query)
        if ids := asked.pop("id", None):
            return self._index.traces_by_id([] if asked else ids)
        if asked:
            # No trace carries a score, and none has tokens without a cost.
            return self._index.traces_by_id([])
        window = parse_time(query["fromTimestamp"]), parse_time(query["toTimestamp"])
        return self._index.trace_page(*window, int(query["page"]), int(query["limit"]))

    def _observations(self, query: Mapping[str, str]) -> bytes:
        if ids := _filters(query).get("traceId"):
            return self._index.observations_of(ids)
        window = (
            parse_time(query.get("fromStartTime", "2000-01-01T00:00:00Z")),
            parse_time(query.get("toStartTime", "2100-01-01T00:00:00Z")),
        )
        return self._index.observation_page(*window, int(query.get("cursor", "0")), int(query["limit"]))


def _filters(query: Mapping[str, str]) -> dict[str, list[str]]:
    """The values of each column of the parameter `filter`."""
    return {each["column"]: each["value"] for each in msgspec.json.decode(query.get("filter", "[]"))}


# --- the process


def start(options: Options) -> SandboxProcess:
    """Start such a server, and Stripe, as a child process that ends with this one; a context manager."""
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, msgspec.json.encode(options).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    return SandboxProcess(child, msgspec.json.decode(child.stdout.readline(), type=Ready))


def arrive(server: SandboxProcess, traces: int) -> None:
    """Let traces arrive at a running server."""
    with urlopen(HttpRequest(f"{server.ready.langfuse_url}/bench/arrivals", str(traces).encode())) as answer:
        answer.read()


def main() -> None:
    """The child: serve until the standard input ends."""
    options = msgspec.json.decode(sys.argv[1], type=Options)
    index = Index(options, time.time_ns() // 1_000_000 * MILLISECOND_US)
    stripe = SandboxStripe(clock=SystemClock(), secret_key=STRIPE_SECRET_KEY, any_customer=True)
    stripe.add_meter(METER_EVENT_NAME)
    with serve(GeneratedLangfuse(index)) as langfuse_server, serve(stripe) as stripe_server:
        say_as_json(
            Ready(
                langfuse_url=langfuse_server.url,
                stripe_url=stripe_server.url,
                public_key=DEFAULT_PROJECT.public_key,
                secret_key=DEFAULT_PROJECT.secret_key,
                stripe_secret_key=STRIPE_SECRET_KEY,
                project_id=DEFAULT_PROJECT.project_id,
                now=format_time(index.now_us),
                traces=options.traces,
            )
        )
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
