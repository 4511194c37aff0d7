"""Services for tests: a sandbox with something happening between its answers, and pages made by hand."""

import json
from collections.abc import Callable

from tallymark.sandbox.wire import Request, Response

TRACES = "/api/public/traces"
JSON = {"content-type": "application/json"}


class Meddled:
    """A sandbox; `after[n]()` happens after its n-th (from 1) answer to a page of traces of the main reading."""

    def __init__(self, service, after: dict[int, Callable[[], None]]):
        self.service, self.after, self.pages = service, after, 0

    def handle(self, request: Request) -> Response:
        response = self.service.handle(request)
        if request.path == TRACES and dict(request.query)["fields"] != "core":
            self.pages += 1
            self.after.get(self.pages, lambda: None)()
        return response


class Counting:
    """A sandbox that keeps every request with its body."""

    def __init__(self, service):
        self.service, self.seen = service, []

    def handle(self, request: Request) -> Response:
        self.seen.append(request)
        return self.service.handle(request)


class Pages:
    """A Langfuse whose only page of traces is made by hand: `rows` as JSON text or as values."""

    def __init__(self, rows, *, meta=None):
        shown = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        total = len(shown) if meta is None else meta
        self.full = f'{{"data":[{",".join(shown)}],"meta":{{"totalItems":{total},"page":1}},"more":[1]}}'.encode()
        self.empty = f'{{"data":[],"meta":{{"totalItems":{total}}}}}'.encode()

    def handle(self, request: Request) -> Response:
        if request.path.endswith("/health"):
            return Response(200, b'{"status":"OK","version":"3.225.4"}', JSON)
        query = dict(request.query)
        return Response(200, self.full if query.get("page", "1") == "1" and "filter" not in query else self.empty, JSON)


class Answers:
    """Answers everything the same."""

    def __init__(self, status, body=b"", headers=None):
        self.response, self.seen = Response(status, body, headers or JSON), 0

    def handle(self, request: Request) -> Response:
        self.seen += 1
        return self.response


def row(trace_id="t1", **changes):
    """A row of the trace list, as the server gives it."""
    return {
        "id": trace_id,
        "projectId": "proj-sandbox",
        "timestamp": "2026-11-23T11:00:00.000Z",
        "name": "chat",
        "userId": "user-1",
        "tags": ["billing:pending"],
        "metadata": {"customerId": "cus_1"},
        "public": False,
        "bookmarked": False,
        "environment": "default",
        "totalCost": 0.01,
        "latency": 12,
        **changes,
    }
