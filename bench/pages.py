"""How long the service takes for each kind of page and each reading answer, with many traces in the ledger.

Pages are found by following links from the first one, one of each kind; answers by the API's own document. Time is the
server's alone: asked in one process, without a socket.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from litestar.testing import TestClient

from tallymark import config
from tallymark.clock import SystemClock
from tallymark.web.app import make_app

from .figures import Figure

TRACES = 100_000
RUNS = 9
MILLISECONDS_MAX = 200
TOKENS = {"BILLING_API_TOKEN": "a-token-of-the-bench", "BILLING_API_REQUESTS_PER_MINUTE": "100000000"}
LINK = re.compile(r'<a [^>]*href="(/[^"]*)"[^>]*>')
Ask = Callable[[str], Any]


def measure(settings: dict[str, str], traces: int) -> Iterator[Figure]:
    """Ask everything that there is to read of a ledger in which so many traces are."""
    app = make_app(config.load(None, {**settings, **TOKENS}), SystemClock())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield from _figures("Pages", traces, _pages(_signed_in(client)))
        client.headers["Authorization"] = f"Bearer {TOKENS['BILLING_API_TOKEN']}"
        yield from _figures("API", traces, _answers(client.get, app.openapi_schema.to_schema()))


def _signed_in(client: TestClient[Any]) -> Ask:
    client.get("/login")
    form = {"token": TOKENS["BILLING_API_TOKEN"], "name": "bench", "_csrf_token": client.cookies["tallymark_csrf"]}
    client.post("/login", data=form)
    return client.get


def _figures(what: str, traces: int, found: Iterator[tuple[str, Ask]]) -> Iterator[Figure]:
    group = f"{what} with {traces:,} traces in the ledger (server time, median of {RUNS})"
    for path, ask in found:
        yield Figure(group, path, 1000 * median(_seconds(ask, path) for _ in range(RUNS)), "ms", MILLISECONDS_MAX)


def _seconds(ask: Ask, path: str) -> float:
    began = time.perf_counter()
    answer = ask(path)
    taken = time.perf_counter() - began
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answers {answer.status_code}")
    return taken


def _pages(ask: Ask) -> Iterator[tuple[str, Ask]]:
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop(0)
        kind = tuple(path.partition("?")[0].strip("/").split("/")[:1]), path.count("/")
        if kind not in seen:
            seen.add(kind)
            yield path, ask
            waiting += [
                html.unescape(found[1]) for found in LINK.finditer(ask(path).text) if "download" not in found[0]
            ]


def _answers(ask: Ask, document: dict[str, Any]) -> Iterator[tuple[str, Ask]]:
    reading = [path for path, methods in document["paths"].items() if "get" in methods]
    for path in reading:
        if "{" not in path:
            yield path, ask
    for path in reading:
        if "{" in path and (filled := _filled(path, ask)):
            yield filled, ask


def _filled(path: str, ask: Ask) -> str | None:
    """A path with the id of the first of the list that it belongs to; None if the list is empty."""
    parent, _, rest = path.partition("/{")
    name, _, more = rest.partition("}")
    items = ask(parent).json().get("items", [])
    return f"{parent}/{next(v for k, v in items[0].items() if k in name or name in k)}{more}" if items else None
