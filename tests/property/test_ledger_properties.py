"""Whatever is recorded, in whatever order it is gathered and answered, no micro-credit is lost or made."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import CREDIT_MICROS, NOW_US
from ledger_lines import ACCEPTED, REJECTED, THROTTLED, UNKNOWN, adjust, bill, gather_all
from tallymark.core.clock import MINUTE_US
from tallymark.ledger import open_ledger

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

AMOUNTS = st.one_of(
    st.integers(0, 3 * CREDIT_MICROS),
    st.integers(0, 999_999_999 * CREDIT_MICROS),
)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["cus_1", "cus_2"]),
        st.sampled_from(["credits", "compute"]),
        st.sampled_from([10, 70, 80, 130]),
        AMOUNTS,
        st.integers(-3 * CREDIT_MICROS, 3 * CREDIT_MICROS),
        st.booleans(),
    ),
    max_size=12,
)


def fill(ledger, lines):
    """Record charges with an adjustment each, gathering now and then; returns micros by (customer, meter)."""
    expected = Counter()
    for number, (customer, meter, minutes_ago, amount, adjustment, gather) in enumerate(lines):
        place = {"minutes_ago": minutes_ago, "customer": customer, "meter": meter}
        bill(ledger, f"t{number}", amount, **place)
        if gather:
            gather_all(ledger)
        adjust(ledger, f"t{number}", adjustment, **place)
        expected[customer, meter] += amount + adjustment
    gather_all(ledger)
    return {lane: micros for lane, micros in expected.items() if micros}


def balances(ledger):
    """(customer, meter) → the ledger's row of sums."""
    return {(row["customer_id"], row["meter"]): row for row in ledger.query("balances")}


@QUICK
@given(LINES)
def test_entries_are_meter_events_and_carry(lines):
    """Σ entries = Σ credits of meter events + carry, to the micro-credit, for each customer and meter (G4)."""
    ledger = open_ledger("sqlite://")
    expected = fill(ledger, lines)

    rows = balances(ledger)

    assert {lane: row["entries_micros"] for lane, row in rows.items() if row["entries_micros"]} == expected
    for row in rows.values():
        assert row["open_micros"] == 0
        assert row["entries_micros"] == row["owed_credits"] * CREDIT_MICROS + row["carry_micros"]
        assert row["carry_micros"] < CREDIT_MICROS
    ledger.close()


@QUICK
@given(LINES, st.lists(st.sampled_from([ACCEPTED, UNKNOWN, THROTTLED, REJECTED]), max_size=40))
def test_answers_move_credits_and_never_change_them(lines, answers):
    """Accepted and owed credits together stay what was gathered, whatever the meter answers, and in any order."""
    ledger = open_ledger("sqlite://")
    fill(ledger, lines)
    before = {lane: (row["owed_credits"], row["carry_micros"]) for lane, row in balances(ledger).items()}
    delivered = Counter()

    now_us = NOW_US
    while answers:
        now_us += MINUTE_US
        claims = ledger.claim(now_us, len(answers))
        if not claims:
            break
        settled = [(claim, answers.pop()) for claim in claims]
        ledger.settle(settled, now_us)
        delivered.update({(c.customer_id, c.meter): c.credits for c, answer in settled if answer is ACCEPTED})

    for lane, row in balances(ledger).items():
        assert (row["owed_credits"] + row["accepted_credits"], row["carry_micros"]) == before[lane]
        assert row["accepted_credits"] == delivered[lane]
    ledger.close()


@QUICK
@given(LINES)
def test_a_lane_never_has_two_claims(lines):
    """At most one call in flight for each customer and meter, and nothing is claimed twice."""
    ledger = open_ledger("sqlite://")
    fill(ledger, lines)

    claims = ledger.claim(NOW_US, 100) + ledger.claim(NOW_US, 100)

    lanes = Counter((claim.customer_id, claim.meter) for claim in claims)
    assert set(lanes.values()) <= {1}
    ledger.close()


def test_a_carry_never_crosses_customers():
    """Half a credit of each of two customers is no credit of anybody."""
    ledger = open_ledger("sqlite://")
    for customer in ("cus_1", "cus_2"):
        bill(ledger, f"t {customer}", CREDIT_MICROS // 2, customer=customer)
    gather_all(ledger)

    assert ledger.claim(NOW_US, 10) == []
    ledger.close()
