"""Serve: the HTTP server in the main thread, a scheduler of jobs and one of alerts beside it; one word stops all."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import uvicorn

from ..clock import SystemClock
from ..config import Config
from ..core.clock import Clock
from ..errors import ConfigError
from ..flows.alerts import alert_jobs
from ..flows.service import Scheduler, jobs_for, run_requested, running
from ..flows.setup import missing_settings
from .app import make_app

log = logging.getLogger("tallymark")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Requests that are being answered when the service is told to stop.
GRACE_SECONDS = 5


def serve(config: Config, host: str, port: int, announce: Callable[[str], None], clock: Clock | None = None) -> None:
    """Run the service until SIGTERM or SIGINT; `announce` is told its address. A second signal ends it at once.

    Without a key it runs no jobs, and says in the log and on its pages what to set. Raises ConfigError for an address
    that cannot be used, or that others may ask without a token, and LedgerError; nothing was begun then.
    """
    require_tokens(config, host)
    stop, clock = threading.Event(), clock or SystemClock()
    requested = partial(run_requested, config)
    billing = Scheduler(config.ledger_url, jobs_for(config), clock, stop, requested=requested)
    alerting = Scheduler(config.ledger_url, alert_jobs(config), clock, stop)
    missing = missing_settings(config)
    schedulers = [] if missing else [billing, alerting]

    def wake() -> None:
        for scheduler in (billing, alerting):
            scheduler.wake()

    with _listening(host, port) as listener:
        for scheduler in schedulers:
            scheduler.plan()
        server = _server(config, clock, wake)
        _stop_on_signals(server, stop, wake)
        announce(_address(listener))
        for each in missing:
            log.warning("nothing is billed until %s is set (%s)", each.name, each.where)
        with running(schedulers, stop):
            server.run([listener])


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _server(config: Config, clock: Clock, wake: Callable[[], None]) -> _Server:
    return _Server(
        uvicorn.Config(
            make_app(config, clock, wake),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _stop_on_signals(server: _Server, stop: threading.Event, wake: Callable[[], None]) -> None:
    """Let the first signal stop both at their next safe point; the second one does what it does to any process."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        stop.set()
        wake()
        server.should_exit = True

    for each in SIGNALS:
        signal.signal(each, handle)


def require_tokens(config: Config, host: str) -> None:
    """Raise ConfigError if others than this machine could ask without a token, or a reader would be an operator."""
    if config.api_token is not None and config.api_token == config.api_read_token:
        raise ConfigError("BILLING_API_READ_TOKEN is the operators' token; set another one, or none.")
    if config.api_token is None and not _is_loopback(host):
        raise ConfigError(
            f"--host {host!r:.60} lets other machines ask; set BILLING_API_TOKEN, which they must then show, or "
            "serve on 127.0.0.1 only."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises ConfigError if it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except (OSError, ValueError) as error:
        # A ValueError says that the text cannot even be a name.
        why = getattr(error, "strerror", None) or "that is no name of a host"
        raise ConfigError(
            f"tallymark cannot listen on {host!r:.60}, port {port} ({why}); choose others by --host and --port."
        ) from error
    with contextlib.closing(listener):
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
