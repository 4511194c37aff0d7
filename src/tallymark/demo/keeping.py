"""What stays at the end of a story: the sandbox, and the service with its dashboard on the story's ledger."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from .stage import Stage

HOST = "127.0.0.1"
INSTALL = "pip install 'tallymark[web]'"


class Dashboard(msgspec.Struct, frozen=True):
    """Where the dashboard of a demo is, and the operators' token with which one signs in there."""

    url: str
    token: str


class Announce(Protocol):
    """Tells where the dashboard is; None if the packages that it needs are not installed."""

    def __call__(self, *, dashboard: Dashboard | None) -> None: ...


def keep_open(stage: Stage, announce: Announce) -> None:
    """Keep the sandbox running, and serve the ledger of the story beside it, until Ctrl-C or SIGTERM."""
    try:
        from ..web.run import serve
    except ImportError:
        _wait_for_signal(lambda: announce(dashboard=None))
        return
    token = stage.config.api_token or ""
    serve(stage.config, HOST, 0, lambda url: announce(dashboard=Dashboard(url, token)), stage.clock.live())


def _wait_for_signal(say: Callable[[], None]) -> None:
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        # Set by name: a shell lets what it starts in the background ignore Ctrl-C.
        signal.signal(each, lambda *_: stop.set())
    say()
    stop.wait()
