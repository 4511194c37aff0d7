"""What the sandbox Langfuse does where no recording looks: its knobs, its own record, and the facts behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langfuse_client import AUTH, NOON, PROJECT_ID, Client

from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from tallymark.sandbox.langfuse.protobuf import read_export_request
from tallymark.sandbox.wire import Request


@pytest.fixture
def client() -> Client:
    """A sandbox whose writes are visible at once."""
    return Client()


def test_a_write_is_answered_at_once_and_seen_later() -> None:
    """Ingestion says 207 before anybody can read the trace (observed item 15)."""
    client = Client(visibility_seconds=6.0)
    client.ingest("trace-create", id="t", timestamp=NOON)
    client.clock.advance(5.9)
    assert (client.listed(), client.send("GET", "traces/t").status) == ([], 404)
    client.clock.advance(0.1)
    assert (client.listed(), client.send("GET", "traces/t").status) == (["t"], 200)


def test_writes_become_visible_in_the_order_they_were_sent() -> None:
    """A deletion sent after a creation wins, though both wait."""
    client = Client(visibility_seconds=6.0)
    client.ingest("trace-create", id="t", timestamp=NOON)
    client.send("DELETE", "traces/t")
    client.clock.advance(6)
    assert client.listed() == []


def test_a_mark_of_an_unknown_trace_creates_a_ghost(client: Client) -> None:
    """The ghost has the envelope's time and costs nothing (observed item 8)."""
    client.ingest("trace-create", id="ghost", tags=["billing:processed"])
    row = client.sandbox.trace(PROJECT_ID, "ghost")
    assert (row["timestamp"], row["totalCost"], row["name"]) == ("2026-11-24T00:00:00.000Z", 0, "")


def test_an_upsert_resets_public_and_bookmarked(client: Client) -> None:
    """Whoever marks a trace without saying public loses both (facts section 5.2)."""
    client.put("t", public=True, bookmarked=True)
    client.put("u")
    client.sandbox.bookmark(PROJECT_ID, "u")
    client.sandbox.set_public(PROJECT_ID, "u")
    for trace_id in ("t", "u"):
        before = client.sandbox.trace(PROJECT_ID, trace_id)
        assert (before["public"], before["bookmarked"]) == (True, True)
        client.ingest("trace-create", id=trace_id, tags=["x"])
        after = client.sandbox.trace(PROJECT_ID, trace_id)
        assert (after["public"], after["bookmarked"]) == (False, False)


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ({"costDetails": {"input": 0.1, "output": 0.2}}, 0.3),
        ({"costDetails": {"input": 0.1, "output": 0.2, "cache_read": 0.5}}, 0),
        ({"costDetails": {"input": 0.1, "output": 0.2, "cache_read": 0.5, "total": 0.8}}, 0.8),
        ({"costDetails": {"input": 0.1, "total": 5}}, 5),
        ({"costDetails": {"total": -1}}, 0),
        ({"costDetails": {"total": 1.23456789012e-9}}, 1.234e-09),
        ({"costDetails": {"total": 1e12}}, 999999.999999),
        ({"model": "gpt-4o", "usageDetails": {"input": 1000, "output": 500}}, 0.0075),
        ({"model": "gpt-4o", "usage": {"promptTokens": 1000, "completionTokens": 500}}, 0.0075),
        ({"model": "gpt-4o", "usageDetails": {"input": 1000}, "costDetails": {"total": 2}}, 2),
        ({"model": "nobody-knows", "usageDetails": {"input": 1000, "output": 500}}, 0),
    ],
)
def test_cost_of_one_observation(client: Client, given: dict[str, Any], total: float) -> None:
    """The cost rules of observed item 4."""
    client.put("t")
    client.ingest("generation-create", id="g", traceId="t", startTime=NOON, **given)
    assert client.sandbox.trace(PROJECT_ID, "t")["totalCost"] == total
    assert client.get("traces/t")["totalCost"] == total


def test_costs_are_added_as_decimals(client: Client) -> None:
    """3 x 0.1 is 0.3 (observed item 4)."""
    observations = [{"startTime": NOON, "costDetails": {"total": 0.1}}] * 3
    client.sandbox.put_trace(PROJECT_ID, {"id": "t", "timestamp": NOON}, observations)
    assert client.sandbox.trace(PROJECT_ID, "t")["totalCost"] == 0.3


def test_old_observations_count_only_without_a_lower_bound(client: Client) -> None:
    """The list looks one hour before fromTimestamp for observations, the detail one hour before the trace (item 5)."""
    early = {"startTime": "2026-11-20T10:59:59Z", "costDetails": {"total": 1}}
    in_time = {"startTime": "2026-11-20T11:00:00Z", "costDetails": {"total": 2}}
    client.sandbox.put_trace(PROJECT_ID, {"id": "t", "timestamp": NOON}, [early, in_time])
    assert client.get("traces")["data"][0]["totalCost"] == 3
    assert client.get("traces", fromTimestamp=NOON)["data"][0]["totalCost"] == 2
    assert client.get("traces/t")["totalCost"] == 2


def test_a_window_with_too_many_rows_is_refused() -> None:
    """422 until the client asks for less time (observed item 21)."""
    client = Client(resource_error_rows=2)
    for hour in range(4):
        client.put(f"t{hour}", f"2026-11-20T0{hour}:00:00Z")
    refused = client.send("GET", "traces", fromTimestamp="2026-11-20T00:00:00Z", toTimestamp="2026-11-20T03:00:00Z")
    assert (refused.status, json.loads(refused.body)["error"]) == (422, "Request timed out")
    assert client.listed(fromTimestamp="2026-11-20T00:00:00Z", toTimestamp="2026-11-20T02:00:00Z") == ["t1", "t0"]


def test_a_window_of_observations_with_too_many_rows_is_refused() -> None:
    """The same 422, counted from the cursor on; traces asked for by id count with their own rows."""
    client = Client(generation="events_only", resource_error_rows=2)
    for hour in range(4):
        client.put(f"t{hour}", f"2026-11-20T0{hour}:00:00Z")
    answer = client.send("GET", "v2/observations", fromStartTime="2026-11-20T00:00:00Z")
    assert (answer.status, json.loads(answer.body)["error"]) == (422, "Request timed out")
    assert client.pages(fromStartTime="2026-11-20T02:00:00Z") == [["t-t3", "t-t2"]]
    assert client.pages(fromStartTime="2026-11-20T02:00:00Z", limit=1) == [["t-t3"], ["t-t2"], []]
    assert client.pages(traceId="t0") == [["t-t0"]]


def test_equal_timestamps_change_places_when_asked_to() -> None:
    """Pages of unstable ties repeat and miss traces, the same way for the same seed (observed item 10)."""
    runs = []
    for _ in range(2):
        client = Client(unstable_ties_seed=7)
        for index in range(40):
            client.put(f"t{index:02d}", f"2026-11-20T00:00:{index // 8:02d}Z")
        pages = [client.listed(page=page, limit=5, orderBy="timestamp.asc") for page in range(1, 9)]
        runs.append(pages)
    seen = [trace_id for page in runs[0] for trace_id in page]
    assert runs[0] == runs[1]
    assert (len(seen), len(set(seen)) < 40) == (40, True)
    assert [int(trace_id[1:]) // 8 for trace_id in seen] == [index // 8 for index in range(40)]


def test_equal_timestamps_stay_in_place_otherwise(client: Client) -> None:
    """Without the switch every trace is on exactly one page."""
    for index in range(40):
        client.put(f"t{index:02d}")
    seen = [trace_id for page in range(1, 10) for trace_id in client.listed(page=page, limit=5)]
    assert sorted(seen) == [f"t{index:02d}" for index in range(40)]


def test_totals_are_overcounted_when_asked_to() -> None:
    """Row versions count without a filter, and not with a tag (observed item 9)."""
    client = Client(overcount_total_items=True)
    client.put("t", tags=["a"])
    client.ingest("trace-create", id="t", tags=["b"])
    assert client.get("traces")["meta"]["totalItems"] == 2
    assert client.get("traces", tags="a")["meta"]["totalItems"] == 1


def test_legacy_reads_share_one_limit_and_other_reads_another() -> None:
    """429 for traces, scores v3 and ingestion go on; a minute later all is well (observed item 22)."""
    client = Client(rate_limit_per_minute=15)
    client.put("t")
    statuses = [client.send("GET", path).status for path in ("traces", "traces/t", "observations") * 5]
    assert statuses == [200] * 14 + [429]
    assert client.send("GET", "v3/scores").status == 200
    client.ingest("trace-create", id="t", tags=["x"])
    client.clock.advance(60)
    assert client.send("GET", "traces").status == 200


def test_a_trace_id_may_have_rows_on_two_dates(client: Client) -> None:
    """Both rows are listed, with the same observations (facts section 1.6)."""
    client.put("t")
    client.sandbox.duplicate_trace(PROJECT_ID, "t", "2026-11-21T12:00:00Z")
    assert client.listed() == ["t", "t"]
    client.sandbox.delete_trace(PROJECT_ID, "t")
    assert client.listed() == []


def test_a_filtered_list_follows_writes(client: Client) -> None:
    """The remembered result of a filter is not used after a write: the filtered set shrinks while it is paged."""
    for index in range(4):
        client.put(f"t{index}", f"2026-11-20T00:00:0{index}Z", tags=["billing:pending"])
    unmarked = [
        {"type": "arrayOptions", "column": "tags", "operator": "any of", "value": ["billing:pending"]},
        {"type": "arrayOptions", "column": "tags", "operator": "none of", "value": ["billing:processed"]},
    ]
    query = {"filter": json.dumps(unmarked), "orderBy": "timestamp.asc", "limit": 2}
    assert client.listed(**query) == ["t0", "t1"]
    client.ingest("trace-create", id="t0", tags=["billing:processed"])
    assert client.listed(**query) == ["t1", "t2"]
    assert client.listed(**query, page=2) == ["t3"]


def test_traces_without_a_score_are_found_by_category(client: Client) -> None:
    """`none of` on score_categories matches traces without any score (facts section 1.4)."""
    client.put("t0")
    client.put("t1")
    client.ingest("score-create", id="s", traceId="t0", name="billing_status", value="processed")
    condition = {
        "type": "categoryOptions",
        "column": "score_categories",
        "key": "billing_status",
        "operator": "none of",
        "value": ["processed"],
    }
    assert client.listed(filter=json.dumps([condition])) == ["t1"]


def test_scores_by_cursor(client: Client) -> None:
    """Pages of v3/scores join without gap or repetition; the last one has no cursor."""
    for index in range(5):
        client.send("POST", "scores", {"id": f"s{index}", "traceId": "t", "name": "n", "value": index})
    pages, cursor = [], {}
    while cursor is not None:
        answer = client.get("v3/scores", limit=2, **cursor)
        pages.append([row["id"] for row in answer["data"]])
        cursor = {"cursor": answer["meta"]["cursor"]} if "cursor" in answer["meta"] else None
    assert pages == [["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert client.send("GET", "v3/scores", cursor="nonsense").status == 400
    assert client.send("GET", "v3/scores", userId="u").status == 400


def test_a_score_is_one_by_id_name_and_day(client: Client) -> None:
    """The same score posted again replaces its value; it can be deleted (facts section 5.4)."""
    for value in ("pending", "processed"):
        client.ingest("score-create", id="s", traceId="t", name="billing_status", value=value)
    client.put("t")
    assert [score["stringValue"] for score in client.sandbox.scores(PROJECT_ID, "t")] == ["processed"]
    assert client.send("DELETE", "scores/s").status == 202
    assert client.sandbox.scores(PROJECT_ID, "t") == []


def test_public_key_alone_may_post_scores_only(client: Client) -> None:
    """Bearer with the public key has the access level of scores (facts section 5.4)."""
    headers = {"authorization": f"Bearer {DEFAULT_PROJECT.public_key}"}
    score = json.dumps({"traceId": "t", "name": "n", "value": 1}).encode()
    assert client.sandbox.handle(Request("POST", "/api/public/scores", (), headers, score)).status == 200
    assert client.sandbox.handle(Request("GET", "/api/public/scores", (), headers)).status == 403


def test_ids_may_be_long_and_of_any_script(client: Client) -> None:
    """An id of 800 characters with slashes, blanks and letters beyond ASCII comes back (observed item 20)."""
    trace_id = "ä/ %" * 200
    client.ingest("trace-create", id=trace_id, timestamp=NOON, name="名前")
    quoted = "".join(f"%{byte:02X}" for byte in trace_id.encode())
    assert client.get(f"traces/{quoted}")["id"] == trace_id
    assert client.listed(name="名前") == [trace_id]


@pytest.mark.parametrize("body", [b"", b"\x0a", b"\x0a\x05abc", b"not protobuf", b"\x0a\x04\x12\x02\x12\x00" * 9])
def test_bad_protobuf_is_taken_without_a_word(client: Client, body: bytes) -> None:
    """200 and an empty object, and nothing is stored (observed item 33)."""
    headers = {**AUTH, "content-type": "application/x-protobuf"}
    response = client.sandbox.handle(Request("POST", "/api/public/otel/v1/traces", (), headers, body))
    assert response.status == 200
    assert (response.body, client.listed()) == (b"{}", [])


def test_bad_otlp_json_is_refused(client: Client) -> None:
    """400, as for JSON of another shape inside a span."""
    for body in (b"{", b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"x"}]}]}]}'):
        response = client.sandbox.handle(Request("POST", "/api/public/otel/v1/traces", (), AUTH, body))
        assert response.status == 400


def test_protobuf_values_of_every_kind() -> None:
    """Numbers keep their sign and fraction; a message cut short is told."""
    # resourceSpans.resource.attributes: {"key": "i", "value": {"intValue": -1}}
    value = bytes.fromhex("18" + "ff" * 9 + "01")
    attribute = b"\x0a\x01i\x12" + bytes([len(value)]) + value
    resource = b"\x0a" + bytes([len(attribute)]) + attribute
    message = b"\x0a" + bytes([len(resource)]) + resource
    request = b"\x0a" + bytes([len(message)]) + message
    [spans] = read_export_request(request)["resourceSpans"]
    assert spans["resource"]["attributes"] == [{"key": "i", "value": {"intValue": -1}}]
    with pytest.raises(ValueError, match="cut short"):
        read_export_request(request[:-1])


def test_what_was_received_is_told_without_bodies_and_keys(client: Client) -> None:
    """Counts by template and the request lines; nothing secret, and the looking itself is not counted."""
    client.ingest("trace-create", id="secret-body", timestamp=NOON)
    client.send("GET", "traces/secret-body", fields="core")
    client.send("GET", "health")
    assert client.sandbox.counts() == {
        "POST /api/public/ingestion": 1,
        "GET /api/public/traces/{traceId}": 1,
        "GET /api/public/health": 1,
    }
    shown = client.sandbox.handle(Request("GET", "/sandbox/requests"))
    assert json.loads(shown.body)["requests"][1] == "GET /api/public/traces/secret-body fields=core"
    assert DEFAULT_PROJECT.secret_key not in repr(client.sandbox.requests()) + shown.body.decode()
    client.sandbox.clear_requests()
    assert (client.sandbox.counts(), client.sandbox.requests()) == ({}, [])


def test_a_person_can_look_at_a_trace(client: Client) -> None:
    """GET /sandbox/traces/{id} needs no key."""
    client.put("t", tags=["a"])
    shown = client.sandbox.handle(Request("GET", "/sandbox/traces/t"))
    assert json.loads(shown.body) == [client.sandbox.trace(PROJECT_ID, "t")]
    assert client.sandbox.handle(Request("GET", "/sandbox/traces/none")).status == 404


def test_an_older_write_fills_gaps_only(client: Client) -> None:
    """A late, older ingestion item adds what is missing and overwrites nothing (observed item 8)."""
    client.put("t", name="new", metadata={"a": 1})
    item = {
        "id": "item",
        "type": "trace-create",
        "timestamp": "2026-11-01T00:00:00Z",
        "body": {"id": "t", "name": "old", "userId": "u", "metadata": {"a": 0, "b": 2}, "tags": ["old"]},
    }
    client.send("POST", "ingestion", {"batch": [item]})
    row = client.sandbox.trace(PROJECT_ID, "t")
    assert (row["name"], row["userId"], row["metadata"], row["tags"]) == ("new", "u", {"a": 1, "b": 2}, ["old"])


def test_many_pages_cover_many_traces(client: Client) -> None:
    """Every page of both directions, with a window that cuts both ends: each trace once."""
    for index in range(500):
        client.put(f"t{index:03d}", f"2026-11-20T{index // 60:02d}:{index % 60:02d}:00Z")
    window = {"fromTimestamp": "2026-11-20T00:10:00Z", "toTimestamp": "2026-11-20T08:00:00Z", "limit": 37}
    expected = [f"t{index:03d}" for index in range(10, 480)]
    for order, wanted in (("asc", expected), ("desc", expected[::-1])):
        seen, page = [], 1
        while rows := client.listed(**window, orderBy=f"timestamp.{order}", page=page):
            seen, page = seen + rows, page + 1
        assert seen == wanted
