"""The sandbox's subscriptions, invoices and invoice items with the real SDK (facts/stripe.md sections 7 and 8)."""

from decimal import Decimal

import pytest
from sdk_fields import undeclared
from stripe_account import NOW_SECONDS, stripe

from tallymark.core.clock import SECOND_US, parse_time

HOUR, DAY = 3600, 86_400
NOW_US = NOW_SECONDS * SECOND_US


def at(seconds):
    """A moment in µs, from the start of the test."""
    return (NOW_SECONDS + seconds) * SECOND_US


@pytest.fixture
def account(serving_stripe):
    """An account whose customer cus_1 has a daily subscription that has just begun, at a quarter of a cent a unit."""
    made = serving_stripe()
    made.sandbox.add_subscription(
        "cus_1", "credits", started_at_us=NOW_US, period="day", unit_amount_decimal="0.25", grace_hours=1
    )
    return made


def send(account, identifier, value, seconds, **more):
    """Send a meter event whose timestamp is that many seconds after the start of the test."""
    account.send(identifier, value, timestamp=NOW_SECONDS + seconds, **more)


def bills(account, customer="cus_1"):
    """The credits on each of the customer's final invoices."""
    return [one.credits for one in account.sandbox.invoiced(customer)]


def names(meter_events):
    return [one.identifier for one in meter_events]


# Subscriptions


def test_the_sdk_reads_subscription_item_and_price(account):
    """Every field is one that the SDK declares; the period stands on the item."""
    v1 = account.client.v1
    [subscription] = v1.subscriptions.list({"customer": "cus_1", "status": "all"}).data
    assert undeclared(subscription) == []
    assert undeclared(v1.subscriptions.retrieve(subscription.id)) == []
    [item] = v1.subscription_items.list({"subscription": subscription.id}).data
    assert (item.current_period_start, item.current_period_end) == (NOW_SECONDS, NOW_SECONDS + DAY)
    assert subscription["items"].data[0].to_dict() == item.to_dict()
    price = v1.prices.retrieve(item.price.id)
    assert undeclared(price) == []
    assert (price.recurring.meter, price.recurring.interval, price.recurring.usage_type) == (
        v1.billing.meters.list().data[0].id,
        "day",
        "metered",
    )
    assert (price.unit_amount, price.unit_amount_decimal) == (None, Decimal("0.25"))


def test_subscriptions_are_found_by_customer_price_and_status(account):
    sandbox, v1 = account.sandbox, account.client.v1
    other = sandbox.add_subscription("cus_2", "credits", started_at_us=NOW_US, period="week", ends_at_us=at(7 * DAY))
    assert [one.customer for one in v1.subscriptions.list().data] == ["cus_2", "cus_1"]
    assert [one.customer for one in v1.subscriptions.list({"price": other.price_id}).data] == ["cus_2"]
    assert v1.subscriptions.retrieve(other.id).cancel_at_period_end is True
    account.clock.advance(7 * DAY)
    assert [one.customer for one in v1.subscriptions.list().data] == ["cus_1"]
    assert [one.customer for one in v1.subscriptions.list({"status": "active"}).data] == ["cus_1"]
    assert [one.customer for one in v1.subscriptions.list({"status": "canceled"}).data] == ["cus_2"]
    assert len(v1.subscriptions.list({"status": "all"}).data) == 2
    assert v1.subscriptions.list({"status": "past_due"}).data == []
    ended = v1.subscriptions.retrieve(other.id)
    assert (ended.status, ended.ended_at) == ("canceled", NOW_SECONDS + 7 * DAY)
    assert ended["items"].data[0].current_period_end == NOW_SECONDS + 7 * DAY


def test_a_subscription_is_not_there_before_it_starts(account):
    account.sandbox.add_subscription("cus_2", "credits", started_at_us=at(10), period="day")
    assert account.client.v1.subscriptions.list({"customer": "cus_2"}).data == []
    account.clock.advance(10)
    assert len(account.client.v1.subscriptions.list({"customer": "cus_2"}).data) == 1


def test_the_sdk_pages_through_subscriptions(account):
    for _ in range(24):
        account.sandbox.add_subscription("cus_1", "credits", started_at_us=NOW_US)
    assert len({one.id for one in account.client.v1.subscriptions.list().auto_paging_iter()}) == 25


@pytest.mark.parametrize(
    ("period", "anchor", "now", "start", "end"),
    [
        ("month", "2026-01-31T10:00:00Z", "2026-02-15T00:00:00Z", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"),
        ("month", "2026-01-31T10:00:00Z", "2026-03-01T00:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z"),
        ("month", "2024-01-31T10:00:00Z", "2024-02-29T09:59:59Z", "2024-01-31T10:00:00Z", "2024-02-29T10:00:00Z"),
        ("month", "2020-12-15T00:00:00Z", "2026-12-15T00:00:00Z", "2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z"),
        ("week", "2026-11-02T03:04:05Z", "2026-11-17T00:00:00Z", "2026-11-16T03:04:05Z", "2026-11-23T03:04:05Z"),
        (90, "2026-11-02T00:00:00Z", "2026-11-02T00:04:00Z", "2026-11-02T00:03:00Z", "2026-11-02T00:04:30Z"),
    ],
)
def test_a_period_is_counted_from_its_anchor(serving_stripe, period, anchor, now, start, end):
    """Months keep the day of the anchor, or end with a month that is shorter."""
    account = serving_stripe()
    account.clock.advance((parse_time(now) - NOW_US) / SECOND_US if parse_time(now) > NOW_US else 0)
    started_at_us = parse_time(anchor)
    subscription = account.sandbox.add_subscription("cus_1", "credits", started_at_us=started_at_us, period=period)
    found = subscription.current_period(parse_time(now) // SECOND_US)
    assert (found.start_seconds, found.end_seconds) == (parse_time(start) // SECOND_US, parse_time(end) // SECOND_US)


def test_the_first_period_lasts_to_the_anchor(serving_stripe):
    """Whether the anchor lies before the start or after it: the first period is the shorter one."""
    sandbox = serving_stripe().sandbox
    for anchor_us in (at(-DAY + HOUR), at(HOUR)):
        subscription = sandbox.add_subscription(
            "cus_1", "credits", started_at_us=NOW_US, period="day", anchor_us=anchor_us
        )
        ends = [one.end_seconds - NOW_SECONDS for one in subscription.periods(NOW_SECONDS + 2 * DAY)]
        assert ends == [HOUR, HOUR + DAY, HOUR + 2 * DAY]
    far = sandbox.add_subscription("cus_1", "credits", started_at_us=NOW_US, period=600, anchor_us=at(HOUR))
    assert far.current_period(NOW_SECONDS + 700).end_seconds == NOW_SECONDS + HOUR


@pytest.mark.parametrize("wrong", [{"period": "year"}, {"period": 59}, {"ends_at_us": NOW_US}])
def test_a_wrong_subscription_is_refused(serving_stripe, wrong):
    with pytest.raises(ValueError, match=r"is no period|must end"):
        serving_stripe().sandbox.add_subscription("cus_1", "credits", started_at_us=NOW_US, **wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda v1: v1.subscriptions.retrieve("sub_nobody"),
        lambda v1: v1.subscription_items.list({"subscription": "sub_nobody"}),
        lambda v1: v1.prices.retrieve("price_nobody"),
        lambda v1: v1.invoices.retrieve("in_nobody"),
    ],
)
def test_what_does_not_exist_is_an_invalid_request(account, call):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call(account.client.v1)
    assert caught.value.code == "resource_missing"


# Invoices: the right period


def test_usage_is_billed_in_the_period_of_its_timestamp(account):
    """The first second of a period is in it, its end is not."""
    send(account, "first", "1", 0)
    account.clock.advance(DAY)
    send(account, "last", "2", DAY - 1)
    send(account, "next", "4", DAY)
    account.clock.advance(DAY + HOUR)
    assert bills(account) == [3, 4]


def test_a_draft_takes_usage_until_it_is_final_and_what_is_late_is_lost(account):
    """The grace is one hour: a second before its end is in time, its end is not; nothing says so to the sender."""
    account.clock.advance(DAY + HOUR - 1)
    [draft] = account.client.v1.invoices.list({"status": "draft"}).data
    assert draft.automatically_finalizes_at == NOW_SECONDS + DAY + HOUR
    send(account, "in time", "1", 10)
    account.clock.advance(1)
    send(account, "late", "2", 10)
    assert bills(account) == [1]
    assert names(account.sandbox.lost()) == ["late"]
    assert account.sandbox.tally() == {("cus_1", "credits"): 3}
    account.clock.advance(DAY)
    assert bills(account) == [1, 0]


def test_the_sdk_reads_a_draft_and_a_final_invoice(account):
    """Line, amount, status and moments; every field is one that the SDK declares."""
    send(account, "one", "11", 5)
    account.clock.advance(DAY)
    [draft] = account.client.v1.invoices.list({"customer": "cus_1"}).data
    assert (draft.status, draft.total, draft.status_transitions.finalized_at) == ("draft", 3, None)
    account.clock.advance(HOUR)
    final = account.client.v1.invoices.retrieve(draft.id)
    assert undeclared(final) == []
    assert (final.status, final.total, final.amount_paid) == ("paid", 3, 3)
    assert (final.period_start, final.period_end) == (NOW_SECONDS, NOW_SECONDS + DAY)
    assert final.status_transitions.finalized_at == NOW_SECONDS + DAY + HOUR
    [line] = final.lines.data
    assert undeclared(line) == []
    assert (line.quantity, line.quantity_decimal, line.amount) == (11, Decimal(11), 3)
    assert (line.period.start, line.period.end) == (NOW_SECONDS, NOW_SECONDS + DAY)
    assert line.parent.subscription_item_details.subscription == final.parent.subscription_details.subscription


def test_invoices_are_found_by_customer_subscription_and_status(account):
    other = account.sandbox.add_subscription("cus_2", "credits", started_at_us=NOW_US, period="day")
    account.clock.advance(2 * DAY)
    v1 = account.client.v1
    assert [one.customer for one in v1.invoices.list({"subscription": other.id}).data] == ["cus_2", "cus_2"]
    assert len(v1.invoices.list({"status": "draft"}).data) == 2
    assert {one.status for one in v1.invoices.list({"customer": "cus_1"}).data} == {"draft", "paid"}
    account.clock.advance(30 * DAY)
    assert len({one.id for one in v1.invoices.list().auto_paging_iter()}) == 64


def test_usage_before_and_after_a_subscription_is_unbilled(account):
    account.sandbox.add_subscription("cus_2", "credits", started_at_us=at(-DAY), period="day", ends_at_us=at(DAY))
    send(account, "before", "1", -DAY - 1, customer="cus_2")
    send(account, "inside", "2", 0, customer="cus_2")
    send(account, "nobody", "4", 0, customer="cus_3")
    account.clock.advance(DAY)
    send(account, "after", "8", DAY, customer="cus_2")
    assert names(account.sandbox.unbilled()) == ["before", "after", "nobody"]
    account.clock.advance(3 * DAY)
    assert bills(account, "cus_2") == [0, 2]


def test_a_subscription_cancelled_within_a_period_does_not_bill_it(serving_stripe):
    """Cancelled at once, the usage of the period is discarded (facts/stripe.md section 7)."""
    account = serving_stripe()
    account.sandbox.add_subscription("cus_1", "credits", started_at_us=NOW_US, period="day", ends_at_us=at(DAY + HOUR))
    send(account, "billed", "1", 0)
    account.clock.advance(DAY)
    send(account, "discarded", "2", DAY)
    account.clock.advance(9 * DAY)
    assert bills(account) == [1]
    assert names(account.sandbox.unbilled()) == ["discarded"]
    assert account.client.v1.subscriptions.list({"status": "ended"}).data[0].cancel_at_period_end is False


def test_a_backdated_subscription_takes_up_earlier_usage_unless_its_invoice_is_final(serving_stripe):
    account = serving_stripe()
    send(account, "old", "1", -3 * DAY)
    account.sandbox.add_subscription("cus_1", "credits", started_at_us=at(-3 * DAY), period="week")
    account.clock.advance(5 * DAY)
    assert bills(account) == [1]


def test_rejected_and_cancelled_usage_is_not_billed_unless_cancelled_too_late(account):
    """A cancellation never touches a final invoice (facts/stripe.md section 3)."""
    account.clock.advance(DAY - 60)
    account.sandbox.reject_next()
    send(account, "rejected", "1", 0)
    for identifier, value in (("cancelled", "2"), ("too late", "4")):
        send(account, identifier, value, 0)
    cancel(account, "cancelled")
    account.clock.advance(HOUR + 60)
    assert bills(account) == [4]
    cancel(account, "too late")
    assert bills(account) == [4]
    assert account.sandbox.tally() == {("cus_1", "credits"): 0}


def cancel(account, identifier):
    account.client.v1.billing.meter_event_adjustments.create(
        {"event_name": "credits", "type": "cancel", "cancel": {"identifier": identifier}}
    )


def test_a_negative_sum_bills_nothing(account):
    send(account, "one", "-5", 0)
    account.clock.advance(DAY + HOUR)
    assert bills(account) == [0]


def test_each_subscription_bills_its_own_meter(account):
    account.sandbox.add_meter("tokens")
    account.sandbox.add_subscription("cus_1", "tokens", started_at_us=NOW_US, period="day")
    send(account, "c", "1", 0)
    send(account, "t", "2", 0, event_name="tokens")
    send(account, "u", "4", 0, event_name="tokens", customer="cus_2")
    account.sandbox.add_subscription("cus_2", "credits", started_at_us=NOW_US, period="day")
    account.clock.advance(DAY + HOUR)
    assert (bills(account), bills(account, "cus_2")) == ([1, 2], [0])
    assert names(account.sandbox.unbilled()) == ["u"]


def test_a_window_of_a_pre_aggregated_meter_is_billed_in_the_period_of_its_last_meter_event(account):
    """The last one received takes the place of all others of its hour, on both sides of a boundary."""
    account.sandbox.add_meter("totals", window="hour")
    half = NOW_US + 1800 * SECOND_US
    account.sandbox.add_subscription("cus_2", "totals", started_at_us=half - DAY * SECOND_US, period="day")
    account.clock.advance(3000)
    for identifier, value, seconds in (("a", "1", -60), ("b", "2", 60), ("c", "5", 2400), ("d", "9", -120)):
        send(account, identifier, value, seconds, event_name="totals", customer="cus_2")
    account.clock.advance(2 * DAY)
    assert bills(account, "cus_2") == [9, 5]


def test_decimal_quantities_are_exact(account):
    send(account, "a", "0.1", 0)
    send(account, "b", "0.2", 0)
    account.clock.advance(DAY + HOUR)
    [invoice] = account.client.v1.invoices.list().data
    assert (invoice.lines.data[0].quantity, invoice.lines.data[0].quantity_decimal) == (0, Decimal("0.3"))
    assert bills(account) == [Decimal("0.3")]


# Invoice items


def item(account, key=None, **params):
    wanted = {"customer": "cus_1", "amount": 150, "currency": "usd", **params}
    sent = {name: value for name, value in wanted.items() if value is not None}
    return account.client.v1.invoice_items.create(sent, {"idempotency_key": key} if key else {})


def test_a_pending_item_is_on_the_next_invoice_only(account):
    """Made while one invoice is a draft, it waits for the next one; there it is a line of its own."""
    account.clock.advance(DAY + 10)
    made = item(account, metadata={"identifier": "i1"}, description="Late usage", period={"start": 5, "end": 9})
    assert undeclared(made) == []
    assert (made.invoice, made.amount, made.metadata["identifier"]) == (None, 150, "i1")
    account.clock.advance(DAY)
    account.clock.advance(HOUR)
    assert [one.item_amounts for one in account.sandbox.invoiced("cus_1")] == [(), (150,)]
    [line] = [
        one
        for one in account.client.v1.invoices.list({"limit": 1}).data[0].lines.data
        if one.description == "Late usage"
    ]
    assert undeclared(line) == []
    assert (line.amount, line.period.start, line.period.end) == (150, 5, 9)
    assert (line.parent.invoice_item_details.invoice_item, line.metadata["identifier"]) == (made.id, "i1")


def test_items_are_listed_by_customer_and_by_whether_they_are_pending(account):
    for number in range(12):
        item(account, description=str(number))
    item(account, customer="cus_2")
    account.clock.advance(DAY)
    item(account, description="pending")
    listed = account.client.v1.invoice_items.list
    assert len(list(listed({"customer": "cus_1"}).auto_paging_iter())) == 13
    assert [one.description for one in listed({"customer": "cus_1", "pending": True}).data] == ["pending"]
    swept = list(listed({"customer": "cus_1", "pending": False}).auto_paging_iter())
    assert {one.invoice for one in swept} == {account.client.v1.invoices.list().data[0].id}
    assert [one.customer for one in listed({"pending": True}).data] == ["cus_1", "cus_2"]


def test_an_item_is_an_amount_or_a_quantity_of_units(account):
    made = item(account, amount=None, unit_amount_decimal="0.004", quantity=375)
    assert (made.amount, made.quantity, made.pricing.unit_amount_decimal) == (2, 375, Decimal("0.004"))
    assert item(account, amount=-20).amount == -20


def test_an_item_is_made_once_for_an_idempotency_key(account):
    assert item(account, key="k").id == item(account, key="k").id
    assert len(account.client.v1.invoice_items.list().data) == 1
    with pytest.raises(stripe.IdempotencyError):
        item(account, key="k", amount=1)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"amount": None}, "amount"),
        ({"quantity": 2}, "amount"),
        ({"unit_amount_decimal": "1"}, "amount"),
        ({"amount": None, "unit_amount_decimal": "0.0000000000001"}, "unit_amount_decimal"),
        ({"amount": None, "unit_amount_decimal": "1", "quantity": -1}, "quantity"),
        ({"customer": None}, "customer"),
        ({"period": {"start": 9, "end": 5}}, "period"),
        ({"period": {"start": 9}}, "end"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_item_is_refused_with_its_parameter(account, params, param):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        item(account, **params)
    assert caught.value.param == param
    assert account.client.v1.invoice_items.list().data == []


def test_an_item_of_an_unknown_customer_is_refused(serving_stripe):
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_1'"):
        item(serving_stripe(any_customer=False))


def test_an_item_of_another_currency_waits_for_an_invoice_in_it(account):
    item(account, currency="eur")
    account.clock.advance(DAY + HOUR)
    assert account.sandbox.invoiced("cus_1")[0].item_amounts == ()


def test_an_item_made_when_the_draft_is_already_there_waits(account):
    """On a clock that stands still too: the draft of the period exists from its end on, and takes nothing more up."""
    account.clock.advance(DAY)
    assert len(account.client.v1.invoices.list({"status": "draft"}).data) == 1
    item(account)
    account.clock.advance(HOUR)
    assert account.sandbox.invoiced("cus_1")[0].item_amounts == ()
