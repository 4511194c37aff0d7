"""The sandbox's Stripe with the real SDK: restricted keys, and customers of the other mode."""

import pytest
from stripe_account import NOW_SECONDS, stripe

from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.stripe import SandboxStripe

KEY = "rk_test_abcdef123456"
CALLS = {
    "meter_events:write": lambda v1: v1.billing.meter_events.create(
        {"event_name": "credits", "payload": {"stripe_customer_id": "cus_1", "value": "5"}}
    ),
    "meters:read": lambda v1: v1.billing.meters.list(),
    "meters:write": lambda v1: v1.billing.meters.create(
        {"display_name": "x", "event_name": "x", "default_aggregation": {"formula": "sum"}}
    ),
    "customers:read": lambda v1: v1.customers.retrieve("cus_1"),
    "subscriptions:read": lambda v1: v1.subscriptions.list(),
    "invoices:read": lambda v1: v1.invoices.list(),
    "invoices:write": lambda v1: v1.invoice_items.create({"customer": "cus_1", "amount": 5}),
    "prices:read": lambda v1: v1.prices.retrieve("price_sandbox_0001"),
    "account:read": lambda v1: v1.accounts.retrieve_current(),
}


@pytest.mark.parametrize("permission", CALLS)
def test_a_restricted_key_may_do_what_it_is_granted_and_nothing_else(serving_stripe, permission):
    """With one permission just the calls that need it go through; "write" also reads."""
    account = serving_stripe(keys={KEY: {permission}})
    account.sandbox.add_subscription("cus_1", "credits", started_at_us=0)
    v1 = account.client_of(KEY).v1
    for needed, call in CALLS.items():
        if needed == permission or needed == permission.replace("write", "read"):
            call(v1)
        else:
            with pytest.raises(stripe.PermissionError):
                call(v1)


def test_a_refusal_names_the_permission_and_hides_the_key(serving_stripe):
    account = serving_stripe(keys={KEY: {"meter_events:write"}})
    with pytest.raises(stripe.PermissionError) as caught:
        account.client_of(KEY).v1.billing.meters.list()
    error = caught.value.json_body["error"]
    assert (caught.value.http_status, error["type"]) == (403, "invalid_request_error")
    assert error["message"].startswith(
        "The provided key 'rk_test_***123456' does not have the required permissions for this endpoint on account"
    )
    assert "Enabling Meters Read ('billing_meter_read') permissions" in error["message"]
    assert "abcdef" not in error["message"]


def test_reading_reports_needs_a_permission_too(serving_stripe):
    account = serving_stripe(keys={KEY: {"meters:read"}, "rk_test_other": {"events:read"}})
    with pytest.raises(stripe.PermissionError):
        account.client_of(KEY).v2.core.events.list()
    assert account.client_of("rk_test_other").v2.core.events.list().data == []


def test_cancelling_needs_the_permission_of_meter_events(serving_stripe):
    account = serving_stripe(keys={KEY: {"meters:write"}})
    with pytest.raises(stripe.PermissionError, match="billing_meter_event_write"):
        account.client_of(KEY).v1.billing.meter_event_adjustments.create(
            {"event_name": "credits", "type": "cancel", "cancel": {"identifier": "one"}}
        )


def test_the_accounts_own_key_may_do_everything(serving_stripe):
    account = serving_stripe(keys={KEY: set()})
    account.sandbox.add_subscription("cus_1", "credits", started_at_us=0)
    for call in CALLS.values():
        call(account.client.v1)


def test_a_permission_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"'meter:read' is no permission; .*meters:read"):
        SandboxStripe(clock=VirtualClock(0), keys={KEY: {"meter:read"}})


# Modes


@pytest.mark.parametrize(
    ("livemode", "words"),
    [
        (False, "a similar object exists in live mode, but a test mode key was used"),
        (True, "a similar object exists in test mode, but a live mode key was used"),
    ],
)
def test_a_customer_of_the_other_mode_is_missing_and_stripe_says_why(serving_stripe, livemode, words):
    account = serving_stripe(livemode=livemode)
    account.sandbox.add_customer("cus_there", livemode=not livemode)
    account.sandbox.add_customer("cus_here", livemode=livemode)
    assert account.client.v1.customers.retrieve("cus_here").livemode is livemode
    with pytest.raises(stripe.InvalidRequestError) as caught:
        account.client.v1.customers.retrieve("cus_there")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert caught.value.user_message == f"No such customer: 'cus_there'; {words} to make this request."
    assert [one.id for one in account.client.v1.customers.list().data] == ["cus_here"]


def test_usage_of_a_customer_of_the_other_mode_is_rejected_later(serving_stripe):
    """A test key against live customers: every meter event is answered with 200, and none counts."""
    account = serving_stripe()
    account.sandbox.add_customer("cus_live", livemode=True)
    account.send("one", customer="cus_live")
    account.send("two", customer="cus_test")
    assert account.sandbox.tally() == {("cus_live", "credits"): 0, ("cus_test", "credits"): 5}
    account.clock.advance(60)
    [report] = account.client.v2.core.events.list().data
    [kind] = account.client.v2.core.events.retrieve(report.id).data.reason.error_types
    assert kind.code == "meter_event_customer_not_found"


def test_usage_of_a_customer_of_the_other_mode_can_be_refused_at_once(serving_stripe):
    account = serving_stripe(unknown_customer="sync")
    account.sandbox.add_customer("cus_live", livemode=True)
    with pytest.raises(stripe.InvalidRequestError, match="exists in live mode"):
        account.send(customer="cus_live", timestamp=NOW_SECONDS)
