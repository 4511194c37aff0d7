"""The script that users come from, as an algorithm: one GET for each trace, one meter event for each trace, and pauses.

It lists traces in pages of 100 and waits a second after each. Then, for every 100: it lists the meters, gets each trace
to read its cost, posts a meter event for it, and waits two seconds. One thread, one connection kept open, no ledger, no
marks, nothing retried: the least that such a script does. Imports no tallymark.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import urllib3

from .bare import FAR_FUTURE, langfuse_pool, start_of_range
from .child import Counts

PAGE_ROWS = 100
PAGE_PAUSE_SECONDS = 1.0
BATCH_PAUSE_SECONDS = 2.0
CREDIT_USD = 0.00004
COMPUTE_USD_PER_SECOND = 0.05 / 60


def bill() -> Callable[[], Counts]:
    """Bill the first BENCH_CLASSIC_TRACES traces, without pauses."""
    return _billing(0.0, 0.0)


def bill_with_pauses() -> Callable[[], Counts]:
    """The same, with the pauses."""
    return _billing(PAGE_PAUSE_SECONDS, BATCH_PAUSE_SECONDS)


def _billing(page_pause: float, batch_pause: float) -> Callable[[], Counts]:
    langfuse, stripe = langfuse_pool(), urllib3.PoolManager(maxsize=1, retries=False)
    wanted = int(os.environ["BENCH_CLASSIC_TRACES"])
    return lambda: _bill(langfuse, stripe, wanted, page_pause, batch_pause)


def _bill(
    langfuse: urllib3.PoolManager, stripe: urllib3.PoolManager, wanted: int, page_pause: float, batch_pause: float
) -> Counts:
    counts = {"traces": 0, "requests": 0, "meter_events": 0}
    listed = []
    for page in _pages(langfuse, wanted):
        listed += page
        counts["requests"] += 1
        time.sleep(page_pause)
    for at in range(0, len(listed), PAGE_ROWS):
        batch = listed[at : at + PAGE_ROWS]
        _get(stripe, f"{os.environ['STRIPE_API_BASE']}/v1/billing/meters?limit=100", _stripe_headers())
        sent = sum(_bill_one(langfuse, stripe, trace["id"]) for trace in batch)
        counts["traces"] += len(batch)
        counts["meter_events"] += sent
        counts["requests"] += 1 + len(batch) + sent
        time.sleep(batch_pause)
    return counts


def _pages(langfuse: urllib3.PoolManager, wanted: int) -> Iterator[list[dict[str, Any]]]:
    query = {"fromTimestamp": start_of_range(), "toTimestamp": FAR_FUTURE, "orderBy": "timestamp.asc", "limit": "100"}
    for number in range(1, math.ceil(wanted / PAGE_ROWS) + 1):
        yield _get(langfuse, _langfuse_url(f"traces?{urlencode({**query, 'page': str(number)})}"))["data"]


def _bill_one(langfuse: urllib3.PoolManager, stripe: urllib3.PoolManager, trace_id: str) -> bool:
    """Get a trace, compute its credits in floats, and post them; False for what names no customer or costs nothing."""
    trace = _get(langfuse, _langfuse_url(f"traces/{trace_id}"))
    usd = trace["totalCost"] + trace["latency"] * COMPUTE_USD_PER_SECOND
    customer = (trace["metadata"] or {}).get("customerId")
    if customer is None or usd <= 0 or "billing:processed" in trace["tags"]:
        return False
    body = {
        "event_name": "credits",
        "identifier": f"classic-{os.getpid()}-{trace_id}",
        "payload[stripe_customer_id]": customer,
        "payload[value]": str(math.ceil(usd / CREDIT_USD)),
    }
    url = f"{os.environ['STRIPE_API_BASE']}/v1/billing/meter_events"
    form = {**_stripe_headers(), "content-type": "application/x-www-form-urlencoded"}
    return stripe.request("POST", url, body=urlencode(body), headers=form).status == 200


def _langfuse_url(path: str) -> str:
    return f"{os.environ['LANGFUSE_BASE_URL']}/api/public/{path}"


def _stripe_headers() -> dict[str, str]:
    return {"authorization": f"Bearer {os.environ['BILLING_STRIPE_SECRET_KEY']}"}


def _get(pool: urllib3.PoolManager, url: str, headers: dict[str, str] | None = None) -> Any:
    return json.loads(pool.request("GET", url, headers=headers).data)
