"""What the sandbox Langfuse does in `dual` and `events_only`, and when it changes from one generation to another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langfuse_client import AUTH, NOON, PROJECT_ID, Client

from tallymark.sandbox.wire import Request

LEGACY_ROUTES = (
    *("traces", "traces/t", "observations", "observations/o", "sessions", "sessions/s"),
    *("scores", "scores/s", "v2/scores", "v2/scores/s", "metrics", "metrics/daily"),
)
TODAY = "2026-11-23T23:59:00.000Z"
PROPAGATED_SECONDS = 660


@pytest.fixture
def client() -> Client:
    """A sandbox of events_only whose writes are visible at once."""
    return Client(generation="events_only")


def put(client: Client, trace_id: str, *observations: dict[str, Any], on: str = "every", **trace: Any) -> None:
    """A trace of noon with these observations, which start then too unless they say otherwise."""
    given = [{"startTime": NOON, **one} for one in observations]
    client.sandbox.put_trace(PROJECT_ID, {"id": trace_id, "timestamp": NOON, **trace}, given, attributes_on=on)


# What is gone, and what is left


@pytest.mark.parametrize("path", LEGACY_ROUTES)
def test_legacy_routes_are_gone_before_the_key_is_looked_at(client: Client, path: str) -> None:
    """404 without an `error`, also without a key, so that it proves nothing about either (facts section 0.2)."""
    for headers in (AUTH, {}):
        response = client.sandbox.handle(Request("GET", f"/api/public/{path}", (), headers))
        assert response.status == 404
        assert list(json.loads(response.body)) == ["message"]
        assert "events_only mode" in response.body.decode()


@pytest.mark.parametrize("path", LEGACY_ROUTES)
def test_dual_has_every_legacy_route(path: str) -> None:
    """Without a key: 401, as on version 3."""
    assert Client(generation="dual").sandbox.handle(Request("GET", f"/api/public/{path}")).status == 401


def test_ingestion_refuses_traces_item_by_item(client: Client) -> None:
    """Still 207: scores and logs are taken, the rest is not (facts section 5.1)."""
    bodies = {
        "trace-create": {"id": "t"},
        "generation-create": {"id": "g", "traceId": "t"},
        "score-create": {"id": "s", "traceId": "t", "name": "billing_status", "value": "processed"},
        "sdk-log": {"log": "text"},
    }
    batch = [{"id": kind, "type": kind, "timestamp": TODAY, "body": body} for kind, body in bodies.items()]
    answer = json.loads(client.send("POST", "ingestion", {"batch": batch}).body)
    assert [item["id"] for item in answer["successes"]] == ["score-create", "sdk-log"]
    refused = [(item["id"], item["status"], item["message"]) for item in answer["errors"]]
    assert refused == [(kind, 400, "Event type not accepted") for kind in ("trace-create", "generation-create")]
    assert [score["value"] for score in client.get("v3/scores", traceId="t")["data"]] == ["processed"]
    assert client.rows() == []


def test_where_v2_observations_can_be_read() -> None:
    """404 on version 3; on version 4 in legacy mode there is an answer, and nothing in it (facts section 0.4)."""
    client = Client()
    put(client, "t", {"id": "o"})
    assert client.send("GET", "v2/observations").status == 404
    client.sandbox.set_generation("legacy", version="4.16.0")
    assert client.get("v2/observations") == {"data": [], "meta": {}}
    query = json.dumps({"view": "observations"})
    assert client.send("GET", "v2/metrics", query=query).status == 404
    assert client.listed() == ["t"]


def test_v3_scores_came_with_3_179() -> None:
    """An older server knows no such route."""
    assert Client(version="3.178.0").send("GET", "v3/scores").status == 404
    assert Client(version="3.179.0").send("GET", "v3/scores").status == 200


def test_health_tells_the_version(client: Client) -> None:
    """The probe's first question; the default follows the generation."""
    assert client.get("health")["version"] == "4.16.0"
    client.sandbox.set_generation("legacy")
    assert client.get("health")["version"] == "3.225.4"


# Scores


def test_scores_as_a_list() -> None:
    """202 when all are good, 207 with counts when not, and the good ones are written; no single object."""
    client = Client(generation="events_only", scores_api="list")
    good = {"id": "s1", "traceId": "t", "name": "n", "value": "v", "timestamp": NOON}
    assert client.send("POST", "scores", good).status == 400
    accepted = client.send("POST", "scores", [good])
    assert (accepted.status, json.loads(accepted.body)) == (202, {"message": "Accepted"})
    mixed = client.send("POST", "scores", [{**good, "id": "s2"}, {"id": "s3", "value": 1}, {**good, "timestamp": "x"}])
    told = json.loads(mixed.body)
    assert (mixed.status, told["accepted"], told["rejected"], len(told["errors"])) == (207, 1, 2, 2)
    written = client.get("v3/scores", traceId="t")["data"]
    assert [(score["id"], score["timestamp"]) for score in written] == [("s2", NOON), ("s1", NOON)]


def test_scores_one_by_one(client: Client) -> None:
    """Up to 4.16 an array is refused (facts section 5.4); more than 1 MiB is refused everywhere."""
    score = {"traceId": "t", "name": "n", "value": 1}
    assert client.send("POST", "scores", [score]).status == 400
    assert client.send("POST", "scores", score).status == 200
    assert client.send("POST", "scores", {**score, "comment": "x" * 2**20}).status == 413


# Pages


@pytest.mark.parametrize("limit", [1, 7, 10, 60, 1000])
def test_pages_cover_every_row_once(client: Client, limit: int) -> None:
    """Newest first; rows of one start time lie across pages; a cursor comes exactly with a full page."""
    for number in range(20):
        start = f"2026-11-20T12:00:0{number // 7}.000Z"
        put(client, f"t{number}", *[{"id": f"o{number}-{part}", "startTime": start} for part in range(3)])
    pages = client.pages(limit=limit, fields="core")
    ids = [row_id for page in pages for row_id in page]
    assert sorted(ids) == sorted(f"o{number}-{part}" for number in range(20) for part in range(3))
    assert [int(row_id[1:].split("-")[0]) // 7 for row_id in ids] == [2] * 18 + [1] * 21 + [0] * 21
    assert [len(page) for page in pages] == [limit] * (60 // limit) + [60 % limit]


def test_rows_of_one_trace_and_time_stand_by_id(client: Client) -> None:
    """The last part of the order is the id, downwards (facts section 2.2)."""
    put(client, "t", *[{"id": row_id} for row_id in ("b", "a", "c")])
    assert client.pages() == [["c", "b", "a"]]


def test_a_scan_is_stable_while_rows_arrive(client: Client) -> None:
    """New rows stand before the cursor; only a late row below it is still seen."""
    put(client, "t", *[{"id": f"o{second}", "startTime": f"2026-11-20T12:00:0{second}Z"} for second in range(4)])
    first = client.get("v2/observations", limit=2)
    put(client, "new", {"id": "new", "startTime": "2026-11-20T12:00:09Z"})
    put(client, "late", {"id": "late", "startTime": "2026-11-20T11:00:00Z"})
    second = client.get("v2/observations", limit=10, cursor=first["meta"]["cursor"])
    assert [row["id"] for row in first["data"] + second["data"]] == ["o3", "o2", "o1", "o0", "late"]


def test_window_is_closed_below_and_open_above(client: Client) -> None:
    """fromStartTime <= start < toStartTime, with and without a filter."""
    put(client, "t", *[{"id": f"o{second}", "startTime": f"2026-11-20T12:00:0{second}Z"} for second in range(4)])
    window = {"fromStartTime": "2026-11-20T12:00:01Z", "toStartTime": "2026-11-20T12:00:03Z"}
    assert client.pages(**window) == client.pages(**window, name="") == [["o2", "o1"]]
    assert client.pages(**window, type="GENERATION", limit=1) == [["o2"], ["o1"], []]


@pytest.mark.parametrize("query", [{"limit": 1001}, {"cursor": "e30="}, {"cursor": "x"}, {"parseIoAsJson": "true"}])
def test_bad_questions_are_refused(client: Client, query: dict[str, Any]) -> None:
    """400, never a first page again."""
    assert client.send("GET", "v2/observations", **query).status == 400


# Filters


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"type": "arrayOptions", "column": "tags", "operator": "any of", "value": ["a"]}, ["child", "root"]),
        ({"type": "arrayOptions", "column": "traceTags", "operator": "none of", "value": ["a"]}, ["other"]),
        ({"type": "stringOptions", "column": "traceId", "operator": "any of", "value": ["u", "x"]}, ["other"]),
        ({"type": "stringOptions", "column": "traceId", "operator": "none of", "value": ["u"]}, ["child", "root"]),
        ({"type": "boolean", "column": "isRootObservation", "operator": "=", "value": True}, ["root", "other"]),
        ({"type": "boolean", "column": "hasParentObservation", "operator": "=", "value": True}, ["child"]),
        ({"type": "string", "column": "sessionId", "operator": "=", "value": ""}, ["other"]),
        ({"type": "stringObject", "column": "metadata", "key": "k", "operator": "=", "value": "v"}, ["child", "root"]),
        ({"type": "stringObject", "column": "metadata", "key": "k", "operator": "does not contain", "value": "x"},
         ["child", "root"]),
        ({"type": "number", "column": "totalCost", "operator": ">", "value": 0.5}, ["child"]),
        ({"type": "datetime", "column": "startTime", "operator": ">", "value": NOON}, ["child"]),
    ],
)  # fmt: skip
def test_filters_look_at_the_row(client: Client, condition: dict[str, Any], found: list[str]) -> None:
    """A row's own tags and metadata; a missing metadata key never matches (facts section 0.5)."""
    child = {
        "id": "child",
        "parentObservationId": "root",
        "startTime": "2026-11-20T12:00:01Z",
        "costDetails": {"total": 1},
    }
    put(client, "t", {"id": "root"}, child, tags=["a"], sessionId="s", metadata={"k": "v"})
    put(client, "u", {"id": "other", "startTime": "2026-11-20T11:59:00Z"})
    assert client.pages(filter=json.dumps([condition])) == [found]


def test_plain_parameters(client: Client) -> None:
    """Exact, environments any of; a filter on the column replaces the parameter."""
    put(client, "t", {"id": "o1", "environment": "prod"}, userId="u1", sessionId="s1")
    put(client, "u", {"id": "o2", "environment": "test"}, userId="u2")
    for query in ({"userId": "u1"}, {"sessionId": "s1"}, {"traceId": "t"}, {"environment": "prod"}):
        assert client.pages(**query) == [["o1"]]
    assert sorted(client.pages(environment="prod,test")[0]) == ["o1", "o2"]
    condition = {"type": "string", "column": "userId", "operator": "=", "value": "u2"}
    assert client.pages(userId="u1", filter=json.dumps([condition])) == [["o2"]]
    unknown = {"type": "datetime", "column": "updatedAt", "operator": ">", "value": NOON}
    assert client.send("GET", "v2/observations", filter=json.dumps([unknown])).status == 400


# Rows


def test_attributes_on_every_row_or_on_the_root(client: Client) -> None:
    """SDK 4 and 5 put them on every span, SDK 3 on the root only (observed item 29)."""
    observations = ({"id": "root"}, {"id": "child", "parentObservationId": "root"})
    attributes = {"userId": "u", "sessionId": "s", "tags": ["a"], "metadata": {"customerId": "cus_1"}}
    for trace_id, on in (("sdk4", "every"), ("sdk3", "root")):
        put(client, trace_id, *({**one, "id": f"{trace_id}-{one['id']}"} for one in observations), on=on, **attributes)
    shown = {row["id"]: (row["userId"], row["tags"], row["metadata"]) for row in client.rows()}
    full = ("u", ["a"], {"customerId": "cus_1"})
    assert shown == {
        "sdk4-root": full,
        "sdk4-child": full,
        "sdk3-root": full,
        "sdk3-child": ("", [], {}),
    }


def test_a_trace_without_observations_has_only_its_synthetic_row(client: Client) -> None:
    """Type SPAN, no end, no cost."""
    put(client, "t", userId="u", tags=["a"])
    [row] = client.rows()
    assert (row["id"], row["type"], row["endTime"], row["latency"], row["totalCost"]) == ("t-t", "SPAN", None, None, 0)
    assert (row["userId"], row["tags"], row["startTime"]) == ("u", ["a"], NOON)


def test_a_trace_may_have_no_root(client: Client) -> None:
    """Observations whose parent never came stay without one."""
    put(client, "t", {"id": "o", "parentObservationId": "lost"})
    assert [(row["id"], row["isRootObservation"]) for row in client.rows()] == [("o", False)]


def test_metadata_values_are_cut(client: Client) -> None:
    """To 200 characters, unless the key is asked for (facts section 2.2); cut JSON is text."""
    put(client, "t", {"id": "o"}, metadata={"long": "x" * 300, "json": {"a": "y" * 300}, "short": {"a": 1}})
    metadata = client.rows()[0]["metadata"]
    assert (metadata["long"], metadata["short"]) == ("x" * 200, {"a": 1})
    assert metadata["json"].startswith('{"a":"yyy')
    assert len(metadata["json"]) == 200
    metadata = client.rows(expandMetadata="json,other")[0]["metadata"]
    assert (len(metadata["long"]), metadata["json"]) == (200, {"a": "y" * 300})


def test_objects_in_span_metadata_become_dotted_keys(client: Client) -> None:
    """An attribute that is an object is flattened; JSON in a text is not, and is parsed on reading."""
    given = {"langfuse__trace__metadata__a": {"b": {"c": "1"}}, "langfuse__trace__metadata__j": '{"d": 2}'}
    client.export("t", "o", TODAY, **given)
    assert client.rows()[0]["metadata"] == {"a.b.c": 1, "j": {"d": 2}, "scope.name": "app", "scope.version": None}


@pytest.mark.parametrize(
    ("given", "total", "details"),
    [
        ({"costDetails": {"input": 0.1, "output": 0.2, "cache_read": 0.5}}, 0, {"input", "output", "cache_read"}),
        ({"costDetails": {"input": 0.1, "output": 0.2}}, 0.3, {"input", "output", "total"}),
        ({"model": "nobody-knows", "usageDetails": {"input": 1000}}, 0, set()),
    ],
)
def test_an_unknown_total_reads_0(client: Client, given: dict[str, Any], total: float, details: set[str]) -> None:
    """Only costDetails tell whether there is a cost (facts section 12)."""
    put(client, "t", {"id": "o", **given})
    [row] = client.rows()
    assert (row["totalCost"], set(row["costDetails"])) == (total, details)


# Versions of a row


def test_a_row_written_twice_stands_there_twice_until_merged() -> None:
    """The newest updatedAt is right; pages and metrics count both meanwhile (facts section 2.2, 2.3)."""
    client = Client(generation="events_only", unmerged_seconds=60)
    for cost in ("0.1", "0.2"):
        client.export("t", "o", TODAY, langfuse__observation__cost_details=f'{{"total":{cost}}}')
        client.clock.advance(1)
    versions = {row["updatedAt"]: row["totalCost"] for row in client.rows(traceId="t")}
    assert versions == {"2026-11-24T00:00:00.000Z": 0.1, "2026-11-24T00:00:01.000Z": 0.2}
    metric = {"view": "observations", "metrics": [{"measure": "totalCost", "aggregation": "sum"}]}
    assert client.get("v2/metrics", query=json.dumps(metric))["data"] == [{"sum_totalCost": 0.3}]
    client.clock.advance(59)
    assert [row["totalCost"] for row in client.rows()] == [0.2]


def test_a_row_of_another_start_time_is_another_row(client: Client) -> None:
    """ClickHouse merges only rows of the same start (facts section 5.3)."""
    client.export("t", "o", TODAY)
    client.export("t", "o", "2026-11-23T23:58:00.000Z")
    assert [row["startTime"] for row in client.rows()] == [TODAY, "2026-11-23T23:58:00.000Z"]


def test_nothing_merges_into_rows_of_the_same_trace(client: Client) -> None:
    """A later span's tags are its own; the earlier rows stay as they are (observed item 26)."""
    client.export("t", "root", TODAY, langfuse__trace__tags=["a"], user__id="u")
    client.export("t", "late", "2026-11-23T23:59:30.000Z", parent="root", langfuse__trace__tags=["b"])
    shown = {row["id"]: (row["tags"], row["userId"]) for row in client.rows()}
    assert shown == {"root": (["a"], "u"), "late": (["b"], "")}


def test_deleting_a_trace_removes_its_rows(client: Client) -> None:
    """DELETE /traces works in every mode."""
    client.export("t", "o", TODAY)
    put(client, "u", {"id": "p"})
    assert client.send("DELETE", "traces/t").status == 200
    assert client.pages() == [["p"]]


def test_metrics_by_trace_need_a_limit_and_an_order(client: Client) -> None:
    """Only the top so many (facts section 2.3)."""
    for number in range(3):
        put(client, f"t{number}", {"id": f"o{number}", "costDetails": {"total": number}})
    query = {
        "view": "observations",
        "metrics": [{"measure": "totalCost", "aggregation": "sum"}],
        "dimensions": [{"field": "traceId"}],
    }
    assert client.send("GET", "v2/metrics", query=json.dumps(query)).status == 400
    query |= {"config": {"row_limit": 2}, "orderBy": [{"field": "sum_totalCost", "direction": "desc"}]}
    answer = client.get("v2/metrics", query=json.dumps(query))["data"]
    assert [(row["traceId"], row["sum_totalCost"]) for row in answer] == [("t2", 2), ("t1", 1)]


# dual: the ingestion API reaches v2/observations later


def test_ingested_data_is_propagated_later() -> None:
    """After 11 minutes, with the trace as a row of its own and its tags on every row (observed item 27)."""
    client = Client(generation="dual")
    client.ingest("trace-create", id="t", timestamp=TODAY, tags=["a"], userId="u", metadata={"m": 1})
    client.ingest("generation-create", id="g", traceId="t", startTime=TODAY, costDetails={"total": 1})
    client.clock.advance(PROPAGATED_SECONDS - 1)
    assert (client.pages(), client.listed()) == ([[]], ["t"])
    client.clock.advance(1)
    shown = {row["id"]: (row["parentObservationId"], row["totalCost"], row["tags"]) for row in client.rows()}
    assert shown == {"t-t": (None, 0, ["a"]), "g": ("t-t", 1, ["a"])}


def test_back_dated_traces_lose_tags_and_user_there() -> None:
    """Only the name and the synthetic row's metadata remain (golden 31b)."""
    client = Client(generation="dual")
    client.ingest("trace-create", id="t", timestamp=NOON, name="n", tags=["a"], userId="u", metadata={"m": 1})
    client.ingest("generation-create", id="g", traceId="t", startTime=NOON)
    client.clock.advance(PROPAGATED_SECONDS)
    shown = {row["id"]: (row["tags"], row["userId"], row["traceName"], row["metadata"]) for row in client.rows()}
    assert shown == {"t-t": ([], "", "n", {"m": 1}), "g": ([], "", None, {})}
    assert client.sandbox.trace(PROJECT_ID, "t")["tags"] == ["a"]


def test_a_mark_in_dual_changes_only_the_synthetic_row() -> None:
    """Rows that were propagated before are not touched (facts section 5.2)."""
    client = Client(generation="dual")
    client.ingest("trace-create", id="t", timestamp=TODAY, tags=["pending"])
    client.ingest("generation-create", id="g", traceId="t", startTime=TODAY)
    client.clock.advance(PROPAGATED_SECONDS)
    client.ingest("trace-create", id="t", tags=["processed"])
    client.clock.advance(PROPAGATED_SECONDS)
    assert {row["id"]: row["tags"] for row in client.rows()} == {"t-t": ["pending", "processed"], "g": ["pending"]}


def test_a_legacy_update_reaches_a_row_only_by_propagation() -> None:
    """The row of a span stays as it was sent until then, also when the legacy tables show the new cost."""
    client = Client(generation="dual")
    put(client, "t", {"id": "g", "costDetails": {"total": 1}})
    client.ingest("generation-update", id="g", traceId="t", costDetails={"total": 2})
    assert client.sandbox.trace(PROJECT_ID, "t")["totalCost"] == 2
    assert [row["totalCost"] for row in client.rows()] == [1]
    client.clock.advance(PROPAGATED_SECONDS)
    assert [row["totalCost"] for row in client.rows()] == [2]


def test_dual_reads_spans_on_both_sides_at_once() -> None:
    """OTLP data is in both tables (observed item 27)."""
    client = Client(generation="dual")
    client.export("t", "o", TODAY, langfuse__trace__tags=["a"])
    assert (client.listed(tags="a"), client.pages()) == (["t"], [["o"]])


# From one generation to another


def test_an_upgrade_shows_legacy_data_below_synthetic_rows() -> None:
    """Put, ingested and exported traces; each once, however often the server changes; and back again."""
    client = Client()
    put(client, "put", {"id": "p", "costDetails": {"total": 1}}, tags=["a"], userId="u")
    client.ingest("trace-create", id="ingested", timestamp=NOON, tags=["b"])
    client.ingest("generation-create", id="i", traceId="ingested", startTime=NOON, costDetails={"total": 2})
    client.export("exported", "e", NOON, langfuse__trace__tags=["c"])
    for generation in ("events_only", "legacy", "dual", "events_only"):
        client.sandbox.set_generation(generation)
    shown = {row["id"]: (row["parentObservationId"], row["totalCost"], row["tags"]) for row in client.rows()}
    assert shown == {
        "t-put": (None, 0, ["a"]),
        "p": ("t-put", 1, ["a"]),
        "t-ingested": (None, 0, ["b"]),
        "i": ("t-ingested", 2, ["b"]),
        "t-exported": (None, 0, ["c"]),
        "e": ("t-exported", 0, ["c"]),
    }
    assert len(client.rows()) == len(shown)
    client.sandbox.set_generation("legacy")
    assert sorted(client.listed()) == ["exported", "ingested", "put"]


def test_late_spans_after_an_upgrade() -> None:
    """They are rows beside the old ones, and a server that goes back knows them too."""
    client = Client()
    put(client, "t", {"id": "o", "costDetails": {"total": 1}})
    client.sandbox.set_generation("events_only")
    client.export("t", "late", TODAY, parent="o", langfuse__observation__cost_details='{"total":2}')
    assert client.pages(traceId="t") == [["late", "t-t", "o"]]
    client.sandbox.set_generation("legacy")
    assert client.get("traces/t")["totalCost"] == 3


def test_what_changed_in_legacy_is_new_after_the_next_upgrade() -> None:
    """The row gets the new cost, and there is still one."""
    client = Client()
    put(client, "t", {"id": "o", "costDetails": {"total": 1}})
    client.sandbox.set_generation("dual")
    client.sandbox.set_generation("legacy")
    client.clock.advance(1)
    client.ingest("generation-update", id="o", traceId="t", costDetails={"total": 5})
    client.sandbox.set_generation("dual")
    assert {row["id"]: row["totalCost"] for row in client.rows()} == {"t-t": 0, "o": 5}
    assert len(client.rows()) == 2


def test_data_of_both_sides_is_put_without_synthetic_rows() -> None:
    """A trace put into dual or events_only can be read by both, and going back and forth adds nothing."""
    client = Client(generation="events_only")
    put(client, "t", {"id": "o"})
    for generation in ("legacy", "dual"):
        client.sandbox.set_generation(generation)
    assert (client.pages(), client.listed()) == ([["o"]], ["t"])


def test_the_generation_can_be_changed_from_outside() -> None:
    """As another process does it: no key; nonsense is refused and changes nothing."""
    client = Client()
    ask = b'{"generation": "events_only", "version": "4.20.0"}'
    assert client.sandbox.handle(Request("POST", "/sandbox/generation", (), {}, ask)).status == 200
    assert (client.get("health")["version"], client.send("GET", "traces").status) == ("4.20.0", 404)
    assert client.sandbox.handle(Request("POST", "/sandbox/generation", (), {}, b'{"generation":"v5"}')).status == 400
    assert client.send("GET", "traces").status == 404


def test_metadata_without_the_key_in_dual() -> None:
    """Version 3 reads a missing key as "", version 4 does not match it (observed item 14)."""
    client = Client()
    put(client, "t", metadata={"other": 1})
    condition = {"type": "stringObject", "column": "metadata", "key": "k", "operator": "does not contain", "value": "x"}
    assert client.listed(filter=json.dumps([condition])) == ["t"]
    client.sandbox.set_generation("dual")
    assert client.listed(filter=json.dumps([condition])) == []


def test_rows_can_be_looked_at_without_http(client: Client) -> None:
    """`rows` gives what v2/observations gives with all fields, in the order they came."""
    put(client, "t", {"id": "o", "costDetails": {"total": 1}}, tags=["a"])
    [row] = client.sandbox.rows(PROJECT_ID, "t")
    assert (row["id"], row["totalCost"], row["tags"]) == ("o", 1, ["a"])
    assert client.sandbox.rows(PROJECT_ID, "none") == []
