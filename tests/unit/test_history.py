"""Traces as the ledger knows them: what comes back is what was read, as far as rating asks for it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from builders import NOW_US, bad_units, read_trace, settings_for
from ledger_lines import RUN
from tallymark.core.clock import MINUTE_US
from tallymark.core.readings import Reading, trace_of
from tallymark.core.types import Unit
from tallymark.flows.decide import Decider
from tallymark.ledger.history import count_stored_traces, stored_traces
from tallymark.ledger.staging import decide_staged, stage

HOUR_AGO_US = NOW_US - 60 * MINUTE_US


@pytest.fixture
def decider(tmp_path):
    """The decider of a run."""
    return Decider(settings_for(tmp_path), RUN.run_id, NOW_US, lambda key: {}, {})


def back(ledger):
    """Everything that comes back."""
    found = list(stored_traces(ledger, 0, NOW_US))
    assert count_stored_traces(ledger, 0, NOW_US) == len(found)
    return found


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({}, "billed", ""),
        ({"user_id": "user-1", "session_id": "session-1"}, "billed", ""),
        ({"attributes": {}}, "held", "no_customer"),
        ({"cost": "0", "unpriced": True}, "held", "unpriced"),
        ({"units": bad_units("no cost came")}, "held", "unrated"),
        ({"cost": "0", "seconds": "0"}, "skipped", "no_billable_usage"),
    ],
)
def test_a_trace_read_as_a_whole_comes_back_as_it_was_read(ledger, decider, changes, outcome, reason):
    """Exact numbers, what was wrong with them, customers' ids, and tokens that have no cost."""
    trace = read_trace(**changes)
    (decision,) = ledger.record(RUN, [trace], decider)

    (stored,) = back(ledger)

    assert stored.trace == replace(trace, tags=())
    assert (stored.outcome, stored.reason) == (outcome, reason)
    assert (stored.billed_micros, stored.components) == (decision.billed_micros, decision.components)


def test_observations_come_back_with_their_tokens_models_and_time(ledger, decider):
    """All of one trace together, and the time from the first start to the last end."""
    units = tuple(
        Unit(f"o{n}", Decimal("0.01"), None, 100 + n, f"model-{n}", None, HOUR_AGO_US + n, HOUR_AGO_US + 7 * n, n)
        for n in range(3)
    )
    readings = [
        Reading("project", trace_id, HOUR_AGO_US, units, root_seen=True, attributes={"customerId": "cus_1"})
        for trace_id in ("t1", "t2")
    ]
    stage(ledger, RUN, readings)
    decide_staged(ledger, RUN, "project", "", decider, 10)

    assert [stored.trace for stored in back(ledger)] == [trace_of(reading, units) for reading in readings]


@pytest.mark.parametrize("changes", [{"minutes_ago": -60}, {"marked": "tag"}])
def test_what_no_card_has_a_word_on_is_left_out(ledger, decider, changes):
    """Traces of the future, and those that were processed elsewhere."""
    ledger.record(RUN, [read_trace(**changes)], decider)

    assert back(ledger) == []


def test_traces_come_one_by_one_in_the_order_of_their_time(ledger, decider):
    """The next is made when it is asked for."""
    ledger.record(RUN, [read_trace(f"t{n}", minutes_ago=60 + n) for n in range(5)], decider)

    found = stored_traces(ledger, 0, NOW_US)

    assert next(found).trace.trace_id == "t4"
    assert [stored.trace.trace_id for stored in found] == ["t3", "t2", "t1", "t0"]
