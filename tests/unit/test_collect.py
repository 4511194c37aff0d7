"""Before a trace is decided: rows on two dates are one trace, and what the trace list cannot tell is looked up."""

from dataclasses import replace
from decimal import Decimal

from builders import bad_units, known_of, read_trace
from tallymark.flows.collect import distinct, may_be_unpriced, with_price, with_score


def test_two_rows_on_two_dates_are_one_trace():
    """The earlier time, the larger usage, and every mark of both."""
    early = read_trace(minutes_ago=3000, cost="0.01", marked="tag", tags=("billing:processed",))
    late = read_trace(minutes_ago=60, cost="0.03", marked="metadata")

    for rows in ([early, late], [late, early]):
        (trace,) = distinct(rows)
        assert trace.timestamp_us == early.timestamp_us
        assert trace.units == late.units
        assert trace.marked == "metadata,tag"
        assert trace.tags == ("billing:pending", "billing:processed")


def test_a_row_without_a_cost_never_hides_one_with_a_cost():
    """Of two rows the readable one counts, whatever its number says."""
    (trace,) = distinct([read_trace(minutes_ago=3000, cost="0.01"), read_trace(units=bad_units())])

    assert trace.units[0].cost_usd == Decimal("0.01")


def test_traces_of_two_projects_may_share_an_id():
    """A trace id is unique only inside its project."""
    assert len(distinct([read_trace(), read_trace(project_id="another")])) == 2


# ---- what the trace list cannot tell


class Never:
    def __contains__(self, trace):
        raise AssertionError(f"asked about {trace.trace_id}")


class Scored(set):
    """Ids of traces that a score marks."""

    def __contains__(self, trace):
        return super().__contains__(trace.trace_id)


def test_a_score_is_looked_up_for_what_is_new():
    """A trace that the ledger does not know, and carries no other mark."""
    assert with_score(read_trace(), None, Scored(["t1"])).marked == "score"
    assert with_score(read_trace(), None, Scored()).marked == ""


def test_a_trace_without_a_cost_is_asked_about_and_only_that():
    """New or billed: tokens may have come since. Not what is marked elsewhere, nor what was found out."""
    free = read_trace(cost="0")

    assert may_be_unpriced(free, None)
    assert may_be_unpriced(replace(free, marked="metadata,tag"), known_of(free))
    assert not may_be_unpriced(replace(free, marked="tag"), None)
    assert not may_be_unpriced(read_trace(), None)
    assert not may_be_unpriced(free, known_of(free, outcome="skipped", reason="no_billable_usage"))
    assert with_price(free, None, {"t1"}).unpriced
    assert not with_price(free, None, {"t2"}).unpriced


def test_what_the_ledger_knows_unchanged_is_not_looked_up():
    """An idle run asks nothing besides the overlap's own pages."""
    free = read_trace(cost="0")
    held = known_of(free, outcome="held", reason="unpriced")

    assert with_score(read_trace(), known_of(read_trace()), Never()) == read_trace()
    assert not may_be_unpriced(free, held)
    assert with_price(free, held, set()).unpriced
    assert with_score(free, known_of(free, outcome="skipped", reason="already_processed"), Never()).marked == "score"
