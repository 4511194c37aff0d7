"""Sums of usage for whole days: what is stored is what the traces come to, and never used once one of them changed."""

from dataclasses import astuple

import pytest

from builders import NOW_US
from databases import DATABASES, ask
from tallymark import api
from tallymark.core.clock import DAY_US, HOUR_US
from tallymark.core.readings import Reading
from tallymark.core.types import Unit
from tallymark.flows.usage import KEYS, usage, usage_totals
from tallymark.flows.usage_sums import store_usage_sums
from tallymark.ledger.opening import dry_copy
from tallymark.ledger.rows import RunRef
from tallymark.ledger.staging import stage

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

BEGINNING_US = NOW_US - 10 * DAY_US
WHOLE = (BEGINNING_US, NOW_US + 1)


@pytest.fixture
def billed(put, run):
    """Thirty traces of three customers and two flows over five days, whose costs have no short sum; one is waived."""
    for number in range(30):
        put(
            f"t{number:02}",
            customer=f"cus_{number % 3}",
            minutes_ago=60 + number * 250,
            cost=f"0.0{number + 1}0000000123",
            seconds=1 / 3 + number,
            name=("chat", "agent")[number % 2],
        )
    run()


def totals(ledger, by, *ranges):
    """What several ranges come to together, by key."""
    found = {}
    for from_us, to_us in ranges:
        for key, total in usage_totals(ledger, from_us, to_us, "", by).items():
            found.setdefault(key, type(total)()).add(total)
    return {key: astuple(total) for key, total in found.items()}


def stored(ledger_url):
    """How many sums are stored, and how many days are stale."""
    return tuple(ask(ledger_url, f"select count(*) from {table}")[0][0] for table in ("usage_sum", "usage_stale"))


@pytest.mark.parametrize("by", KEYS)
def test_ranges_that_cut_days_add_up_to_what_is_stored(billed, ledger, ledger_url, by):
    """To the last decimal, by whatever key."""
    assert stored(ledger_url)[0] > 10 and stored(ledger_url)[1] == 0
    hours = [(at_us, at_us + HOUR_US) for at_us in range(BEGINNING_US, NOW_US + HOUR_US, HOUR_US)]

    assert totals(ledger, by, WHOLE) == totals(ledger, by, *hours)


def test_a_sum_is_used_until_a_trace_of_its_day_changes(billed, ledger, ledger_url):
    """Whatever changes it: then the traces are read, until they are added up anew."""
    (day_us, customer_id) = ask(ledger_url, "select day_us, customer_id from usage_sum order by 1, 2")[0]
    true = totals(ledger, "customer", WHOLE)
    ask(ledger_url, "update usage_sum set billed_micros = billed_micros + 5 where day_us = ? and customer_id = ?",
        day_us, customer_id)  # fmt: skip
    assert totals(ledger, "customer", WHOLE) != true

    ask(ledger_url, "update trace set name = name where customer_id = ? and timestamp_us < ?",
        customer_id, day_us + DAY_US)  # fmt: skip

    assert stored(ledger_url)[1] == 1
    assert totals(ledger, "customer", WHOLE) == true
    store_usage_sums(ledger)
    assert stored(ledger_url)[1] == 0
    assert totals(ledger, "customer", WHOLE) == true


def test_what_is_read_again_and_has_not_changed_is_not_added_up_again(billed, ledger_url, run, monkeypatch):
    """A sync reads its overlap again, every few minutes."""
    stale = []
    monkeypatch.setattr("tallymark.flows.sync.store_usage_sums", lambda _: stale.append(stored(ledger_url)[1]))

    run(full=True)

    assert stale == [0]


def test_a_model_that_is_named_later_shows(billed, ledger, ledger_url):
    """Units are stored apart from their trace: a new one, and one that changes."""
    project_id = ask(ledger_url, "select project_id from trace where trace_id = 't00'")[0][0]
    unit = Unit("u", None, None, model="gpt", updated_us=1)
    stage(ledger, RunRef("run", 1, "settings"), [Reading(project_id, "t00", 1, (unit,))])
    named = {row.key: row.traces for row in usage(ledger, *WHOLE, None, "model")}
    store_usage_sums(ledger)
    ask(ledger_url, "update unit set model = 'other' where unit_id = 'u'")

    assert named["gpt"] == 1
    assert {row.key: row.traces for row in usage(ledger, *WHOLE, None, "model")}["other"] == 1


def test_decisions_late_costs_and_new_customers_show_at_once(billed, ledger, ledger_url, put, run, settings, clock):
    """A waiver, a trace that came to more, and one that was billed to somebody else."""
    before = {row.key: row for row in usage(ledger, *WHOLE, None, "customer")}
    put("t00", customer="cus_0", minutes_ago=60, cost="2", seconds=1 / 3, name="chat")
    put("new", customer="cus_9", minutes_ago=90)
    run(full=True)
    after = {row.key: row for row in usage(ledger, *WHOLE, None, "customer")}

    assert stored(ledger_url)[1] == 0
    assert after["cus_1"] == before["cus_1"]
    assert (after["cus_0"].traces, after["cus_9"].traces) == (10, 1)
    assert float(after["cus_0"].cost_usd) == pytest.approx(float(before["cus_0"].cost_usd) + 2 - 0.01)
    ask(ledger_url, "update trace set customer_id = 'cus_9' where trace_id = 't00'")
    moved = {row.key: row for row in usage(ledger, *WHOLE, None, "customer")}
    assert (moved["cus_0"].traces, moved["cus_9"].traces) == (9, 2)
    assert stored(ledger_url)[1] == 2


def test_a_copy_adds_up_for_itself(billed, ledger, ledger_url, settings, tmp_path):
    """With the sums that it was given, and what is stale stays so."""
    ask(ledger_url, "update trace set name = name where trace_id = 't00'")
    with dry_copy(ledger_url) as copy:
        assert totals(copy, "day", WHOLE) == totals(ledger, "day", WHOLE)
    api.backup_ledger(settings(), tmp_path / "backup.sqlite3")
    restored = settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'restored.sqlite3'}")
    api.restore_ledger(restored, tmp_path / "backup.sqlite3")

    assert api.usage(restored, from_us=WHOLE[0], to_us=WHOLE[1]) == api.usage(
        settings(), from_us=WHOLE[0], to_us=WHOLE[1]
    )
    assert stored(restored.ledger_url) == stored(ledger_url)
