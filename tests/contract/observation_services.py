"""For tests of the observations generation: sandboxes of it, spans sent late, and pages made by hand."""

import base64
import json

from builders import CREDIT_MICROS, NOW_US, PROJECT
from tallymark.core.clock import HOUR_US, format_time
from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from tallymark.sandbox.wire import Request, Response

OBSERVATIONS = "/api/public/v2/observations"
EMPTY = b'{"data":[],"meta":{}}'
JSON = {"content-type": "application/json"}
_KEYS = f"{DEFAULT_PROJECT.public_key}:{DEFAULT_PROJECT.secret_key}"
HEADERS = {**JSON, "authorization": "Basic " + base64.b64encode(_KEYS.encode()).decode()}


def post(langfuse, path, body):
    """Send JSON as some other client of the project does; the path is below /api/public."""
    return langfuse.handle(Request("POST", f"/api/public/{path}", (), HEADERS, json.dumps(body).encode()))


def send_span(
    langfuse, trace_id, span_id, *, at_us=NOW_US - HOUR_US, parent="an-earlier-span", seconds=0, **attributes
):
    """Report one span by OTLP JSON, as an application would; "__" in an attribute's name stands for a dot."""
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": "llm",
        "startTimeUnixNano": str(at_us * 1000),
        "endTimeUnixNano": str((at_us + round(seconds * 1_000_000)) * 1000),
        "attributes": [
            {"key": name.replace("__", "."), "value": {"boolValue" if value is True else "stringValue": value}}
            for name, value in attributes.items()
        ],
    }
    assert post(langfuse, "otel/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).status == 200


def send_cost(langfuse, trace_id, span_id, cost_usd, **changes):
    """Report one late generation that cost so much."""
    details = json.dumps({"total": cost_usd})
    send_span(langfuse, trace_id, span_id, langfuse__observation__cost_details=details, **changes)


def observation(span_id="o1", trace_id="t1", **changes):
    """A row of GET /v2/observations: a root of 0.01 USD and 12 seconds, 500 credits at the default prices."""
    return {
        "id": span_id,
        "traceId": trace_id,
        "projectId": PROJECT,
        "startTime": "2026-11-23T11:00:00.000Z",
        "endTime": "2026-11-23T11:00:12.000Z",
        "parentObservationId": None,
        "traceName": "chat",
        "environment": "default",
        "version": "",
        "release": "",
        "userId": "",
        "sessionId": "",
        "bookmarked": False,
        "public": False,
        "updatedAt": "2026-11-23T11:00:13.000Z",
        "model": "house-model",
        "usageDetails": {"input": 100, "output": 20, "total": 120},
        "costDetails": {"total": 0.01},
        "tags": ["billing:pending"],
        "metadata": {"customerId": "cus_1"},
        **changes,
    }


def started(minutes_ago, seconds=12):
    """Start and end of an observation that ran so long, so many minutes ago."""
    start_us = NOW_US - minutes_ago * 60_000_000
    return {"startTime": format_time(start_us), "endTime": format_time(start_us + seconds * 1_000_000)}


def results_of(summary):
    """Traces by result, without those that are none."""
    counted = {"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held}
    return {result: traces for result, traces in counted.items() if traces}


def cost(usd):
    """An observation of that cost."""
    return {"costDetails": {"total": usd}}


def credits(number):
    """What the balance is after so many credits for cus_1."""
    return {"cus_1": number * CREDIT_MICROS}


class ObservationPages:
    """An events_only server with pages of observations made by hand, in the window of an hour before now.

    A row is a value or JSON text. `cursors[n]` stands at the end of the n-th page; the default leads through them all.
    """

    def __init__(self, *pages, cursors=None):
        self.pages = [[one if isinstance(one, str) else json.dumps(one) for one in page] for page in pages]
        self.cursors = cursors or [str(number + 1) for number in range(len(pages) - 1)] + [None]

    def handle(self, request: Request) -> Response:
        query = dict(request.query)
        if request.path.endswith("/health"):
            return Response(200, b'{"status":"OK","version":"4.16.0"}', JSON)
        if request.path.endswith("/scores"):
            return Response(200, EMPTY, JSON)
        if request.path != OBSERVATIONS:
            return gone()
        return self._page(query) if _covers_an_hour_ago(query) else Response(200, EMPTY, JSON)

    def _page(self, query) -> Response:
        number = self.cursors.index(query["cursor"]) + 1 if "cursor" in query else 0
        cursor = self.cursors[number]
        meta = json.dumps({"cursor": cursor} if cursor else {})
        return Response(200, f'{{"data":[{",".join(self.pages[number])}],"meta":{meta}}}'.encode(), JSON)


def _covers_an_hour_ago(query) -> bool:
    """Whether that hour is asked for, by its time or by the ids of traces; a probe asks for neither."""
    hour = format_time(NOW_US - HOUR_US)
    return "filter" in query or query.get("fromStartTime", "9") <= hour < query.get("toStartTime", "")


def gone() -> Response:
    """What events_only says on the legacy routes (facts/langfuse.md section 0.2)."""
    message = "This endpoint is not available on deployments running in Langfuse v4 events_only mode."
    return Response(404, json.dumps({"message": message}).encode(), JSON)
