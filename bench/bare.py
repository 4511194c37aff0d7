"""What tallymark is measured against: the same HTTP with nothing done with it. Imports no tallymark."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import urllib3

from .child import Counts

LOOKBACK = timedelta(days=7)
FAR_FUTURE = "2099-12-31T00:00:00.000Z"
THREADS = 8
# The cursor stands at the end of a page, after its rows.
_CURSOR = re.compile(rb'"cursor":"([^"]+)"')
_CURSOR_BYTES_MAX = 500


def download_traces() -> Callable[[], Counts]:
    """Download and discard every page of traces that a first sync reads."""
    pool = langfuse_pool()
    return lambda: _counts_of(_trace_pages(pool))


def download_observations() -> Callable[[], Counts]:
    """Download and discard every page of observations that a first sync reads."""
    pool = langfuse_pool()
    return lambda: _counts_of(_observation_pages(pool))


def langfuse_pool() -> urllib3.PoolManager:
    """Connections to Langfuse with the keys of the environment."""
    keys = f"{os.environ['LANGFUSE_PUBLIC_KEY']}:{os.environ['LANGFUSE_SECRET_KEY']}"
    headers = {**urllib3.make_headers(basic_auth=keys, accept_encoding="gzip"), "accept": "application/json"}
    return urllib3.PoolManager(maxsize=4, retries=False, headers=headers)


def _counts_of(pages: Iterator[bytes]) -> Counts:
    requests, rows = 0, 0
    for body in pages:
        requests += 1
        # Each row says it once. Nothing is decoded, and no row is made.
        rows += body.count(b'"projectId":')
    return {"requests": requests, "rows": rows}


def _trace_pages(pool: urllib3.PoolManager) -> Iterator[bytes]:
    query = {
        "fromTimestamp": start_of_range(),
        "toTimestamp": FAR_FUTURE,
        "fields": "core,io,metrics",
        "orderBy": "timestamp.asc",
        "limit": "100",
    }
    body, page = b"", 0
    while b'"data":[]' not in body[:100]:
        page += 1
        body = _get(pool, "traces", {**query, "page": str(page)})
        yield body


def _observation_pages(pool: urllib3.PoolManager) -> Iterator[bytes]:
    query = {
        "fromStartTime": start_of_range(),
        "toStartTime": FAR_FUTURE,
        "fields": os.environ["BENCH_OBSERVATION_FIELDS"],
        "expandMetadata": os.environ["BENCH_EXPANDED_METADATA"],
        "limit": "1000",
    }
    body = _get(pool, "v2/observations", query)
    yield body
    while cursor := _CURSOR.search(body, len(body) - _CURSOR_BYTES_MAX):
        body = _get(pool, "v2/observations", {**query, "cursor": cursor[1].decode()})
        yield body


def start_of_range() -> str:
    """From when on a first sync reads."""
    return (datetime.now(UTC) - LOOKBACK).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _get(pool: urllib3.PoolManager, path: str, query: Mapping[str, str]) -> bytes:
    return pool.request("GET", f"{os.environ['LANGFUSE_BASE_URL']}/api/public/{path}?{urlencode(query)}").data


def post() -> Callable[[], Counts]:
    """Post the bodies of the meter events in BENCH_LEDGER again, under identifiers of their own.

    Eight threads share the customers, so that no customer has two calls in flight, as tallymark takes care of too.
    """
    lanes = _lanes(os.environ["BENCH_LEDGER"])
    pool = urllib3.PoolManager(maxsize=THREADS, retries=False)
    return lambda: _post_all(pool, lanes)


def _lanes(ledger_path: str) -> list[list[dict[str, str]]]:
    """Bodies by customer."""
    lanes: dict[str, list[dict[str, str]]] = {}
    for row in sqlite3.connect(ledger_path).execute(
        "select meter_event_id, customer_id, meter, timestamp_s, credits, payload from meter_event where credits > 0"
    ):
        lanes.setdefault(row[1], []).append(_body(*row))
    return list(lanes.values())


def _body(
    identifier: str, customer_id: str, meter: str, timestamp_s: int, credits: int, payload: str
) -> dict[str, str]:
    paid = {**json.loads(payload), "stripe_customer_id": customer_id, "value": str(credits)}
    return {
        "event_name": meter,
        "identifier": f"bare-{identifier}",
        "timestamp": str(timestamp_s),
        **{f"payload[{name}]": value for name, value in paid.items()},
    }


def _post_all(pool: urllib3.PoolManager, lanes: list[list[dict[str, str]]]) -> Counts:
    with ThreadPoolExecutor(THREADS) as threads:
        taken = threads.map(lambda lane: sum(_post_one(pool, body) for body in lane), lanes)
        return {"meter_events": sum(taken)}


def _post_one(pool: urllib3.PoolManager, body: dict[str, str]) -> bool:
    headers = {
        "authorization": f"Bearer {os.environ['BILLING_STRIPE_SECRET_KEY']}",
        "content-type": "application/x-www-form-urlencoded",
        "idempotency-key": body["identifier"],
    }
    url = f"{os.environ['STRIPE_API_BASE']}/v1/billing/meter_events"
    return pool.request("POST", url, body=urlencode(body), headers=headers).status == 200
