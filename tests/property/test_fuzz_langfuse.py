"""Whatever Langfuse answers: each row ends as something that is shown, the rows beside it are billed, nothing crashes.

Rows are those that real servers were recorded to give, with parts of them replaced, moved or taken away.
"""

import contextlib
import tempfile
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observation_services import ObservationPages, observation
from stub_services import Answers, Pages, row

from builders import CREDITS_OF_A_TRACE, NOW_US
from fuzzing import ANY_JSON, as_text, examples, mutated, recorded_rows
from tallymark import config
from tallymark.errors import TallymarkError
from tallymark.flows.sync import sync
from tallymark.remote.langfuse import UNREADABLE, LangfuseClient, _decoded, _RateLimited
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response
from tallymark.source import observations, rows, scores
from tallymark.source.probe import probe, server_version

TRACES = [row("bad"), *recorded_rows("/api/public/traces")]
OBSERVATIONS = [observation("bad", "bad"), *recorded_rows("/api/public/v2/observations")]
ANY_BYTES = st.binary(max_size=200) | ANY_JSON.map(lambda value: as_text(value).encode())


class Traces(Pages):
    """A page of traces, and no scores."""

    def handle(self, request):
        """The page, for traces only."""
        if request.path.endswith("/scores"):
            return Response(200, b'{"data":[],"meta":{}}', {"content-type": "application/json"})
        return super().handle(request)


def synced(service, folder):
    """A run over a service that is made by hand; its summary and Stripe's tally."""
    stripe = SandboxStripe(clock=VirtualClock(NOW_US))
    stripe.add_meter("credits")
    with serve(service) as langfuse, serve(stripe) as billing:
        settings = config.load(
            None,
            {
                "LANGFUSE_BASE_URL": langfuse.url,
                "LANGFUSE_PUBLIC_KEY": "pk",
                "LANGFUSE_SECRET_KEY": "sk",
                "STRIPE_API_BASE": billing.url,
                "STRIPE_SECRET_KEY": "sk_test_sandbox",
                "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000000",
                "BILLING_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3",
                "BILLING_MARKS": "score",
            },
        )
        summary = sync(settings, clock=VirtualClock(NOW_US))
    return summary, stripe.tally()


def counted(summary):
    """How many traces have an outcome."""
    return summary.processed + summary.failed + sum(summary.skipped.values()) + sum(summary.held.values())


@examples(25)
@given(mutated(TRACES))
def test_a_trace_of_any_shape_is_counted_and_the_others_are_billed(bad):
    """Billed, held, skipped or failed: the numbers of the run add up to three."""
    good = [row(trace_id, metadata={"customerId": "cus_good"}) for trace_id in ("good-1", "good-2")]
    with tempfile.TemporaryDirectory() as folder:
        summary, tally = synced(Traces([good[0], as_text(bad), good[1]]), folder)

    assert tally["cus_good", "credits"] >= 2 * CREDITS_OF_A_TRACE
    assert counted(summary) == 3, summary
    assert summary.processed >= 2


@examples(25)
@given(mutated(OBSERVATIONS))
def test_an_observation_of_any_shape_is_counted_and_the_others_are_billed(bad):
    """Also where it says that it belongs to one of the good traces: then that one has the problem."""
    good = [observation("good-1", "good-1"), observation("good-2", "good-2")]
    with tempfile.TemporaryDirectory() as folder:
        summary, tally = synced(ObservationPages([good[0], as_text(bad), good[1]]), folder)

    assert counted(summary) == 3 or bad.get("traceId") in ("good-1", "good-2"), summary
    assert summary.processed >= 1
    assert tally["cus_1", "credits"] >= CREDITS_OF_A_TRACE


@examples(200)
@given(st.lists(mutated(TRACES), max_size=3))
def test_every_row_of_a_page_of_traces_is_kept_or_named(bad):
    """No row vanishes, and the good one reads as it does alone."""
    body = f'{{"data":[{",".join([as_text(row("good")), *map(as_text, bad)])}],"meta":{{"totalItems":4}}}}'.encode()
    page = _decoded(body, rows.decode_page)

    assert len(page.traces) + len(page.unreadable) == page.rows == 1 + len(bad)
    assert page.traces[0].trace_id == "good"
    assert page.traces[0].units[0].cost_usd == Decimal("0.01")
    assert all(isinstance(trace.timestamp_us, int) and trace.trace_id for trace in page.traces)


@examples(200)
@given(st.lists(mutated(OBSERVATIONS), max_size=3))
def test_every_row_of_a_page_of_observations_is_kept_or_named(bad):
    """Each is a unit of a reading, or has no identity and is named; the synthetic row is no usage."""
    mine = [as_text(observation("good", "t-good")), *map(as_text, bad)]
    body = f'{{"data":[{",".join(mine)}],"meta":{{"cursor":null}}}}'.encode()
    page = _decoded(body, lambda whole: observations.decode_page(observations._with_cursor(whole)[0]))

    units = [unit for reading in page.readings for unit in reading.units]
    assert page.rows == 1 + len(bad)
    assert 1 <= len(units) + len(page.unreadable) <= page.rows
    assert any(unit.unit_id == "good" and unit.cost_usd == Decimal("0.01") for unit in units)


@examples(300)
@given(ANY_BYTES)
def test_any_bytes_are_a_page_or_none(body):
    """None means an error that the client names; never another one."""
    for decode in (rows.decode_page, observations.decode_page, scores._decode, observations._with_cursor):
        with contextlib.suppress(*UNREADABLE):
            _decoded(body, decode)


@examples(300)
@given(
    ANY_BYTES | ANY_JSON.map(lambda value: as_text({"message": value, "error": value}).encode()),
    st.integers(203, 599),
    st.sampled_from(["", "0", "-5", "nan", "inf", "1e999", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "٣"]),
)
def test_any_error_body_is_an_error_of_ours(body, status, retry_after):
    """With a wait that a clock can wait for."""
    client = LangfuseClient("http://langfuse.invalid", "pk", "sk", VirtualClock(NOW_US))
    error = client._error_of("GET", "http://langfuse.invalid/x", status, {"retry-after": retry_after}, body)

    assert isinstance(error, TallymarkError | _RateLimited)
    str(error).encode()
    if isinstance(error, _RateLimited):
        assert 0.2 <= error.retry_after_seconds <= 300


BODIES = (b"", b"null", b"[]", b'{"version":5}', b'{"version":"\xff"}', b'{"version":""}', b"[" * 5000, b"<p>")


@pytest.mark.parametrize("status", [200, 302, 404, 422])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_any_answer_to_the_first_questions(status, body):
    """A proxy's page, a login, another service: an error of ours or a value."""
    with serve(Answers(status, body)) as served:
        client = LangfuseClient(served.url, "pk", "sk", VirtualClock(NOW_US))
        for ask in (server_version, lambda asked: probe(asked, "4.16.0", NOW_US)):
            with contextlib.suppress(TallymarkError):
                ask(client)
