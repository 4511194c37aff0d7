"""The sandbox as a process of its own: Langfuse and Stripe on loopback, filled, until they are told to stop.

`run` is the process, `start` starts one as a child and waits until it is ready. The two speak through pipes only: the
child says one line of JSON when it is ready, and ends when its parent closes the child's standard input, or dies.
"""

from __future__ import annotations

import argparse
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal
from urllib.request import ProxyHandler, build_opener

import msgspec

from ..clock import SystemClock
from ..core.clock import format_time, parse_time
from ..errors import ConfigError, TallymarkError
from .clock import OffsetClock
from .controls import Controlled, FaultPlan
from .faults import Faults
from .http import Server, serve
from .langfuse import DEFAULT_PROJECT, Generation, SandboxLangfuse, ScoresApi
from .push import pushing
from .story import tell
from .stripe import SandboxStripe
from .wire import Service
from .workload import read_workload

METER_EVENT_NAME = "credits"
STRIPE_SECRET_KEY = "sk_test_sandbox"  # noqa: S105 - the sandbox's own key opens nothing else
WEBHOOK_SECRET = "whsec_sandbox"  # noqa: S105 - the same
# The sandbox has no limit unless it is given one; the pace of a real account would only make tests wait.
_STRIPE_REQUESTS_PER_SECOND = "1000"
_STOP_SECONDS_MAX = 10.0

ServiceName = Literal["langfuse", "stripe"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the sandbox is filled and how it behaves.

    - `port_langfuse`, `port_stripe`: 0 for a free port.
    - `story`: how many traces of `story.tell`, and `observations_per_trace` as it takes it; `workload`: CSV files for
      `workload.read_workload`.
    - `seed`: of story, workload and faults alike.
    - `generation`: of Langfuse, "legacy", "dual" or "events_only"; `scores_api`: what its POST /scores takes, one
      "object" or a "list"; `unmerged_seconds`: how long a row that was written again stands there twice.
    - `visibility_seconds`: a write to Langfuse is seen only after this time.
    - `rate_limit_per_minute`: of Langfuse's legacy reads; `stripe_rate_limit_per_second`: of Stripe. None for no limit.
    - `latency_seconds`: how much longer each request to Langfuse takes.
    - `stripe_processing_seconds`: how long Stripe takes for one meter event; `summary_lag_seconds`: until summaries
      show it; `customers_must_exist`: refuse a meter event for a customer who was not created.
    - `meter_window`: "hour" or "day" makes the meter a pre-aggregated one, of that event_time_window.
    - `stripe_validation_seconds`: until Stripe judges a meter event that it answered with 200; `error_samples_max`: how
      many of each error code a report names.
    - `webhook_url`: where Stripe POSTs the notifications of its reports, signed with WEBHOOK_SECRET; empty for nowhere.
    - `faults`: probability of each `faults.Fault` by its value, such as {"error_after": 0.02}; on both services.
    - `hang_seconds`: how long a hanging request hangs.
    - `stripe_faults`: a plan for Stripe alone, instead of `faults`.
    - `until_stdin_closes`: also stop when the standard input ends.
    """

    port_langfuse: int = 0
    port_stripe: int = 0
    story: int = 0
    observations_per_trace: int | None = None
    workload: tuple[str, ...] = ()
    seed: int = 7
    generation: Generation = "legacy"
    scores_api: ScoresApi = "object"
    unmerged_seconds: float = 0.0
    visibility_seconds: float = 0.0
    rate_limit_per_minute: int | None = None
    stripe_rate_limit_per_second: int | None = None
    latency_seconds: float = 0.0
    stripe_processing_seconds: float = 0.0
    summary_lag_seconds: float = 0.0
    meter_window: Literal["hour", "day"] | None = None
    stripe_validation_seconds: float = 5.0
    error_samples_max: int = 5
    webhook_url: str = ""
    customers_must_exist: bool = False
    faults: dict[str, float] = {}
    hang_seconds: float = 30.0
    stripe_faults: FaultPlan | None = None
    until_stdin_closes: bool = False


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox says when it is ready. `now` (ISO-8601, whole milliseconds) is the moment its traces lean on.

    `meter_window` is that of its options.
    """

    langfuse_url: str
    stripe_url: str
    public_key: str
    secret_key: str
    stripe_secret_key: str
    project_id: str
    now: str
    traces: int
    meter_window: str | None = None

    @property
    def now_us(self) -> int:
        """`now` in microseconds since 1970, as `story.expect(story.tell(…))` needs it."""
        return parse_time(self.now)


# ---- the process


def say_as_json(ready: Ready) -> None:
    """Print one line of JSON: how a parent process learns that the sandbox is ready."""
    print(msgspec.json.encode(ready).decode(), flush=True)  # noqa: T201 - the line is the interface


def run(options: Options, announce: Callable[[Ready], None] = say_as_json) -> None:
    """Run both services until SIGTERM, SIGINT or, if so asked, the end of the standard input; then return.

    Calls `announce` when both answer. Call it from the main thread: it handles signals.
    Raises ConfigError for a wrong fault or workload file, and OSError if a port is taken.
    """
    with _ended_by_signals(), ExitStack() as servers:
        announce(_open(options, servers))
        _wait(options)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the block by an exception, which leaves any wait; an event set in a handler may not."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open(options: Options, servers: ExitStack) -> Ready:
    clock = OffsetClock(SystemClock())
    now_us = clock.now_us() // 1000 * 1000
    langfuse, stripe = _langfuse(options, clock), _stripe(options, clock)
    traces = _fill(langfuse, options, now_us)
    plan = FaultPlan(rates=options.faults, hang_seconds=options.hang_seconds)
    langfuse_server = servers.enter_context(
        _serve(langfuse, options.port_langfuse, clock, options.seed, plan, options.latency_seconds)
    )
    stripe_server = servers.enter_context(
        _serve(stripe, options.port_stripe, clock, options.seed + 1, options.stripe_faults or plan)
    )
    if options.webhook_url:
        servers.enter_context(pushing(stripe, options.webhook_url, WEBHOOK_SECRET))
    return Ready(
        langfuse_url=langfuse_server.url,
        stripe_url=stripe_server.url,
        public_key=DEFAULT_PROJECT.public_key,
        secret_key=DEFAULT_PROJECT.secret_key,
        stripe_secret_key=STRIPE_SECRET_KEY,
        project_id=DEFAULT_PROJECT.project_id,
        now=format_time(now_us),
        traces=traces,
        meter_window=options.meter_window,
    )


def _langfuse(options: Options, clock: OffsetClock) -> SandboxLangfuse:
    return SandboxLangfuse(
        clock=clock,
        generation=options.generation,
        scores_api=options.scores_api,
        unmerged_seconds=options.unmerged_seconds,
        visibility_seconds=options.visibility_seconds,
        rate_limit_per_minute=options.rate_limit_per_minute,
    )


def _stripe(options: Options, clock: OffsetClock) -> SandboxStripe:
    stripe = SandboxStripe(
        clock=clock,
        secret_key=STRIPE_SECRET_KEY,
        rate_limit_per_second=options.stripe_rate_limit_per_second,
        processing_seconds=options.stripe_processing_seconds,
        validation_seconds=options.stripe_validation_seconds,
        error_samples_max=options.error_samples_max,
        summary_lag_seconds=options.summary_lag_seconds,
        any_customer=not options.customers_must_exist,
        unknown_customer="sync" if options.customers_must_exist else "async",
    )
    stripe.add_meter(METER_EVENT_NAME, window=options.meter_window)
    return stripe


def _serve(
    service: Service, port: int, clock: OffsetClock, seed: int, plan: FaultPlan, latency_seconds: float = 0.0
) -> Server:
    faults = Faults(seed, {})
    try:
        controlled = Controlled(service, clock, faults, plan, latency_seconds)
    except ValueError as problem:
        raise ConfigError(f"sandbox faults: {problem}") from None
    return serve(controlled, port=port, faults=faults)


def _fill(langfuse: SandboxLangfuse, options: Options, now_us: int) -> int:
    """Write the story and the workloads; how many traces that are."""
    project_id, traces = DEFAULT_PROJECT.project_id, 0
    # What is filled in stays: looking through it for garbage again and again takes longer than the filling itself.
    gc.disable()
    for trace, observations in _content(options, now_us):
        langfuse.put_trace(project_id, trace, observations)
        traces += 1
    gc.freeze()
    gc.enable()
    return traces


def _content(options: Options, now_us: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    for told in tell(options.story, now_us, options.seed, options.observations_per_trace):
        yield {**told.trace, "bookmarked": told.bookmarked}, told.observations
    for path in options.workload:
        yield from read_workload(Path(path), now_us=now_us, seed=options.seed)


def _wait(options: Options) -> None:
    if options.until_stdin_closes:
        while sys.stdin.buffer.read(65_536):
            pass
    else:
        threading.Event().wait()


# ---- the child


class SandboxProcess:
    """A sandbox in a child process; a context manager that stops it. `ready` is what it said of itself."""

    def __init__(self, child: subprocess.Popen[bytes], ready: Ready) -> None:
        self.ready = ready
        self.pid = child.pid
        self._child = child
        # No proxy: the sandbox is on loopback, whatever the environment says.
        self._opener = build_opener(ProxyHandler({}))

    @property
    def urls(self) -> Mapping[ServiceName, str]:
        """The base URL of each service."""
        return {"langfuse": self.ready.langfuse_url, "stripe": self.ready.stripe_url}

    def environment(self) -> dict[str, str]:
        """The environment variables that make tallymark use this sandbox; where its ledger is, is not among them."""
        return environment_of(self.ready)

    def get(self, path: str, service: ServiceName = "stripe") -> Any:
        """GET a route of the sandbox's own (`/sandbox/…`: no key, not counted, spared by faults) and decode its JSON.

        Raises urllib.error.HTTPError for a route that does not exist.
        """
        return self._ask(service, path)

    def set_generation(self, generation: Generation, version: str | None = None) -> None:
        """Make Langfuse a server of another generation, with the same data; see `SandboxLangfuse.set_generation`."""
        self._ask("langfuse", "/sandbox/generation", {"generation": generation, "version": version})

    def advance(self, seconds: float) -> None:
        """Move the clock of both services on, without waiting. Raises urllib.error.HTTPError for a negative number."""
        self._ask("stripe", "/sandbox/clock", {"advance_seconds": seconds})

    def set_faults(self, plan: FaultPlan | None = None, service: ServiceName = "stripe") -> None:
        """Let the requests to a service meet faults by a plan, or none, from now on.

        Raises urllib.error.HTTPError for a plan that is wrong.
        """
        self._ask(service, "/sandbox/faults", plan or FaultPlan())

    def reject_next(self, count: int = 1, code: str = "meter_event_invalid_value", message: str | None = None) -> None:
        """Let Stripe reject the next meter events after answering 200; see `SandboxStripe.reject_next`."""
        self._ask("stripe", "/sandbox/rejections", {"count": count, "code": code, "message": message})

    def add_subscription(self, customer: str, *, started_at_us: int, **options: Any) -> str:
        """Plant a subscription to the meter of the sandbox; its id. See `SandboxStripe.add_subscription`."""
        wanted = {"customer": customer, "event_name": METER_EVENT_NAME, "started_at_us": started_at_us, **options}
        made: str = self._ask("stripe", "/sandbox/subscriptions", wanted)["id"]
        return made

    def _ask(self, service: ServiceName, path: str, body: Any = None) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        with self._opener.open(self.urls[service] + path, content, timeout=60) as response:
            return msgspec.json.decode(response.read())

    def tally(self) -> dict[str, int]:
        """What Stripe counted, in credits by customer: the judge of everything that was sent."""
        return {row["customer"]: int(row["value"]) for row in self.get("/sandbox/tally")}

    def counts(self, service: ServiceName) -> dict[str, int]:
        """How many requests each route of a service received so far."""
        counts: dict[str, int] = self.get("/sandbox/requests", service)["counts"]
        return counts

    def stop(self) -> None:
        """Close its standard input, at which it ends; end it by force if it does not. May be called twice."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._child.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def environment_of(ready: Ready) -> dict[str, str]:
    """The environment variables that make tallymark use a sandbox."""
    return {
        "LANGFUSE_BASE_URL": ready.langfuse_url,
        "LANGFUSE_PUBLIC_KEY": ready.public_key,
        "LANGFUSE_SECRET_KEY": ready.secret_key,
        "STRIPE_API_BASE": ready.stripe_url,
        "STRIPE_METER_EVENTS_BASE": ready.stripe_url,
        "BILLING_STRIPE_SECRET_KEY": ready.stripe_secret_key,
        "BILLING_STRIPE_REQUESTS_PER_SECOND": _STRIPE_REQUESTS_PER_SECOND,
        **({"BILLING_METER_API": "totals"} if ready.meter_window else {}),
    }


def start(options: Options | None = None) -> SandboxProcess:
    """Start a sandbox as a child process and wait until it is ready. It never outlives this process.

    Raises TallymarkError if it does not start; it has said why on the standard error.
    """
    wanted = msgspec.structs.replace(options or Options(), until_stdin_closes=True)
    child = subprocess.Popen(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __spec__.name, "--json-options", msgspec.json.encode(wanted).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        return SandboxProcess(child, _read_ready(child.stdout))
    except BaseException:
        with child:
            child.kill()
        raise


def _read_ready(said: IO[bytes] | None) -> Ready:
    line = said.readline() if said is not None else b""
    if not line:
        raise TallymarkError("the sandbox did not start; what it said stands above this line.")
    return msgspec.json.decode(line, type=Ready)


def main(arguments: list[str] | None = None) -> int:
    """The child's entry: read the options, run, say in one line what went wrong. The exit status."""
    parser = argparse.ArgumentParser(prog="tallymark.sandbox.process", description=__doc__)
    parser.add_argument("--json-options", default="{}", help="the fields of Options as a JSON object")
    text = parser.parse_args(arguments).json_options
    try:
        run(msgspec.json.decode(text, type=Options))
    except (TallymarkError, msgspec.ValidationError, OSError) as problem:
        sys.stderr.write(f"sandbox: {problem}\n")
        return problem.exit_status if isinstance(problem, TallymarkError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
