"""What becomes of one trace: (reading, what the ledger knows) → outcome, reason, entries, marks (DESIGN section 5)."""

from dataclasses import replace
from decimal import Decimal

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT, bad_units, known_of, read_trace, settings_for
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.core.decisions import MarkState, Outcome
from tallymark.core.types import WHOLE_TRACE, Reason, Unit
from tallymark.flows.decide import Decider
from tallymark.rating.cards import card_text

OLD_MINUTES = 36 * 24 * 60
FUTURE_MINUTES = -60
WORTH_MICROS = CREDITS_OF_A_TRACE * CREDIT_MICROS
NOTHING = {"cost": "0", "seconds": "0"}


@pytest.fixture
def decider(tmp_path):
    """A function that makes the decider of a run with some settings; it believes that nothing was billed before."""

    def make(run_id="run-2", billed=None, only_pending=False, cards=None, **changes):
        settings = settings_for(tmp_path, **changes)
        texts = {settings.rate_card.digest: card_text(settings.rate_card), **(cards or {})}
        by_score = settings.marks == "score"
        return Decider(settings, run_id, NOW_US, lambda key: billed or {}, texts, only_pending, by_score)

    return make


# ---- a trace that nobody has billed


def test_a_trace_with_usage_is_charged(decider):
    """One charge on the default meter, in its customer's hour; the mark waits for the money."""
    decision = decider()(read_trace(), None)

    (line,) = decision.entries
    assert (decision.result, decision.outcome, decision.mark_state) == ("processed", "billed", "waiting")
    assert (line.kind, line.meter, line.customer_id, line.amount_micros) == ("charge", "credits", "cus_1", WORTH_MICROS)
    assert (line.bucket_start_us, line.bucket_end_us, line.bucket_key) == (NOW_US - HOUR_US, NOW_US, "")
    assert not decision.untagged
    assert not decision.healed


# Where several reasons apply, the first counts (DESIGN section 5).
REASONS = {
    Reason.ALREADY_PROCESSED: {"marked": "metadata,tag"},
    Reason.FUTURE_TIMESTAMP: {"minutes_ago": FUTURE_MINUTES},
    Reason.UNRATED: {"units": bad_units()},
    Reason.NO_BILLABLE_USAGE: NOTHING,
    Reason.UNPRICED: {"cost": "0", "unpriced": True},
    Reason.TOO_OLD: {"minutes_ago": OLD_MINUTES},
    Reason.NO_CUSTOMER: {"customer": None},
}
OUTCOMES = {
    Reason.ALREADY_PROCESSED: Outcome.SKIPPED,
    Reason.FUTURE_TIMESTAMP: Outcome.SKIPPED,
    Reason.NO_BILLABLE_USAGE: Outcome.SKIPPED,
}
# No trace can be in the future and too old, or without usage and with unpriced tokens.
IMPOSSIBLE = {
    (Reason.FUTURE_TIMESTAMP, Reason.TOO_OLD),
    (Reason.UNRATED, Reason.NO_BILLABLE_USAGE),
    (Reason.UNRATED, Reason.UNPRICED),
    (Reason.NO_BILLABLE_USAGE, Reason.UNPRICED),
}
PAIRS = [(first, second) for at, first in enumerate(REASONS) for second in list(REASONS)[at + 1 :]]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_alone(decider, reason):
    """Skipped or held, with a sentence, no entry, and nothing billed."""
    decision = decider()(read_trace(**REASONS[reason]), None)

    assert (decision.result, decision.reason) == (reason, reason)
    assert decision.outcome == OUTCOMES.get(reason, Outcome.HELD)
    assert decision.detail
    assert decision.entries == ()
    assert decision.billed_micros == 0


@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if pair not in IMPOSSIBLE])
def test_of_two_reasons_the_first_counts(decider, first, second):
    """already processed, future, unrated, no usage, unpriced, too old, no customer: in this order."""
    trace = read_trace(**{**REASONS[second], **REASONS[first]})

    assert decider()(trace, None).result == first


@pytest.mark.parametrize("minutes_ago", [0, -5, -4.99])
def test_clocks_may_differ_by_five_minutes(decider, minutes_ago):
    """Up to 300 s ahead is not the future."""
    assert decider()(read_trace(minutes_ago=minutes_ago), None).result == "processed"


def test_more_than_five_minutes_ahead_is_the_future(decider):
    """A millisecond more is skipped, and seen again next time."""
    trace = read_trace(timestamp_us=NOW_US + 300 * SECOND_US + 1000)

    assert decider()(trace, None).result == Reason.FUTURE_TIMESTAMP


@pytest.mark.parametrize(("minutes_less", "result"), [(6, "processed"), (4, Reason.TOO_OLD)])
def test_too_old_leaves_a_margin_for_the_way(decider, minutes_less, result):
    """35 days less five minutes, so that Stripe still takes it when it gets there."""
    trace = read_trace(timestamp_us=NOW_US - 35 * DAY_US + minutes_less * MINUTE_US)

    assert decider()(trace, None).result == result


def test_a_held_trace_tells_what_it_is_worth(decider):
    """A person sees what is at stake."""
    decision = decider()(read_trace(customer=None), None)

    assert (decision.worth_micros, decision.billed_micros) == (WORTH_MICROS, 0)


def test_an_untagged_trace_is_billed_and_counted_as_healed(decider):
    """Tags are a convenience: a trace that missed them is billed all the same."""
    decision = decider()(read_trace(tags=()), None)

    assert decision.result == "processed"
    assert decision.untagged
    assert decision.healed
    assert len(decision.entries) == 1


@pytest.mark.parametrize(
    ("tags", "result"), [((), Reason.FILTERED), (("billing:pending",), "processed"), (None, "processed")]
)
def test_with_tag_filtering_only_pending_traces_are_billed(decider, tags, result):
    """The check in memory still runs."""
    assert decider(only_pending=True)(read_trace(tags=tags), None).result == result


def test_components_may_go_to_meters_of_their_own(decider):
    """One line for each meter."""
    make = decider()
    make.config = replace(make.config, meters={"compute": "compute_credits"})

    lines = make(read_trace(), None).entries

    assert {line.meter: line.amount_micros for line in lines} == {
        "credits": WORTH_MICROS // 2,
        "compute_credits": WORTH_MICROS // 2,
    }


@pytest.mark.parametrize(
    ("bucket", "width_us", "key"),
    [("minute", MINUTE_US, ""), ("hour", HOUR_US, ""), ("day", DAY_US, ""), ("trace", SECOND_US, f"{PROJECT}/t1")],
)
def test_every_line_lies_in_its_bucket(decider, bucket, width_us, key):
    """In the trace's own time."""
    trace = read_trace(timestamp_us=NOW_US - 12_345_678_000)

    (line,) = decider(BILLING_METER_BUCKET=bucket)(trace, None).entries

    assert line.bucket_start_us <= trace.timestamp_us < line.bucket_end_us
    assert line.bucket_start_us % width_us == 0
    assert line.bucket_end_us - line.bucket_start_us == width_us
    assert line.bucket_key == key


# ---- a held or skipped trace, read again


@pytest.mark.parametrize("outcome", [Outcome.HELD, Outcome.SKIPPED])
def test_what_was_held_or_skipped_is_billed_once_its_reason_is_gone(decider, outcome):
    """A price that was added, a customer that was mapped, a time that has come."""
    trace = read_trace()
    before = known_of(trace, outcome=outcome, reason="unpriced", billed_micros=0, mark_state="")

    decision = decider()(trace, before)

    assert decision.result == "processed"
    assert [line.kind for line in decision.entries] == ["charge"]


# ---- a trace that the ledger billed


def test_a_billed_trace_is_billed_once(decider):
    """Nothing new: only the fact that it was read is stored."""
    trace = read_trace(marked="metadata,tag")

    decision = decider()(trace, known_of(trace))

    assert (decision.result, decision.worth_micros, decision.entries) == (Reason.ALREADY_PROCESSED, None, ())
    assert decision.mark_state == MarkState.WRITTEN
    assert not decision.healed


def test_the_ledger_has_the_word_even_if_every_mark_is_gone(decider):
    """A trace without marks that the ledger billed is not billed again; its marks are."""
    trace = read_trace(tags=())

    decision = decider()(trace, known_of(trace))

    assert (decision.result, decision.entries) == (Reason.ALREADY_PROCESSED, ())
    assert decision.mark_state == MarkState.OWED
    assert decision.healed
    assert decision.untagged


def test_money_on_its_way_is_not_already_processed(decider):
    """A trace whose meter event was not accepted by the run before is still to be processed by this one."""
    trace = read_trace()

    decision = decider()(trace, known_of(trace, mark_state=MarkState.WAITING))

    assert (decision.result, decision.mark_state, decision.entries) == ("processed", MarkState.WAITING, ())


@pytest.mark.parametrize("marked", ["", "tag", "metadata"])
def test_a_lost_or_half_mark_is_owed_again(decider, marked):
    """Thirty seconds after it was written, a mark that cannot be seen is lost."""
    trace = read_trace(marked=marked)

    decision = decider()(trace, known_of(trace, mark_written_at_us=NOW_US - 31 * SECOND_US))

    assert (decision.mark_state, decision.healed) == (MarkState.OWED, True)


def test_a_mark_of_a_moment_ago_is_not_lost(decider):
    """Langfuse shows a write only after 5 to 16 seconds (facts/langfuse-observed.md item 15)."""
    trace = read_trace()

    decision = decider()(trace, known_of(trace, mark_written_at_us=NOW_US - 30 * SECOND_US))

    assert (decision.mark_state, decision.healed) == (MarkState.WRITTEN, False)


@pytest.mark.parametrize(
    ("changes", "marks"), [({"bookmarked": True}, "auto"), ({"marked": "score"}, "auto"), ({}, "score")]
)
def test_a_mark_by_score_is_not_missed_on_the_trace(decider, changes, marks):
    """The trace list does not show scores: their absence there says nothing."""
    trace = read_trace(**changes)

    decision = decider(BILLING_MARKS=marks)(trace, known_of(trace))

    assert (decision.mark_state, decision.healed) == (MarkState.WRITTEN, False)


def test_late_usage_is_an_adjustment_upwards(decider):
    """An observation that came late: the difference is a line of its own, in the trace's own bucket."""
    trace = read_trace(cost="0.03")
    before = known_of(read_trace())

    decision = decider(billed={"credits": WORTH_MICROS})(trace, before)

    (line,) = decision.entries
    assert (line.kind, line.amount_micros, line.customer_id) == ("adjustment", WORTH_MICROS, "cus_1")
    assert (line.bucket_start_us, line.bucket_end_us) == (NOW_US - HOUR_US, NOW_US)
    assert (decision.result, decision.adjusted, decision.mark_state) == ("processed", True, MarkState.WAITING)
    assert decision.billed_micros == 2 * WORTH_MICROS


def test_a_bill_is_lowered_only_when_a_wide_reading_confirms_it(decider):
    """A lower reading may have cut off early observations (facts/langfuse-observed.md item 5)."""
    trace, before = read_trace(cost="0"), known_of(read_trace())
    make = decider(billed={"credits": WORTH_MICROS})

    assert make(trace, before).entries == ()
    assert list(make.shrunk) == [(PROJECT, "t1")]

    make.confirmed = set(make.shrunk)
    (line,) = make(trace, before).entries
    assert (line.kind, line.amount_micros) == ("adjustment", -WORTH_MICROS // 2)


def test_late_usage_that_stripe_would_refuse_as_too_old_is_an_adjustment_in_its_own_bucket(decider):
    """The charge stays; gathering holds the difference, which is never re-dated by itself (G3)."""
    trace, before = (read_trace(cost=cost, minutes_ago=OLD_MINUTES) for cost in ("0.03", "0.01"))

    decision = decider(billed={"credits": WORTH_MICROS})(trace, known_of(before))

    (line,) = decision.entries
    assert (decision.result, decision.outcome, line.kind) == ("processed", Outcome.BILLED, "adjustment")
    assert (line.amount_micros, line.timestamp_us) == (WORTH_MICROS, before.timestamp_us)


def test_a_bill_of_long_ago_may_still_be_lowered(decider):
    """What is given back goes into the carry, not to Stripe, so its age does not matter."""
    trace, before = (read_trace(cost=cost, minutes_ago=OLD_MINUTES) for cost in ("0", "0.01"))
    make = decider(billed={"credits": WORTH_MICROS})
    make.confirmed = {(PROJECT, "t1")}

    assert [line.amount_micros for line in make(trace, known_of(before)).entries] == [-WORTH_MICROS // 2]


def test_the_other_row_of_a_trace_on_two_dates_never_lowers_the_bill(decider):
    """ClickHouse keeps two rows of one id on two dates; the smaller one is the same trace, not a cheaper one."""
    trace = read_trace(cost="0", minutes_ago=3 * 24 * 60)
    make = decider(billed={"credits": WORTH_MICROS})

    decision = make(trace, known_of(read_trace()))

    assert (decision.entries, make.shrunk) == ((), {})


def test_the_larger_row_of_a_trace_on_two_dates_adjusts_in_the_first_rows_bucket(decider):
    """Nothing is re-dated."""
    trace = read_trace(cost="0.03", minutes_ago=3 * 24 * 60)

    decision = decider(billed={"credits": WORTH_MICROS})(trace, known_of(read_trace()))

    (line,) = decision.entries
    assert line.bucket_start_us == NOW_US - HOUR_US
    assert decision.trace.timestamp_us == NOW_US - HOUR_US


def test_a_new_rate_card_never_changes_what_was_billed(decider):
    """Unchanged usage is not even rated again."""
    trace = read_trace(marked="metadata,tag")

    decision = decider(BILLING_MARGIN_MULTIPLIER="2")(trace, known_of(trace))

    assert decision.entries == ()


def test_changed_usage_is_rated_by_the_card_it_was_billed_by(decider):
    """The difference is at the old price."""
    old = decider().config.rate_card
    make = decider(BILLING_MARGIN_MULTIPLIER="2", billed={"credits": WORTH_MICROS}, cards={old.digest: card_text(old)})

    decision = make(read_trace(cost="0.03"), known_of(read_trace(), card_digest=old.digest))

    assert [line.amount_micros for line in decision.entries] == [WORTH_MICROS]
    assert decision.entries[0].card_digest == old.digest


def test_our_own_marks_are_no_change_of_usage(decider):
    """Metadata that tallymark wrote itself is no part of what rating reads."""
    before = read_trace()
    marks = {"billing_status": "processed", "meter_event_id": "tm-1"}
    after = replace(before, attributes={**before.attributes, **marks}, marked="metadata,tag")

    assert decider()(after, known_of(before)).worth_micros is None


def test_ownership_that_changes_later_is_an_adjustment(decider):
    """The customer's own keys: AI credits are given back, time stays billed."""
    trace = read_trace(attributes={"customerId": "cus_1", "aiCredentialsOwnership": "user"})
    make = decider(billed={"credits": WORTH_MICROS})
    make.confirmed = {(PROJECT, "t1")}

    decision = make(trace, known_of(read_trace()))

    assert [line.amount_micros for line in decision.entries] == [-WORTH_MICROS // 2]


def test_a_customer_that_changes_later_does_not_move_the_bill(decider):
    """An adjustment goes to whom the trace was billed to."""
    trace = read_trace(cost="0.03", customer="cus_2")

    decision = decider(billed={"credits": WORTH_MICROS})(trace, known_of(read_trace()))

    assert [line.customer_id for line in decision.entries] == ["cus_1"]


@pytest.mark.parametrize("units", [bad_units(), (Unit(WHOLE_TRACE, Decimal("-1"), Decimal(1)),)])
def test_a_reading_that_cannot_be_rated_leaves_the_bill_alone(decider, units):
    """Missing metrics are no usage of zero."""
    decision = decider()(read_trace(units=units, marked="metadata,tag"), known_of(read_trace()))

    assert (decision.entries, decision.result, decision.outcome) == ((), Reason.UNRATED, Outcome.BILLED)


def test_a_billed_trace_with_a_part_that_has_no_price_says_so(decider):
    """Compute was billed before the list of unpriced traces told of its tokens: the run does not keep silent."""
    before = known_of(read_trace(cost="0"), billed_micros=WORTH_MICROS // 2)

    decision = decider()(read_trace(cost="0", unpriced=True), before)

    assert (decision.entries, decision.result, decision.outcome) == ((), Reason.UNPRICED, Outcome.BILLED)


# Compute of 166666666.7 micro-credits and AI of 250000000.6: apart both are rounded up, together they are down.
UNEVEN = {"cost": "0.010000000024", "seconds": "8"}


def two_meters(make):
    make.config = replace(make.config, meters={"compute": "compute_credits"})
    return make


@pytest.fixture
def uneven(decider):
    """An uneven trace that was billed on one meter: its reading, what the ledger knows, and its micro-credits."""
    trace = read_trace(**UNEVEN)
    first = decider()(trace, None)
    known = known_of(trace, billed_micros=first.billed_micros, components=first.components, generation="observations")
    return replace(trace, generation="observations"), known, first.billed_micros


def test_meters_that_are_set_later_move_nothing_that_was_billed(decider, uneven):
    """Its parts on two meters are rounded apart and come to another sum; that is no usage."""
    trace, known, billed_micros = uneven
    make = two_meters(decider(billed={"credits": billed_micros}))
    apart = make(trace, None)
    assert apart.billed_micros != billed_micros

    decision = make(trace, known)

    assert (decision.entries, decision.result) == ((), Reason.ALREADY_PROCESSED)


def test_later_usage_of_a_trace_billed_before_the_meters_were_set_goes_where_it_was_billed(decider, uneven):
    """The difference only, exactly, on its first meter."""
    trace, known, billed_micros = uneven
    make = two_meters(decider(billed={"credits": billed_micros}))
    more = replace(trace, units=read_trace(**{**UNEVEN, "cost": "0.020000000024"}).units)

    decision = make(more, known)

    assert [(line.meter, line.amount_micros) for line in decision.entries] == [("credits", 250_000_000)]
    assert decision.billed_micros == billed_micros + 250_000_000


def test_a_meter_that_only_later_usage_reaches_is_no_other_layout(decider):
    """Compute was billed on its meter; AI usage that comes later goes to its own."""
    early, late = read_trace(cost="0"), read_trace(cost="0.01")
    first = two_meters(decider())(early, None)
    make = two_meters(decider(billed={"compute_credits": first.billed_micros}))

    decision = make(late, known_of(early, billed_micros=first.billed_micros, components=first.components))

    assert [(line.meter, line.amount_micros) for line in decision.entries] == [("credits", WORTH_MICROS // 2)]


# ---- a trace that somebody else marked


@pytest.mark.parametrize("marked", ["metadata,tag", "metadata", "tag", "score"])
def test_a_marked_trace_is_never_billed(decider, marked):
    """Tag, metadata or score: each alone says that it was processed."""
    decision = decider()(read_trace(marked=marked), None)

    assert (decision.result, decision.outcome) == (Reason.ALREADY_PROCESSED, Outcome.SKIPPED)
    assert decision.entries == ()


@pytest.mark.parametrize(
    ("marked", "owed"), [("metadata,tag", False), ("metadata", True), ("tag", True), ("score", False)]
)
def test_half_a_mark_is_completed(decider, marked, owed):
    """Tag without metadata, or the reverse."""
    decision = decider()(read_trace(marked=marked), None)

    assert (decision.mark_state == MarkState.OWED, decision.healed) == (owed, owed)


def test_half_a_mark_that_was_completed_a_moment_ago_is_not_owed_twice(decider):
    """The write cannot be seen yet."""
    trace = read_trace(marked="tag")
    before = known_of(trace, outcome=Outcome.SKIPPED, reason="already_processed", mark_written_at_us=NOW_US - SECOND_US)

    assert decider()(trace, before).mark_state == MarkState.NONE


def test_a_half_mark_that_was_refused_is_owed_again(decider):
    """It was never written."""
    trace = read_trace(marked="tag")
    before = known_of(trace, outcome=Outcome.SKIPPED, reason="already_processed", mark_written_at_us=None)

    assert decider()(trace, before).mark_state == MarkState.OWED


# ---- the same trace twice


def test_a_second_reading_in_a_run_counts_once_and_keeps_the_result(decider):
    """Pages drift, so a trace may come twice: it stays what the first reading made of it."""
    trace = read_trace(tags=())
    before = known_of(trace, last_run_id="run-2", mark_state=MarkState.WAITING)

    decision = decider(run_id="run-2")(trace, before)

    assert (decision.result, decision.first_in_run) == ("processed", False)
    assert not decision.untagged
    assert not decision.healed


def test_a_second_reading_with_more_usage_is_adjusted(decider):
    """Usage that arrived while the run was reading."""
    before = known_of(read_trace(), last_run_id="run-2", mark_state=MarkState.WAITING)

    decision = decider(run_id="run-2", billed={"credits": WORTH_MICROS})(read_trace(cost="0.03"), before)

    assert (decision.result, decision.first_in_run, len(decision.entries)) == ("processed", False, 1)
