"""A 500 that Stripe stores under an idempotency key and gives again for a day (facts/stripe.md section 6).

Every attempt has a key of its own and the same identifier, so it gets past the stored answer, and counts once.
"""

import pytest

from builders import CREDITS_OF_A_TRACE, PROJECT
from tallymark.sandbox.wire import Request

COUNTED = pytest.mark.parametrize("counted", [True, False])
FOR_LONG = 10_000
ONE_TRACE = {("cus_1", "credits"): CREDITS_OF_A_TRACE}
KEY = {"authorization": "Bearer sk_test_sandbox"}


def switch(stripe, verb):
    """Deactivate or reactivate the only meter."""
    assert stripe.handle(Request("POST", f"/v1/billing/meters/mtr_sandbox_0001/{verb}", (), KEY)).status == 200


def attempts(look):
    """The outcomes of all attempts, after a look at their keys."""
    (identifier,) = look("select meter_event_id from meter_event")[0]
    rows = look("select attempt, idempotency_key, outcome from attempt order by attempt")
    assert [key for _, key, _ in rows] == [f"{identifier}:{attempt}" for attempt, _, _ in rows]
    return [outcome for _, _, outcome in rows]


@COUNTED
def test_the_next_attempt_of_the_same_run_is_answered(put, run, stripe, look, counted):
    """Counted before the 500, it is a duplicate; else it is accepted."""
    put("t1")
    stripe.break_next(2, counted=counted)

    summary = run()

    assert attempts(look) == ["unknown"] * (1 if counted else 2) + ["duplicate" if counted else "accepted"]
    assert (summary.processed, summary.marks.written) == (1, 1)
    assert stripe.tally() == ONE_TRACE


@COUNTED
def test_a_run_that_meets_nothing_else_leaves_it_to_the_next(put, run, stripe, look, langfuse, counted):
    """Failed and not marked; the next run delivers it under the same identifier."""
    put("t1")
    stripe.break_next(FOR_LONG, counted=counted)
    summary = run()
    assert (summary.processed, summary.failed, summary.marks.written) == (int(counted), int(not counted), int(counted))
    stripe.break_next(0, counted=counted)

    summary = run()

    assert set(attempts(look)[:-1]) == {"unknown"}
    assert stripe.tally() == ONE_TRACE
    assert "billing:processed" in langfuse.trace(PROJECT, "t1")["tags"]


def test_one_that_was_refused_after_a_500_is_offered_again(put, run, stripe, look):
    """Not counted by the first attempt, refused by the second: accepted once the meter is active again."""
    put("t1")
    stripe.break_next(FOR_LONG, counted=False)
    run()
    switch(stripe, "deactivate")
    assert run().meter_events.rejected == 1
    switch(stripe, "reactivate")
    stripe.break_next(0, counted=False)

    assert run().processed == 1
    assert attempts(look)[-2:] == ["rejected", "accepted"]
    assert stripe.tally() == ONE_TRACE


@pytest.mark.parametrize("refused", [True, False])
def test_a_day_later_stripes_sums_decide(put, run, stripe, look, clock, refused):
    """Whether the last answer was a 500 or a refusal: it was not counted, so it is sent once."""
    put("t1")
    stripe.break_next(FOR_LONG, counted=False)
    run()
    if refused:
        switch(stripe, "deactivate")
        assert run().meter_events.rejected == 1
        switch(stripe, "reactivate")
    stripe.break_next(0, counted=False)
    clock.advance(24 * 3600)
    stripe.clear_requests()

    summary = run(full=True)

    assert (summary.processed, summary.meter_events.settled) == (1, 1)
    assert stripe.counts()["POST /v1/billing/meter_events"] == 1
    assert stripe.tally() == ONE_TRACE
