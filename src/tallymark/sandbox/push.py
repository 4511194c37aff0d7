"""Webhooks of a sandbox that runs as a process: POSTed to one URL as soon as they are due."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from ..errors import ConfigError
from .stripe import SandboxStripe

_EVERY_SECONDS = 0.5
_TIMEOUT_SECONDS = 5.0
UNREACHABLE = 0
"""The status of a delivery that nobody answered."""


@contextmanager
def pushing(stripe: SandboxStripe, url: str, secret: str) -> Iterator[None]:
    """While the block runs, POST each notification to the URL until it is answered with 2xx.

    Raises ConfigError for what is no URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"sandbox webhook_url: {url!r} is no http URL")
    stopped = threading.Event()
    thread = threading.Thread(target=_push_until, args=(stopped, stripe, url, secret), name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_TIMEOUT_SECONDS)


def _push_until(stopped: threading.Event, stripe: SandboxStripe, url: str, secret: str) -> None:
    while not stopped.wait(_EVERY_SECONDS):
        stripe.push(lambda body, signature: post(url, body, signature), secret)


def post(url: str, body: bytes, signature: str) -> int:
    """POST one webhook; the status of the answer, or UNREACHABLE. No proxy, whatever the environment says."""
    headers = {"content-type": "application/json", "stripe-signature": signature}
    try:
        with build_opener(ProxyHandler({})).open(Request(url, body, headers), timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as refused:
        with refused:
            return refused.code
    except (OSError, HTTPException):
        return UNREACHABLE
