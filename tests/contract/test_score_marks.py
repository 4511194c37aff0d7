"""Marks by score: what is written, in which form, and that none is forgotten that the server refused or lost."""

import json
from collections import Counter

import pytest
from observation_services import JSON
from stub_services import Counting

from builders import NOW_US, PROJECT, ingested
from tallymark.core.clock import MINUTE_US, SECOND_US, format_time
from tallymark.core.ids import score_id
from tallymark.marks import langfuse as marks
from tallymark.marks import scores as score_marks
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.wire import Response

INGESTION, SCORES = "/api/public/ingestion", "/api/public/scores"
TRACES = 9


@pytest.fixture(params=["object", "list"])
def scores_api(request):
    """The form of POST /scores that the server takes."""
    return request.param


@pytest.fixture
def langfuse(scores_api, clock):
    """An events_only sandbox, with POST /scores in both of its forms."""
    return SandboxLangfuse(clock=clock, generation="events_only", scores_api=scores_api)


@pytest.fixture
def fill(put):
    """A function that writes billable traces; returns their ids."""

    def write(count=TRACES, **changes):
        ids = [f"t{number:04d}" for number in range(count)]
        for number, trace_id in enumerate(ids):
            put(trace_id, at_us=NOW_US - 60 * MINUTE_US - number * SECOND_US, **changes)
        return ids

    return write


@pytest.fixture
def marked(langfuse):
    """A function that gives how many scores each trace has; a trace without one is left out."""

    def read(ids):
        return +Counter({trace_id: len(langfuse.scores(PROJECT, trace_id)) for trace_id in ids})

    return read


class NoScoresByIngestion:
    """A server that refuses scores by ingestion: the whole request, or each of them inside its 207."""

    def __init__(self, service, status):
        self.service, self.status = service, status

    def handle(self, request):
        if request.path != INGESTION:
            return self.service.handle(request)
        if self.status != 207:
            return Response(self.status, b'{"message":"This endpoint is not available"}', JSON)
        message = {"status": 400, "message": "Event type not accepted", "error": "is not accepted here"}
        errors = [{"id": one["id"], **message} for one in json.loads(request.body)["batch"]]
        return Response(207, json.dumps({"successes": [], "errors": errors}).encode(), JSON)


class Picky:
    """A server without scores by ingestion that refuses the scores of some traces, as long as it is told to."""

    def __init__(self, service, trace_ids):
        self.service, self.trace_ids, self.posted = NoScoresByIngestion(service, 404), set(trace_ids), []

    def handle(self, request):
        if request.path != SCORES or request.method != "POST":
            return self.service.handle(request)
        self.posted.append(request)
        given = json.loads(request.body)
        if isinstance(given, list):
            # What the real server rejects is a score without a value; it does not say which (facts section 5.4).
            given = [{**one, "value": None} if one["traceId"] in self.trace_ids else one for one in given]
        elif given["traceId"] in self.trace_ids:
            given = {**given, "value": None}
        return self.service.handle(
            type(request)("POST", SCORES, request.query, request.headers, json.dumps(given).encode())
        )


class Dropping:
    """A server that says that it took the scores of some traces, and drops them."""

    def __init__(self, service, trace_ids):
        self.service, self.trace_ids = service, set(trace_ids)

    def handle(self, request):
        if request.path != INGESTION:
            return self.service.handle(request)
        batch = json.loads(request.body)["batch"]
        kept = [one for one in batch if one["body"]["traceId"] not in self.trace_ids]
        answer = self.service.handle(
            type(request)("POST", INGESTION, request.query, request.headers, json.dumps({"batch": kept}).encode())
        )
        said = json.loads(answer.body)
        said["successes"] += [{"id": one["id"], "status": 201} for one in batch if one not in kept]
        return Response(207, json.dumps(said).encode(), JSON)


# ---- what a score says


def test_a_score_explains_the_bill(run, langfuse, stripe):
    """Id of the trace's own, name, value, time and environment of the trace; meter event and credits as metadata."""
    trace, [generation] = ingested("t1", minutes_ago=90)
    langfuse.put_trace(PROJECT, trace, [{**generation, "environment": "staging"}])

    assert run().marks.written == 1

    [score] = langfuse.scores(PROJECT, "t1")
    assert score["id"] == score_id(PROJECT, "t1")
    assert (score["name"], score["stringValue"], score["dataType"]) == ("billing_status", "processed", "CATEGORICAL")
    assert (score["timestamp"], score["environment"]) == (format_time(NOW_US - 90 * MINUTE_US), "staging")
    assert score["metadata"]["meter_event_id"] == stripe.meter_events()[0].identifier
    assert float(score["metadata"]["billing_details"]["credits"]) == 500


def test_the_id_of_a_score_depends_on_project_and_trace_only():
    """So that writing it again, from anywhere, leaves one."""
    ids = {score_id(project, trace) for project in ("p", "q", "pq") for trace in ("t", "u", "qt", "")}

    assert len(ids) == 12
    assert score_id("p", "t") == score_id("p", "t")


def test_an_adjusted_trace_has_one_score_with_the_new_credits(put, run, langfuse):
    """Written again with the same id: the newest stands."""
    put("t1")
    run()
    put("t1", cost="0.02")

    assert run().adjusted == 1
    [score] = langfuse.scores(PROJECT, "t1")
    assert float(score["metadata"]["billing_details"]["credits"]) == 750


def test_no_score_before_the_money(fill, run, settings, stripe, marked):
    """Nothing is marked that Stripe has not accepted (G5)."""
    ids = fill()
    refusing = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.endswith("meter_events"))

    assert run(settings(stripe_faults=refusing)).marks.written == 0
    assert (marked(ids), stripe.tally()) == ({}, {})
    run()
    assert marked(ids) == dict.fromkeys(ids, 1)


# ---- the form is chosen by what the server takes


@pytest.mark.parametrize("status", [400, 404, 207])
def test_a_server_without_scores_by_ingestion_gets_them_by_post(status, fill, run, settings, langfuse, marked, clock):
    """As a list, or one by one where a list is refused: every trace ends with its one score."""
    ids = fill()
    counting = Counting(NoScoresByIngestion(langfuse, status))

    summary = run(settings(read_from=counting))

    assert (summary.marks.written, summary.marks.failed) == (TRACES, 0)
    assert marked(ids) == dict.fromkeys(ids, 1)
    for trace_id in ids:
        [score] = langfuse.scores(PROJECT, trace_id)
        assert (score["id"], score["stringValue"]) == (score_id(PROJECT, trace_id), "processed")
        assert score["metadata"]["meter_event_id"]
    asked = Counter(request.path for request in counting.seen if request.method == "POST")
    assert asked[INGESTION] == 1
    assert asked[SCORES] in (1, 1 + TRACES)


def test_the_list_form_dates_scores_like_their_traces(scores_api, fill, run, settings, langfuse):
    """Only the list can; one object is dated when it is written (facts/langfuse.md section 5.4)."""
    ids = fill()
    run(settings(read_from=NoScoresByIngestion(langfuse, 404)))

    dated = [langfuse.scores(PROJECT, trace_id)[0]["timestamp"] for trace_id in ids]
    if scores_api == "list":
        assert dated == [langfuse.trace(PROJECT, trace_id)["timestamp"] for trace_id in ids]
    else:
        assert {moment[:19] for moment in dated} == {format_time(NOW_US)[:19]}


def test_one_refused_score_does_not_stop_the_others(fill, run, settings, langfuse, marked, look):
    """A 207 with one rejected: only that one is refused, stays owed, and is written by the next run."""
    ids = fill()
    picky = Picky(langfuse, ids[3:4])

    summary = run(settings(read_from=picky))

    assert (summary.marks.written, summary.marks.failed) == (TRACES - 1, 1)
    assert marked(ids) == {trace_id: 1 for trace_id in ids if trace_id != ids[3]}
    assert look("select trace_id from trace where mark_state = 'owed' and mark_problem <> ''") == [(ids[3],)]

    picky.trace_ids = set()
    again = run(settings(read_from=picky))
    assert (again.marks.written, again.marks.failed, again.processed) == (1, 0, 0)
    assert marked(ids) == dict.fromkeys(ids, 1)


def test_all_scores_refused_stay_owed(fill, run, settings, langfuse, marked, stripe):
    """The money is right, the marks wait; and nothing is billed again."""
    ids = fill()
    picky = Picky(langfuse, ids)

    assert run(settings(read_from=picky)).marks.failed == TRACES
    assert run(settings(read_from=picky)).marks.failed == TRACES
    assert run().marks.written == TRACES
    assert marked(ids) == dict.fromkeys(ids, 1)
    assert stripe.tally() == {("cus_1", "credits"): TRACES * 500}


def test_a_207_with_errors_of_ingestion_is_no_success(fill, run, settings, langfuse, marked):
    """One invalid score among good ones: it alone stays owed."""
    ids = fill()

    class RefusingOne:
        """Answers for one of the traces that its score is not valid."""

        def handle(self, request):
            if request.path != INGESTION:
                return langfuse.handle(request)
            batch = json.loads(request.body)["batch"]
            bad = next(one for one in batch if one["body"]["traceId"] == ids[5])
            kept = json.dumps({"batch": [one for one in batch if one is not bad]}).encode()
            said = json.loads(langfuse.handle(type(request)("POST", INGESTION, (), request.headers, kept)).body)
            said["errors"].append({"id": bad["id"], "status": 400, "message": "Invalid request data"})
            return Response(207, json.dumps(said).encode(), JSON)

    summary = run(settings(read_from=RefusingOne()))

    assert (summary.marks.written, summary.marks.failed) == (TRACES - 1, 1)
    assert set(ids) - set(marked(ids)) == {ids[5]}
    assert run().marks.written == 1


def test_batches_stay_within_the_size_limits(fill, run, settings, langfuse, marked, monkeypatch):
    """4.5 MB by ingestion, 1 MiB by POST /scores: as many requests as that takes, every score once."""
    monkeypatch.setattr(marks, "BODY_BYTES_MAX", 20_000)
    monkeypatch.setattr(score_marks, "LIST_BYTES_MAX", 5_000)
    ids = fill(60)
    by_ingestion = Counting(langfuse)
    run(settings(read_from=by_ingestion))
    sizes = [len(request.body) for request in by_ingestion.seen if request.path == INGESTION]
    assert len(sizes) > 1
    assert max(sizes) <= 20_000 + 100
    assert marked(ids) == dict.fromkeys(ids, 1)


def test_lists_of_scores_stay_within_their_limit(fill, run, settings, langfuse, marked, monkeypatch):
    """POST /scores refuses more than 1 MiB (facts/langfuse.md section 5.4). What was refused is not tried again."""
    monkeypatch.setattr(marks, "BODY_BYTES_MAX", 10_000)
    monkeypatch.setattr(score_marks, "LIST_BYTES_MAX", 5_000)
    ids = fill(40)
    counting = Counting(NoScoresByIngestion(langfuse, 404))

    assert run(settings(read_from=counting)).marks.written == 40

    assert max(len(request.body) for request in counting.seen if request.path == SCORES) <= 5_000 + 100
    assert [request.path for request in counting.seen].count(INGESTION) == 1
    assert marked(ids) == dict.fromkeys(ids, 1)


# ---- lost marks


def test_scores_that_were_dropped_after_the_answer_are_written_by_a_full_run(
    fill, run, settings, langfuse, marked, clock
):
    """A 207 promises nothing (facts/langfuse.md section 5.1); --full compares with what the server lists."""
    ids = fill()
    dropping = Dropping(langfuse, ids[:4])
    to = settings(read_from=dropping)
    assert run(to).marks.written == TRACES
    assert set(marked(ids)) == set(ids[4:])
    dropping.trace_ids = set()
    clock.advance(60)

    assert run(to).marks.written == 0
    again = run(to, full=True)

    assert (again.marks.written, again.processed) == (4, 0)
    assert marked(ids) == dict.fromkeys(ids, 1)
    clock.advance(60)
    assert run(to, full=True).marks.written == 0


def test_scores_that_are_all_lost_are_written_again(fill, run, settings, langfuse, marked, clock):
    """Also when the server lists none at all, and so not even a project."""
    ids = fill()
    dropping = Dropping(langfuse, ids)
    to = settings(read_from=dropping)
    run(to)
    assert marked(ids) == {}
    dropping.trace_ids = set()
    clock.advance(60)

    assert run(to, full=True).marks.written == TRACES
    assert marked(ids) == dict.fromkeys(ids, 1)


def test_a_score_that_cannot_be_seen_yet_is_not_lost(clock, run, settings):
    """Langfuse shows a write only after some seconds (facts/langfuse-observed.md item 15)."""
    langfuse = SandboxLangfuse(clock=clock, generation="events_only", visibility_seconds=20)
    to = settings(read_from=langfuse)
    langfuse.put_trace(PROJECT, *ingested("t1"))
    assert run(to).marks.written == 1
    clock.advance(5)

    assert run(to, full=True).marks.written == 0
    clock.advance(600)
    assert run(to, full=True).marks.written == 0


def test_a_list_of_scores_that_never_ends_is_an_error(fill, run, settings, langfuse):
    """A cursor that repeats is told: what is not read to its end could be billed twice."""
    fill(2)
    run()

    class Circling:
        """Gives one page of scores over and over."""

        def handle(self, request):
            if not request.path.endswith("/v3/scores"):
                return langfuse.handle(request)
            query = tuple(pair for pair in request.query if pair[0] != "cursor")
            page = json.loads(langfuse.handle(type(request)("GET", request.path, query, request.headers)).body)
            return Response(200, json.dumps({**page, "meta": {"cursor": "again"}}).encode(), JSON)

    with pytest.raises(Exception, match="never ends"):
        run(settings(read_from=Circling()), full=True)


# ---- a server that is slow or in trouble


@pytest.mark.parametrize("way", ["ingestion", "post"])
def test_rate_limits_are_waited_out(way, fill, run, settings, langfuse, marked, clock):
    """429 with Retry-After, then every mark is written."""
    ids = fill()
    path = INGESTION if way == "ingestion" else SCORES
    service = langfuse if way == "ingestion" else NoScoresByIngestion(langfuse, 404)
    limited = Faults(
        0, {Fault.RATE_LIMITED: 1}, only=lambda request: request.path == path, limit=4, retry_after_seconds=9
    )
    before_us = clock.now_us()

    summary = run(settings(read_from=service, langfuse_faults=limited))

    assert (summary.marks.written, summary.marks.failed) == (TRACES, 0)
    assert clock.now_us() - before_us >= 4 * 9 * SECOND_US
    assert marked(ids) == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.ERROR_AFTER, Fault.TRUNCATED])
def test_an_answer_that_was_lost_leaves_one_score(fault, fill, run, settings, marked):
    """The request was carried out, then repeated: the id is the same."""
    ids = fill()
    faults = Faults(0, {fault: 1}, only=lambda request: request.path == INGESTION, limit=2)

    assert run(settings(langfuse_faults=faults)).marks.written == TRACES
    assert marked(ids) == dict.fromkeys(ids, 1)


def test_a_server_that_takes_no_marks_at_all_fails_no_bill(fill, run, settings, stripe, marked):
    """The run says how many marks failed; the next one writes them."""
    ids = fill()
    faults = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.method == "POST")

    summary = run(settings(langfuse_faults=faults))

    assert (summary.processed, summary.marks.failed) == (TRACES, TRACES)
    assert stripe.tally() == {("cus_1", "credits"): TRACES * 500}
    assert run().marks.written == TRACES
    assert marked(ids) == dict.fromkeys(ids, 1)
