"""What tallymark is measured against: the same HTTP with nothing done with it. Imports no tallymark."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import urllib3

from .child import Counts

LOOKBACK = timedelta(days=7)
FAR_FUTURE = "2099-12-31T00:00:00.000Z"
THREADS = 8


def download() -> Callable[[], Counts]:
    """Download and discard every page of traces that a first sync reads."""
    keys = f"{os.environ['LANGFUSE_PUBLIC_KEY']}:{os.environ['LANGFUSE_SECRET_KEY']}"
    headers = {**urllib3.make_headers(basic_auth=keys, accept_encoding="gzip"), "accept": "application/json"}
    pool = urllib3.PoolManager(maxsize=4, retries=False, headers=headers)
    return lambda: _download(pool)


def _download(pool: urllib3.PoolManager) -> Counts:
    from_time = (datetime.now(UTC) - LOOKBACK).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    page, size_bytes = 0, 0
    while True:
        page += 1
        body = pool.request("GET", _page_url(from_time, page)).data
        size_bytes += len(body)
        if b'"data":[]' in body[:100]:
            return {"requests": page, "bytes": size_bytes}


def _page_url(from_time: str, page: int) -> str:
    query = {
        "fromTimestamp": from_time,
        "toTimestamp": FAR_FUTURE,
        "fields": "core,io,metrics",
        "orderBy": "timestamp.asc",
        "limit": "100",
        "page": str(page),
    }
    return f"{os.environ['LANGFUSE_BASE_URL']}/api/public/traces?{urlencode(query)}"


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
