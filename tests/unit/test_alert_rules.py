"""What figures mean: each rule at its limit and beyond it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from builders import NOW_US
from tallymark import config
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US
from tallymark.flows.alert_rules import ToDate, Watched, findings
from tallymark.flows.figures import Amount

CREDIT = 1_000_000
CALM = Watched(
    now_us=NOW_US,
    read_up_to_us=NOW_US - 15 * MINUTE_US,
    failing={},
    drift=None,
    in_doubt=Amount(),
    leaked={},
    unsent_micros=0,
    held=Amount(),
    last_usage_us=NOW_US - HOUR_US,
    last_usage_of={},
    to_date={},
)
LIMITS = {
    "BILLING_ALERT_HELD_CREDITS": "100",
    "BILLING_ALERT_CUSTOMER_CREDITS": "10",
    "BILLING_ALERT_CUSTOMER_STOPPED_HOURS": "48",
}


def told(limits=LIMITS, **seen):
    """What is found when figures are as these."""
    return [
        (one.rule.value, one.subject, one.value, one.limit)
        for one in findings(replace(CALM, **seen), config.load(None, limits))
    ]


def used(micros=0, margin="0"):
    """A customer's period to date."""
    return {"cus_1": ToDate(NOW_US - DAY_US, micros, Decimal(margin))}


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "finding"),
    [
        (
            {"read_up_to_us": NOW_US - 75 * MINUTE_US},
            {"read_up_to_us": NOW_US - 76 * MINUTE_US},
            ("lag", "", "61", "60"),
        ),
        ({"failing": {"sync": (2, "no.")}}, {"failing": {"sync": (3, "no.")}}, ("failures", "sync", "3", "3")),
        ({}, {"drift": (NOW_US, "then", "now")}, ("drift", "", "1", "0")),
        ({}, {"in_doubt": Amount(2, CREDIT)}, ("in_doubt", "", "2", "0")),
        ({}, {"leaked": {"unpriced": Amount(4, 0)}}, ("leakage", "unpriced", "4", "0")),
        ({"unsent_micros": CREDIT - 1}, {"unsent_micros": CREDIT}, ("leakage", "unsent", "1.000000", "1")),
        (
            {"held": Amount(3, 100 * CREDIT)},
            {"held": Amount(3, 100 * CREDIT + 1)},
            ("held", "", "100.000001", "100"),
        ),
        (
            {"last_usage_us": NOW_US - 24 * HOUR_US - 15 * MINUTE_US},
            {"last_usage_us": NOW_US - 25 * HOUR_US - 15 * MINUTE_US},
            ("usage_stopped", "", "25", "24"),
        ),
        (
            {"last_usage_of": {"cus_1": NOW_US - 48 * HOUR_US}},
            {"last_usage_of": {"cus_1": NOW_US - 49 * HOUR_US}},
            ("usage_stopped", "cus_1", "48", "48"),
        ),
        ({"to_date": used(margin="-1")}, {"to_date": used(margin="-1.5")}, ("negative_margin", "cus_1", "1.5", "1")),
        (
            {"to_date": used(10 * CREDIT)},
            {"to_date": used(10 * CREDIT + 1)},
            ("spend", "cus_1", "10.000001", "10"),
        ),
    ],
    ids=lambda case: case[0] if isinstance(case, tuple) else "",
)
def test_a_rule_finds_what_is_beyond_its_limit(at_the_limit, beyond, finding):
    """And nothing at the limit."""
    assert told(**at_the_limit) == []
    assert told(**beyond) == [finding]


def test_rules_without_a_limit_find_nothing():
    """What is much, or long, for one customer only people know."""
    held, silent = Amount(1, 10**15), {"cus_1": NOW_US - 6 * DAY_US}
    assert told({}, held=held, last_usage_of=silent, to_date=used(10**15)) == []


def test_before_the_first_sync_nothing_lags_and_nothing_stopped():
    """There is nothing yet."""
    assert told(read_up_to_us=None, last_usage_us=None) == []


def test_what_is_not_read_yet_has_not_stopped():
    """A day without reading is a lag, whatever customers do meanwhile."""
    behind = NOW_US - DAY_US
    assert told(read_up_to_us=behind, last_usage_us=behind - HOUR_US) == [("lag", "", "1425", "60")]


def test_a_customer_may_have_a_limit_of_their_own(tmp_path):
    """Higher or lower than that of the others."""
    file = tmp_path / "tallymark.toml"
    file.write_text('[alerts.customer_credits]\ncus_1 = 50\n"cus_2" = "0.5"\n')
    limits = config.load(file, LIMITS)
    seen = replace(CALM, to_date={f"cus_{number}": ToDate(NOW_US, 20 * CREDIT, Decimal(0)) for number in (1, 2, 3)})

    assert [(one.subject, one.limit) for one in findings(seen, limits)] == [("cus_2", "0.5"), ("cus_3", "10")]
    assert limits.describe()[-1] == ("alerts.customer_credits", "2 entries", f"file {file}")
