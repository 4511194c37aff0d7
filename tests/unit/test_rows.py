"""Rows of the trace list as traces: exact numbers, ids as text, and no bad row that spoils its page."""

import json
from decimal import Decimal

import msgspec
import pytest

from tallymark.core.clock import parse_time
from tallymark.source.rows import decode_page

ROW = {
    "id": "t1",
    "projectId": "project",
    "timestamp": "2026-11-23T11:00:00.000Z",
    "name": "chat",
    "tags": ["billing:pending", "team:a"],
    "metadata": {"customerId": "cus_1"},
    "totalCost": 0.01,
    "latency": 12,
}


def page_of(*rows, **top):
    return json.dumps({"data": rows, "meta": {"totalItems": len(rows)}, **top}).encode()


def read(**changes):
    """The trace of one row with some fields changed."""
    (trace,) = decode_page(page_of({**ROW, **changes})).traces
    return trace


def raw(**numbers):
    """The trace of one row whose numbers are written just so."""
    text = json.dumps({**ROW, **dict.fromkeys(numbers, "@")})
    for number in numbers.values():
        text = text.replace('"@"', number, 1)
    (trace,) = decode_page(b'{"data":[%s],"meta":{"totalItems":1}}' % text.encode()).traces
    return trace


def test_a_row_becomes_a_trace_with_one_unit():
    """Only what billing needs."""
    trace = read()

    assert (trace.project_id, trace.trace_id, trace.name) == ("project", "t1", "chat")
    assert trace.timestamp_us == parse_time("2026-11-23T11:00:00Z")
    assert (trace.units[0].cost_usd, trace.units[0].duration_s) == (Decimal("0.01"), Decimal(12))
    assert trace.tags == ("billing:pending",)
    assert trace.attributes == {"customerId": "cus_1"}


@pytest.mark.parametrize("number", ["0.1234567890123456789012345", "0.30000000000000004", "1e-12", "0", "7"])
def test_numbers_are_exact(number):
    """No float on the way."""
    assert raw(totalCost=number).units[0].cost_usd == Decimal(number)


@pytest.mark.parametrize("changes", [{"totalCost": -1, "latency": -1}, {"totalCost": None}, {"latency": None}])
def test_missing_metrics_are_a_problem_and_no_cost_of_zero(changes):
    """-1 means that the field group was not sent (facts/langfuse-observed.md item 2)."""
    unit = read(**changes).units[0]

    assert (unit.cost_usd, unit.duration_s) == (None, None)
    assert "field group metrics" in unit.problem


def test_a_row_without_metrics_at_all_is_a_problem():
    """The keys are gone."""
    row = {key: value for key, value in ROW.items() if key not in ("totalCost", "latency")}

    (trace,) = decode_page(page_of(row)).traces

    assert trace.units[0].problem


@pytest.mark.parametrize("number", ['"NaN"', '"sNaN"', '"Infinity"', '"-Infinity"'])
@pytest.mark.parametrize("name", ["totalCost", "latency"])
def test_a_number_that_is_none_is_a_problem(name, number):
    """Never compared, never billed."""
    assert "is not a number" in raw(**{name: number}).units[0].problem


@pytest.mark.parametrize("number", ["1e999", "1e99999999999999999999999", "-5", "9" * 400])
def test_huge_and_negative_numbers_get_through_to_rating(number):
    """As a number or as a problem, but never as an error."""
    unit = raw(totalCost=number).units[0]

    assert unit.problem or unit.cost_usd == Decimal(number)


@pytest.mark.parametrize(
    ("value", "text"), [(12345, "12345"), ("cus_1", "cus_1"), (" cus_1 ", "cus_1"), ("é☃", "é☃"), (True, "true")]
)
def test_ids_are_text(value, text):
    """Langfuse gives "12345" back as a number (facts/langfuse-observed.md item 7)."""
    assert read(metadata={"customerId": value}).attributes == {"customerId": text}


@pytest.mark.parametrize("value", [None, "", "  ", {"a": 1}, ["cus_1"], "x" * 501])
def test_what_is_no_id_is_none(value):
    """Absent, blank, structured or unreasonably long."""
    assert read(metadata={"customerId": value}).attributes == {}


@pytest.mark.parametrize("metadata", ["text", ["a", {"customerId": "x"}], 5, 1.5, True, None, {}])
def test_metadata_may_be_anything(metadata):
    """Then it says nothing about billing."""
    trace = read(metadata=metadata)

    assert trace.attributes == {}
    assert trace.units[0].cost_usd == Decimal("0.01")


def test_unknown_fields_are_ignored():
    """A newer server may say more."""
    page = decode_page(page_of({**ROW, "costDetails": {"x": [1]}, "new": None}, links={"next": 1}))

    assert len(page.traces) == 1


@pytest.mark.parametrize(
    ("tags", "metadata", "marked"),
    [
        ([], {}, ""),
        (["billing:pending"], {}, ""),
        (["billing:pending", "billing:processed"], {}, "tag"),
        ([], {"billing_status": "processed"}, "metadata"),
        ([], {"billing_status": "Processed"}, "metadata"),
        ([], {"billing_status": "pending"}, ""),
        (["billing:processed"], {"billing_status": "processed"}, "metadata,tag"),
        (["billing:processed "], {}, ""),
    ],
)
def test_how_a_trace_says_that_it_is_processed(tags, metadata, marked):
    """Tag, metadata or both; billing:pending beside billing:processed means nothing."""
    assert read(tags=tags, metadata=metadata).marked == marked


BAD = {
    "tags that are no list": {"tags": None},
    "a name that is a number": {"name": 5},
    "a cost that is text": {"totalCost": "much"},
    "public that is text": {"public": "yes"},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_a_bad_row_becomes_a_trace_with_a_problem(changes):
    """It is held, and the others are read as always."""
    page = decode_page(page_of({**ROW, "id": "good1"}, {**ROW, "id": "bad", **changes}, {**ROW, "id": "good2"}))

    problems = {trace.trace_id: bool(trace.units[0].problem) for trace in page.traces}
    assert problems == {"good1": False, "bad": True, "good2": False}
    assert (page.rows, page.unreadable) == (3, [])


@pytest.mark.parametrize(
    "changes",
    [{"id": None}, {"id": 7}, {"timestamp": "yesterday"}, {"timestamp": "2026-11-23T11:00:00"}, {"projectId": None}],
)
def test_a_row_without_identity_is_counted_and_spoils_nothing(changes):
    """There is no trace to hold: the run says that a row could not be read."""
    page = decode_page(page_of({**ROW, "id": "good"}, {**ROW, **changes}))

    assert [trace.trace_id for trace in page.traces] == ["good"]
    assert (page.rows, len(page.unreadable)) == (2, 1)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b'{"data":5,"meta":{}}', b'{"data":[]}', b'{"data":[{"id"'])
def test_what_is_no_page_is_refused(body):
    """As a decoding error, which the client turns into Garbled."""
    with pytest.raises(msgspec.MsgspecError):
        decode_page(body)


@pytest.mark.parametrize("trace_id", ["x" * 800, "é" * 800, "'; drop table entry; --", "a b\nc", "☃"])
def test_any_text_may_be_an_id(trace_id):
    """Ids have up to 800 characters."""
    assert read(id=trace_id).trace_id == trace_id


def test_prompts_are_dropped_undecoded():
    """input and output never become part of a trace (G7)."""
    secret = "the secret prompt"
    page = decode_page(page_of({**ROW, "input": {"messages": [secret]}, "output": secret, "metadata": {"p": secret}}))

    assert secret not in repr(page)
