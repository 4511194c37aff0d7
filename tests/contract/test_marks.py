"""Marks on traces: written after the money, harming nothing, repaired when lost, and never the source of truth."""

import json

import pytest
from stub_services import Counting

from builders import CREDITS_OF_A_TRACE, PROJECT, ingested
from tallymark.core.clock import DAY_US
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.wire import Response
from tallymark.source.rows import PROCESSED_TAG

INGESTION = "/api/public/ingestion"
# What a mark must leave as it was (DESIGN section 3, G5).
KEPT = (
    "id",
    "name",
    "timestamp",
    "userId",
    "sessionId",
    "release",
    "version",
    "environment",
    "public",
    "bookmarked",
    "input",
    "output",
    "totalCost",
    "latency",
    "createdAt",
)


class RefusingSome:
    """A Langfuse that refuses the marks of some traces inside its 207, as long as it is told to."""

    def __init__(self, service, trace_ids):
        self.service, self.trace_ids = service, set(trace_ids)

    def handle(self, request):
        if request.path != INGESTION:
            return self.service.handle(request)
        batch = json.loads(request.body)["batch"]
        kept = [one for one in batch if not self._refuses(one)]
        refused = [one for one in batch if self._refuses(one)]
        answer = json.loads(self.service.handle(request_with(request, kept)).body)
        answer["errors"] += [{"id": one["id"], "status": 400, "message": "Invalid request data"} for one in refused]
        return Response(207, json.dumps(answer).encode(), {"content-type": "application/json"})

    def _refuses(self, one):
        return (one["body"].get("traceId") or one["body"]["id"]) in self.trace_ids


def request_with(request, batch):
    return type(request)(
        request.method, request.path, request.query, request.headers, json.dumps({"batch": batch}).encode()
    )


def is_marked(row):
    return PROCESSED_TAG in row["tags"] and row["metadata"].get("billing_status") == "processed"


# ---- what a mark is


def test_a_mark_is_a_tag_and_metadata_that_explain_the_bill(put, run, langfuse, stripe):
    """billing_status, meter_event_id, billing_details: credits and cost by component, margin, card, bucket, when."""
    put("t1", tags=["billing:pending", "team:a"])

    run()

    row = langfuse.trace(PROJECT, "t1")
    assert row["tags"] == ["billing:pending", "billing:processed", "team:a"]
    assert row["metadata"]["billing_status"] == "processed"
    assert row["metadata"]["meter_event_id"] == stripe.meter_events()[0].identifier
    details = row["metadata"]["billing_details"]
    assert float(details["credits"]) == CREDITS_OF_A_TRACE
    assert {name: float(part["credits"]) for name, part in details["components"].items()} == {"ai": 250, "compute": 250}
    assert {name: float(part["cost_usd"]) for name, part in details["components"].items()} == {
        "ai": 0.01,
        "compute": 0.01,
    }
    assert float(details["margin"]) == 1
    assert details["rate_card"]
    assert details["bucket"] == "2026-11-23T11:00:00.000Z"
    assert details["accepted_at"].startswith("2026-11-23T12:00:")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": None, "userId": None, "sessionId": None},
        {"sessionId": "s1", "release": "r1", "version": "v2", "environment": "staging"},
        {"public": True},
        {"input": {"q": 1}, "output": "a"},
        {"metadata": {"customerId": "cus_1", "deep": {"a": [1, 2]}, "text": "x"}},
        {"name": 'é☃ "quoted"', "userId": "用户"},
    ],
)
def test_a_mark_harms_nothing(put, run, langfuse, changes):
    """An upsert resets some fields, so they are sent again (facts/langfuse-observed.md item 8)."""
    put("t1", **changes)
    before = langfuse.trace(PROJECT, "t1")

    assert run().marks.written == 1

    after = langfuse.trace(PROJECT, "t1")
    assert is_marked(after)
    assert {key: after[key] for key in KEPT} == {key: before[key] for key in KEPT}
    assert {key: after["metadata"][key] for key in before["metadata"]} == before["metadata"]
    assert set(before["tags"]) <= set(after["tags"])


def test_a_bookmarked_trace_is_marked_by_score_and_keeps_its_bookmark(put, run, langfuse):
    """An upsert would lose the bookmark (facts/langfuse.md section 5.2)."""
    put("t1")
    langfuse.bookmark(PROJECT, "t1")
    before = langfuse.trace(PROJECT, "t1")

    run()

    after = langfuse.trace(PROJECT, "t1")
    assert after["bookmarked"] is True
    assert {key: after[key] for key in (*KEPT, "tags", "metadata")} == {
        key: before[key] for key in (*KEPT, "tags", "metadata")
    }
    (score,) = langfuse.scores(PROJECT, "t1")
    assert (score["name"], score["stringValue"], score["dataType"]) == ("billing_status", "processed", "CATEGORICAL")
    assert run(full=True).marks.written == 0


def test_marks_by_score_touch_no_trace(put, run, settings, langfuse):
    """BILLING_MARKS=score: one score each, with the same details, and no second one after a second run."""
    for number in range(3):
        put(f"t{number}")
    before = list(langfuse.traces(PROJECT))
    to = settings(BILLING_MARKS="score")

    assert run(to).marks.written == 3
    assert run(to, full=True).marks.written == 0

    for row, now in zip(before, langfuse.traces(PROJECT), strict=True):
        assert {key: now[key] for key in (*KEPT, "tags", "metadata")} == {
            key: row[key] for key in (*KEPT, "tags", "metadata")
        }
        (score,) = langfuse.scores(PROJECT, row["id"])
        assert score["timestamp"] == row["timestamp"]
        assert float(score["metadata"]["billing_details"]["credits"]) == CREDITS_OF_A_TRACE


def test_marks_are_written_in_batches(put, run, langfuse):
    """One request for many marks."""
    for number in range(250):
        put(f"t{number}", minutes_ago=20 + number % 90)

    assert run().marks.written == 250
    assert langfuse.counts()[f"POST {INGESTION}"] == 1


def test_batches_stay_below_the_servers_limit(put, run, settings, langfuse, monkeypatch):
    """Bodies of more than 4.5 MB are refused (facts/langfuse-observed.md item 19)."""
    monkeypatch.setattr("tallymark.marks.langfuse.BODY_BYTES_MAX", 10_000)
    counting = Counting(langfuse)
    for number in range(60):
        put(f"t{number}", name="n" * 500)

    assert run(settings(read_from=counting)).marks.written == 60
    sizes = [len(request.body) for request in counting.seen if request.path == INGESTION]
    assert len(sizes) > 4
    assert max(sizes) <= 10_020


def test_a_trace_that_went_into_the_carry_is_marked_too(put, run, langfuse):
    """It is processed, with no meter event of its own."""
    put("t1", cost="0.00001", seconds=0)

    assert run().processed == 1
    row = langfuse.trace(PROJECT, "t1")
    assert is_marked(row)
    assert row["metadata"]["meter_event_id"] == "carry"


def test_a_mark_says_no_prompt(put, run, settings, langfuse):
    """Nothing of input or output is in any request that tallymark sends (G7)."""
    counting = Counting(langfuse)
    put("t1", input="the secret prompt", output="the secret prompt")

    run(settings(read_from=counting))

    assert all(b"secret prompt" not in request.body for request in counting.seen)


def test_an_adjusted_trace_is_marked_anew(put, run, langfuse):
    """The details follow the money."""
    put("t1")
    run()
    put("t1", cost="0.03")
    run()

    assert float(langfuse.trace(PROJECT, "t1")["metadata"]["billing_details"]["credits"]) == 2 * CREDITS_OF_A_TRACE


# ---- marks that fail, or get lost


def test_refused_marks_inside_a_207_are_counted_and_written_by_the_next_run(put, run, settings, langfuse, look):
    """A 207 is looked into; the money is not touched by it."""
    refusing = RefusingSome(langfuse, ["t1", "t3"])
    for number in range(5):
        put(f"t{number}")
    to = settings(read_from=refusing)

    summary = run(to)
    assert (summary.processed, summary.marks.written, summary.marks.failed) == (5, 3, 2)
    assert summary.exit_status == 1
    assert look("select distinct mark_problem from trace where mark_state = 'owed'") == [("400 Invalid request data",)]

    refusing.trace_ids.clear()
    summary = run(to)
    assert (summary.processed, summary.marks.written, summary.marks.failed) == (0, 2, 0)
    assert all(is_marked(row) for row in langfuse.traces(PROJECT))


def test_marks_that_were_lost_are_written_again(put, run, langfuse, clock, stripe):
    """The server said 207 and dropped it: after thirty seconds an unseen mark is lost, and no money moves."""
    for number in range(3):
        put(f"t{number}")
    run()
    langfuse.delete_trace(PROJECT, "t1")
    put("t1")

    assert run().marks.written == 0
    clock.advance(60)
    summary = run()

    assert (summary.marks.written, summary.healed, summary.processed) == (1, 1, 0)
    assert is_marked(langfuse.trace(PROJECT, "t1"))
    assert stripe.tally() == {("cus_1", "credits"): 3 * CREDITS_OF_A_TRACE}


def test_marks_that_cannot_be_seen_yet_are_not_written_twice(clock, run, settings):
    """A write is seen after five to sixteen seconds (facts/langfuse-observed.md item 15)."""
    slow = SandboxLangfuse(clock=clock, visibility_seconds=16)
    trace, observations = ingested("t1")
    slow.put_trace(PROJECT, trace, observations)
    to = settings(read_from=slow)

    assert run(to).marks.written == 1
    assert not is_marked(slow.trace(PROJECT, "t1"))
    assert run(to).marks.written == 0
    clock.advance(40)
    assert run(to).marks.written == 0
    assert is_marked(slow.trace(PROJECT, "t1"))


@pytest.mark.parametrize(
    "half", [{"tags": ["billing:processed"]}, {"metadata": {"customerId": "cus_1", "billing_status": "processed"}}]
)
def test_a_half_marked_trace_is_completed_and_not_billed(put, run, langfuse, stripe, half):
    """Somebody's script crashed between tag and metadata: healed, once."""
    put("t1", **half)

    summary = run()
    assert (summary.skipped["already_processed"], summary.healed, summary.marks.written) == (1, 1, 1)
    assert is_marked(langfuse.trace(PROJECT, "t1"))
    assert stripe.meter_events() == []

    again = run()
    assert (again.healed, again.marks.written) == (0, 0)


def test_a_half_mark_keeps_what_the_other_half_says(put, run, langfuse):
    """Details that another tool wrote are left alone."""
    put(
        "t1",
        metadata={
            "customerId": "cus_1",
            "billing_status": "processed",
            "meter_event_id": "theirs",
            "billing_details": {"a": 1},
        },
    )

    run()

    assert langfuse.trace(PROJECT, "t1")["metadata"]["meter_event_id"] == "theirs"
    assert langfuse.trace(PROJECT, "t1")["metadata"]["billing_details"] == {"a": 1}


def test_marks_owed_are_written_even_if_nothing_is_read(put, run, settings, langfuse, clock):
    """Outside of every window: the ledger knows what is owed."""
    refusing = RefusingSome(langfuse, ["t1"])
    put("t1")
    to = settings(read_from=refusing)
    run(to)
    refusing.trace_ids.clear()
    clock.advance(10 * 86_400)

    summary = run(to, from_us=clock.now_us() - DAY_US)

    assert (summary.fetched, summary.marks.written) == (0, 1)


def test_marks_are_no_source_of_truth(put, run, langfuse, clock, stripe):
    """All marks gone, everything read again: nothing is billed twice, everything is marked again."""
    for number in range(5):
        put(f"t{number}")
    run()
    for number in range(5):
        langfuse.delete_trace(PROJECT, f"t{number}")
        put(f"t{number}", tags=[])
    clock.advance(60)

    summary = run(full=True)

    assert (summary.processed, summary.healed, summary.untagged) == (0, 5, 5)
    assert stripe.tally() == {("cus_1", "credits"): 5 * CREDITS_OF_A_TRACE}
    assert all(is_marked(row) for row in langfuse.traces(PROJECT))
