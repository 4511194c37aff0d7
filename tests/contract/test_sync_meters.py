"""Buckets, meters and customers: what Stripe receives, and what is refused before anything is read."""

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from tallymark import config
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.errors import ConfigError, KeyRefused, MeterError, Unavailable, Unreachable
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe

WIDTHS = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}


@pytest.fixture
def account(clock):
    """A function that makes a Stripe account without any meter."""
    return lambda **options: SandboxStripe(clock=clock, **options)


# ---- buckets


@pytest.mark.parametrize("bucket", WIDTHS)
def test_every_meter_event_lies_in_its_bucket(put, run, settings, stripe, bucket):
    """One meter event for each customer and window that has usage; its timestamp lies in the traces' own time (G3)."""
    windows = set()
    for number in range(60):
        at_us = NOW_US - 2 * DAY_US + number * 17 * MINUTE_US + number * 1_234_000
        put(f"t{number}", customer=f"cus_{number % 2}", at_us=at_us)
        windows.add((f"cus_{number % 2}", at_us // WIDTHS[bucket]))

    run(settings(BILLING_METER_BUCKET=bucket))

    sent = [(one.customer, one.timestamp_seconds * SECOND_US // WIDTHS[bucket]) for one in stripe.meter_events()]
    assert sorted(sent) == sorted(windows)
    assert stripe.tally() == {(f"cus_{n}", "credits"): 30 * CREDITS_OF_A_TRACE for n in (0, 1)}


@pytest.mark.parametrize("bucket", [*WIDTHS, "trace"])
def test_the_sum_does_not_depend_on_the_buckets(put, run, settings, balance, bucket):
    """The same credits for the same usage, to the micro-credit, whatever was carried on the way."""
    for number in range(20):
        put(f"t{number}", minutes_ago=20 + 97 * number, cost="0.0100013")

    run(settings(BILLING_METER_BUCKET=bucket))

    assert balance() == {"cus_1": 20 * 500_032_500}


def test_a_trace_bucket_tells_the_trace_its_user_and_its_components(put, run, settings, stripe):
    """The payload explains itself in Stripe's own lists."""
    put("t1", userId="user-7")

    run(settings(BILLING_METER_BUCKET="trace"))

    (sent,) = stripe.meter_events()
    assert {key: value for key, value in sent.payload.items() if not key.endswith("_credits")} == {
        "stripe_customer_id": "cus_1",
        "value": "500",
        "trace_id": "t1",
        "user_id": "user-7",
    }
    credits = {key: float(value) for key, value in sent.payload.items() if key.endswith("_credits")}
    assert credits == {"ai_credits": 250, "compute_credits": 250}


def test_a_trace_bucket_of_a_long_id_is_sent_without_it(put, run, settings, stripe):
    """Payload values have at most 100 characters (facts/stripe.md section 1)."""
    put("x" * 800, userId="é" * 200)

    assert run(settings(BILLING_METER_BUCKET="trace")).processed == 1
    assert "trace_id" not in stripe.meter_events()[0].payload


def test_an_hour_bucket_tells_no_trace(put, run, stripe):
    """Customer and value, nothing else."""
    put("t1")

    run()

    assert dict(stripe.meter_events()[0].payload) == {"stripe_customer_id": "cus_1", "value": "500"}


def test_values_are_whole_and_what_is_left_over_is_carried(put, run, stripe, balance):
    """Three times 0.4 credits in three hours: one credit in the third, 0.2 carried."""
    for hours in (1, 2, 3):
        put(f"t{hours}", minutes_ago=60 * hours, cost="0.000016", seconds=0)

    summary = run()

    assert [str(one.value) for one in stripe.meter_events()] == ["1"]
    assert balance() == {"cus_1": 1_200_000}
    assert (summary.processed, summary.marks.written) == (3, 3)


def test_components_go_to_meters_of_their_own(put, run, settings, stripe, clock, tmp_path):
    """[meters] in the file: each meter is its own sum."""
    stripe.add_meter("compute")
    file = tmp_path / "tallymark.toml"
    file.write_text('[meters]\ncompute = "compute"\n')
    base = settings()
    put("t1")
    to = config.load(
        file,
        {
            "LANGFUSE_BASE_URL": base.projects[0].base_url,
            "LANGFUSE_PUBLIC_KEY": base.projects[0].public_key,
            "LANGFUSE_SECRET_KEY": base.projects[0].secret_key,
            "STRIPE_SECRET_KEY": base.stripe_secret_key,
            "STRIPE_API_BASE": base.stripe_api_base,
            "BILLING_LEDGER_URL": base.ledger_url,
        },
    )

    run(to)

    assert stripe.tally() == {("cus_1", "credits"): 250, ("cus_1", "compute"): 250}


# ---- customers


def test_a_customer_that_stripe_refuses_is_billed_by_the_run_after_it_is_created(put, run, settings, account):
    """400 now: failed, kept, and offered again; nothing else of the run suffers."""
    strict = account(any_customer=False, unknown_customer="sync")
    strict.add_meter("credits")
    strict.add_customer("cus_1")
    put("t1")
    put("t2", customer="cus_new")

    summary = run(settings(bill_to=strict))
    assert (summary.processed, summary.failed, summary.meter_events.rejected) == (1, 1, 1)
    assert "cus_new" in summary.failures[0].error
    assert summary.exit_status == 1

    strict.add_customer("cus_new")
    summary = run(settings(bill_to=strict))
    assert (summary.processed, summary.failed, summary.meter_events.rejected) == (1, 0, 0)
    assert strict.tally() == {("cus_1", "credits"): 500, ("cus_new", "credits"): 500}


def test_a_refused_bucket_does_not_stop_the_customers_other_buckets(put, run, settings, account, clock):
    """One lane, several hours: what can be sent is sent."""
    strict = account(any_customer=False, unknown_customer="sync")
    strict.add_meter("credits")
    strict.add_customer("cus_1")
    for hours in range(1, 5):
        put(f"t{hours}", minutes_ago=60 * hours, customer="cus_1" if hours % 2 else "cus_2")

    summary = run(settings(bill_to=strict))

    assert (summary.processed, summary.failed) == (2, 2)


# ---- meters


def refused(run, settings, langfuse, stripe):
    """The error of a run that must not read anything."""
    with pytest.raises(ConfigError) as caught:
        run(settings(bill_to=stripe))
    assert not any(line.startswith("GET /api/public/traces") for line in langfuse.counts())
    assert stripe.meter_events() == []
    return caught


def test_no_meter(put, run, settings, langfuse, account):
    """Nothing is read before the meter is there."""
    put("t1")

    caught = refused(run, settings, langfuse, account())

    assert caught.type is MeterError
    assert "no meter of the event name 'credits'" in str(caught.value)


def test_an_inactive_meter(put, run, settings, langfuse, account):
    """It would refuse everything."""
    put("t1")
    stripe = account()
    stripe.add_meter("credits", active=False)

    assert "is inactive; reactivate it" in str(refused(run, settings, langfuse, stripe).value)


def test_two_active_meters_of_one_event_name(put, run, settings, langfuse, account):
    """Both would count, or the wrong one."""
    put("t1")
    stripe = account()
    first, second = stripe.add_meter("credits"), stripe.add_meter("credits")

    said = str(refused(run, settings, langfuse, stripe).value)

    assert "2 active meters" in said
    assert first.id in said
    assert second.id in said


def test_an_inactive_meter_beside_an_active_one_is_no_matter(put, run, settings, account):
    """The old one."""
    stripe = account()
    stripe.add_meter("credits", active=False)
    stripe.add_meter("credits")
    put("t1")

    assert run(settings(bill_to=stripe)).processed == 1


@pytest.mark.parametrize(
    "options",
    [{"formula": "count"}, {"formula": "last"}, {"customer_key": "x"}, {"value_key": "x"}, {"window": "day"}],
)
def test_a_meter_that_would_count_otherwise(put, run, settings, langfuse, account, options):
    """It must sum `value` for `stripe_customer_id`."""
    put("t1")
    stripe = account()
    stripe.add_meter("credits", **options)

    assert refused(run, settings, langfuse, stripe).type is MeterError


def test_another_meter_than_the_one_that_is_named(put, run, settings, stripe):
    """BILLING_STRIPE_CREDITS_METER_ID."""
    put("t1")

    with pytest.raises(MeterError, match="BILLING_STRIPE_CREDITS_METER_ID names mtr_other"):
        run(settings(BILLING_STRIPE_CREDITS_METER_ID="mtr_other"))


def test_the_meter_is_checked_once_a_day(put, run, clock, stripe):
    """Not by every run, and again after a day."""
    put("t1")
    run()
    run()
    assert stripe.counts()["GET /v1/billing/meters"] == 1
    clock.advance(25 * 3600)
    run()
    assert stripe.counts()["GET /v1/billing/meters"] == 2


def test_a_hundred_other_meters_are_no_matter(put, run, settings, account):
    """The list of meters has pages."""
    stripe = account()
    stripe.add_meter("credits")
    for number in range(150):
        stripe.add_meter(f"other-{number}")
    put("t1")

    assert run(settings(bill_to=stripe)).processed == 1


# ---- keys and reachability


def test_no_keys_name_every_variable(run, langfuse, stripe, tmp_path):
    """Exit 2, before anything is opened."""
    empty = config.load(None, {"BILLING_LEDGER_URL": f"sqlite:///{tmp_path / 'x.db'}"})

    with pytest.raises(ConfigError, match="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"):
        run(empty)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_stripe_key_is_named_before_anything_is_read(put, run, settings, langfuse):
    """Exit 2; the key itself is not shown."""
    put("t1")

    with pytest.raises(KeyRefused, match="BILLING_STRIPE_SECRET_KEY") as caught:
        run(settings(STRIPE_SECRET_KEY="sk_test_wrong_and_secret"))

    assert "wrong_and_secret" not in str(caught.value)
    assert langfuse.counts() == {}


def test_stripe_out_of_reach_is_exit_3(put, run, settings):
    """Nothing is lost."""
    put("t1")
    with pytest.raises(Unreachable, match="Stripe cannot be reached") as caught:
        run(settings(STRIPE_API_BASE="http://127.0.0.1:9"))
    assert caught.value.exit_status == 3


def test_stripe_that_answers_only_html_is_exit_3(put, run, settings):
    """A proxy in between."""
    put("t1")
    with pytest.raises(Unavailable) as caught:
        run(settings(stripe_faults=Faults(0, {Fault.HTML: 1})))
    assert caught.value.exit_status == 3
