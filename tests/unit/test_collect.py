"""Before a trace is decided: rows on two dates are one trace, and what the trace list cannot tell is looked up."""

from decimal import Decimal

from builders import bad_units, known_of, read_trace
from tallymark.flows.collect import distinct, with_lookup


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


class Asked:
    """A lookup that knows some trace ids."""

    def __init__(self, unpriced=(), scored=()):
        self.unpriced, self.scored = _Ids(unpriced), _Ids(scored)


class _Ids:
    def __init__(self, ids):
        self.ids = ids

    def __contains__(self, trace):
        return trace.trace_id in self.ids


def test_tokens_without_a_cost_and_scores_are_looked_up_for_what_is_new():
    """unpriced and the score mark."""
    assert with_lookup(read_trace(cost="0"), None, Asked(unpriced=["t1"])).unpriced
    assert with_lookup(read_trace(), None, Asked(scored=["t1"])).marked == "score"
    assert not with_lookup(read_trace(), None, Asked(unpriced=["t1"])).unpriced


def test_what_the_ledger_knows_unchanged_is_not_looked_up():
    """An idle run asks nothing besides the overlap's own pages."""
    never = Asked()
    never.unpriced = never.scored = Never()
    free = read_trace(cost="0")

    assert with_lookup(read_trace(), known_of(read_trace()), never) == read_trace()
    assert with_lookup(free, known_of(free, outcome="held", reason="unpriced"), never).unpriced
    marked = with_lookup(free, known_of(free, outcome="skipped", reason="already_processed"), never)
    assert marked.marked == "score"
