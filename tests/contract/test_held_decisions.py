"""What a person decides about money that waits, judged by Stripe's counts and invoices and by the ledger's sums."""

import json

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT, no_summaries
from databases import DATABASES
from kills import killed_at
from tallymark.core.clock import DAY_US, MINUTE_US, SECOND_US, parse_time
from tallymark.core.types import Reason
from tallymark.errors import ConfigError, KeyRefused, NotFound, Refused, RemoteError
from tallymark.failpoints import Side, Step
from tallymark.flows import held_decisions
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

BOUNDARY_US = parse_time("2026-11-23T10:30:00Z")
LATE_US = BOUNDARY_US - 20 * MINUTE_US


@pytest.fixture
def subscribe(stripe):
    """A function that gives a customer a subscription whose period begins every day at the boundary."""

    def add(customer="cus_1", sandbox=stripe, **changes):
        fits = {"started_at_us": BOUNDARY_US - 20 * DAY_US, "period": "day", "unit_amount_decimal": "0.4"}
        sandbox.add_subscription(customer, "credits", **{**fits, **changes})

    return add


@pytest.fixture
def decide(settings, clock):
    """A function that carries out a word of Anna's."""

    def word(choice, *ids, to=None, why="agreed by mail", **more):
        config = to or settings()
        return held_decisions.release(config, ids, choice, why=why, by="anna", clock=clock, **more)

    return word


@pytest.fixture
def late(put, run, subscribe, look):
    """A function that has one trace held as late; the meter event it waits in."""

    def make(trace_id="late", **changes):
        subscribe()
        put(trace_id, at_us=LATE_US, **changes)
        run()
        return waiting(look)

    return make


def waiting(look, state="held"):
    """The one meter event in a state."""
    ((meter_event_id,),) = look("select meter_event_id from meter_event where state = ?", state)
    return meter_event_id


def sums(look):
    """For each customer: entries, what meter events and the carry account for, and whether each event adds up."""
    entries = dict(look("select customer_id, sum(amount_micros) from entry group by customer_id"))
    accounted = dict(look("select customer_id, sum(amount_micros) from carry group by customer_id"))
    for customer, credits in look(
        "select customer_id, sum(credits) from meter_event where state not in ('carried', 'cancelled') group by 1"
    ):
        accounted[customer] = accounted.get(customer, 0) + credits * CREDIT_MICROS
    return entries, accounted


@pytest.fixture
def balanced(look):
    """A function that checks the sums of the ledger: entries = meter events + carry; cancelled ones cover nothing."""

    def check():
        entries, accounted = sums(look)
        opened = dict(
            look("select customer_id, sum(amount_micros) from entry where meter_event_id is null group by customer_id")
        )
        assert {c: entries[c] - opened.get(c, 0) for c in entries} == {c: accounted.get(c, 0) for c in entries}
        covered = look(
            "select sum(e.amount_micros) from meter_event as m join entry as e on e.meter_event_id = m.meter_event_id "
            "where m.state = 'cancelled' group by m.meter_event_id"
        )
        assert {micros for (micros,) in covered} <= {0}

    return check


# ---- late usage


def test_released_as_it_is_it_is_sent_with_its_own_time(late, decide, run, stripe, look, balanced):
    """A person knows better, for instance that the invoice is still a draft: the next sync sends it, once."""
    meter_event_id = late()

    decide("as-is", meter_event_id)
    run()

    (event,) = stripe.meter_events()
    assert (event.timestamp_seconds * SECOND_US, event.value) == (LATE_US, CREDITS_OF_A_TRACE)
    assert look("select released_by, state from meter_event") == [(1, "accepted")]
    balanced()


def test_billed_now_it_is_dated_with_the_decision_and_says_so(late, decide, run, clock, stripe, look, balanced):
    """It is on the next invoice; `explain` names who re-dated it."""
    meter_event_id = late()
    clock.advance(600)

    decide("bill-now", meter_event_id)
    run()

    (event,) = stripe.meter_events()
    assert event.timestamp_seconds * SECOND_US == NOW_US + 600 * SECOND_US
    assert look("select kind, amount_micros, decision_id from entry order by entry_id") == [
        ("charge", CREDITS_OF_A_TRACE * CREDIT_MICROS, None),
        ("reversal", -CREDITS_OF_A_TRACE * CREDIT_MICROS, 1),
        ("rebooking", CREDITS_OF_A_TRACE * CREDIT_MICROS, 1),
    ]
    balanced()
    clock.advance(2 * 86_400)
    assert (stripe.lost(), stripe.unbilled()) == ([], [])
    assert sum(invoice.credits for invoice in stripe.invoiced()) == CREDITS_OF_A_TRACE


def test_waived_it_is_billed_to_nobody_and_stays_so(late, decide, run, stripe, look, balanced):
    """No meter event, no carry; reading the trace again owes nothing."""
    decide("waive", late())
    run()
    run(full=True)

    assert stripe.meter_events() == []
    assert look("select state from meter_event") == [("cancelled",)]
    assert look("select sum(amount_micros) from entry") == [(0,)]
    assert look("select waived_micros, billed_micros, mark_state from trace") == [
        (CREDITS_OF_A_TRACE * CREDIT_MICROS, CREDITS_OF_A_TRACE * CREDIT_MICROS, "written")
    ]
    balanced()


def test_a_waived_trace_is_marked_as_waived(late, decide, run, langfuse):
    """The mark does not claim a meter event."""
    decide("waive", late())
    run()

    (trace,) = langfuse.traces(PROJECT)
    assert trace["metadata"]["meter_event_id"] == "waived"


def test_late_usage_can_be_another_customers(late, decide, run, stripe, look, balanced, put):
    """Moved in its own bucket; later usage of the trace goes where the first went."""
    decide("customer", late(), customer_id="cus_2")
    run()

    assert stripe.tally() == {("cus_2", "credits"): CREDITS_OF_A_TRACE}
    put("late", at_us=LATE_US, cost="0.03")
    run(full=True)
    assert stripe.tally() == {("cus_2", "credits"): 2 * CREDITS_OF_A_TRACE}
    balanced()


def test_lower_usage_lowers_what_is_held_before_anything_else(late, decide, run, put, stripe, look, balanced):
    """Held 500, then worth 250: 250 are held; waiving them leaves nothing in the carry."""
    late()
    put("late", at_us=LATE_US, cost="0", tokens=(0, 0))

    run(full=True)

    assert look("select credits from meter_event where state = 'held'") == [(CREDITS_OF_A_TRACE // 2,)]
    decide("waive", waiting(look))
    run()
    assert look("select sum(amount_micros) from entry") == [(0,)]
    assert look("select sum(amount_micros) from carry") == [(0,)]
    balanced()


def test_a_waiver_ends_where_its_usage_does(put, run, subscribe, decide, clock, look, balanced, balance):
    """500 paid and 500 of growth waived; then it was worth 400: 100 are given back, not 600."""
    subscribe()
    put("t1")
    run()
    clock.advance(86_400)
    put("t1", cost="0.03")
    run(full=True)
    decide("waive", waiting(look))
    put("t1", cost="0.006")

    run(full=True)

    assert balance() == {"cus_1": 400 * CREDIT_MICROS}
    assert look("select waived_micros, billed_micros from trace") == [(0, 400 * CREDIT_MICROS)]
    balanced()


# ---- invoice items


def test_an_invoice_item_bills_it_at_the_price_of_the_subscription(late, decide, run, clock, stripe, look, balanced):
    """500 credits at 0.4 cents are 2.00 USD on the next invoice; the ledger takes the usage back as invoiced."""
    meter_event_id = late()

    answer = decide("invoice-item", meter_event_id)

    assert answer["invoice_items"][0]["amount"] == 200
    assert look("select kind, amount_micros from entry order by entry_id")[-1] == (
        "invoiced",
        -CREDITS_OF_A_TRACE * CREDIT_MICROS,
    )
    assert "billed by invoice item ii_" in look("select answer from meter_event")[0][0]
    run(full=True)
    clock.advance(2 * 86_400)
    assert [invoice.item_amounts for invoice in stripe.invoiced()][-2:].count((200,)) == 1
    assert stripe.tally() == {}
    balanced()


def test_without_a_subscription_the_card_says_what_a_credit_is_worth(put, run, decide, clock, stripe, look):
    """Held because it is too old: 500 credits at 0.00004 USD are 2 cents."""
    put("t1", minutes_ago=34 * 24 * 60)
    run(from_us=NOW_US - 36 * DAY_US)
    put("t1", minutes_ago=34 * 24 * 60, cost="0.03")
    clock.advance(2 * 86_400)
    run(from_us=NOW_US - 36 * DAY_US)

    answer = decide("invoice-item", waiting(look))

    assert (answer["invoice_items"][0]["amount"], answer["invoice_items"][0]["currency"]) == (2, "usd")


def test_less_than_a_cent_is_no_invoice_item(late, decide):
    """A person waives it or bills it now instead."""
    meter_event_id = late(cost="0.00004", seconds=0)

    with pytest.raises(ConfigError, match="less than one USD cent"):
        decide("invoice-item", meter_event_id)


INVOICING = [Step.BEGIN_INVOICING, Step.STRIPE_INVOICE_ITEM, Step.FINISH_INVOICING]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("step", INVOICING)
def test_a_killed_command_makes_one_invoice_item(late, decide, run, clock, stripe, look, balanced, step, side):
    """Wherever it was cut off, the same command again finishes it: one item, and the usage taken back once."""
    meter_event_id = late()

    assert killed_at(step, side, lambda: decide("invoice-item", meter_event_id))
    run()
    if look("select state from meter_event") == [("held",)]:
        decide("invoice-item", meter_event_id)

    clock.advance(2 * 86_400)
    items = [amount for invoice in stripe.invoiced() for amount in invoice.item_amounts]
    assert items == [200]
    assert look("select count(*) from entry where kind = 'invoiced'") == [(1,)]
    assert stripe.tally() == {}
    balanced()


def test_an_item_whose_answer_was_lost_is_found_again(late, decide, settings, stripe, clock, balanced):
    """Stripe made it and the answer was lost: after a day, when it has forgotten the key, there is still one."""
    meter_event_id = late()
    lost = Faults.script([(is_new_item, Fault.RESET_AFTER)])
    with pytest.raises(RemoteError, match="Stripe"):
        decide("invoice-item", meter_event_id, to=settings(stripe_faults=lost))
    clock.advance(30 * 3600)

    decide("invoice-item", meter_event_id)

    clock.advance(2 * 86_400)
    assert [amount for invoice in stripe.invoiced() for amount in invoice.item_amounts] == [200]
    balanced()


def is_new_item(request):
    """Whether this asks for an invoice item to be made."""
    return (request.method, request.path) == ("POST", "/v1/invoiceitems")


def test_while_an_invoice_item_is_being_made_nothing_else_can_be_decided(late, decide):
    """Or the customer would pay twice."""
    meter_event_id = late()
    assert killed_at(Step.STRIPE_INVOICE_ITEM, Side.AFTER, lambda: decide("invoice-item", meter_event_id))

    for choice in ("as-is", "bill-now", "waive"):
        with pytest.raises(ConfigError, match="invoice-item"):
            decide(choice, meter_event_id)


def test_an_item_that_stripe_refuses_leaves_every_choice_open(late, decide, settings, clock, look):
    """The refusal is a line too."""
    late()
    strict = SandboxStripe(clock=clock, any_customer=False)
    strict.add_meter("credits")

    with pytest.raises(Refused):
        decide("invoice-item", waiting(look), to=settings(bill_to=strict))

    assert look("select verb, who from decision order by decision_id") == [
        ("invoice_item", "anna"),
        ("refused", "tallymark"),
    ]
    decide("waive", waiting(look))
    assert look("select state from meter_event") == [("cancelled",)]


# ---- doubt


@pytest.mark.parametrize("counted", [True, False])
def test_a_persons_word_settles_a_doubt(put, run, settings, decide, clock, stripe, look, balanced, counted):
    """It arrived, or it did not: either way Stripe has it once in the end."""
    fault = Fault.RESET_AFTER if counted else Fault.RESET_BEFORE
    put("t1")
    faults = Faults.script(
        [(lambda request: "meter_events" in request.path and request.method == "POST", fault)] * 1000
    )
    run(settings(stripe_faults=faults))
    clock.advance(24 * 3600)
    assert run(settings(stripe_faults=no_summaries())).held["in_doubt"] == 1

    decide("arrived" if counted else "not-sent", waiting(look, "in_doubt"))
    run()

    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
    assert look("select state from meter_event") == [("accepted",)]
    assert json.loads(look("select detail from decision")[0][0]) == {"arrived": counted}
    balanced()


# ---- held traces


def test_a_trace_without_a_customer_is_billed_to_the_one_that_is_named(put, run, decide, stripe, look):
    """The ruling is a line; the next sync reads the trace and bills it, though it lies behind the overlap."""
    put("t1", customer=None, minutes_ago=600)
    assert run().held["no_customer"] == 1

    decide("customer", "t1", customer_id="cus_9")
    assert run().processed == 1

    assert stripe.tally() == {("cus_9", "credits"): CREDITS_OF_A_TRACE}
    assert look("select found_by, customer_id from trace") == [("decision", "cus_9")]
    assert look("select decision_id from entry") == [(1,)]


def test_a_trace_that_is_too_old_is_billed_as_of_the_decision(put, run, decide, clock, stripe, look):
    """Dated now, in the bucket of the decision; its own time stays on the trace."""
    put("t1", minutes_ago=36 * 24 * 60)
    assert run(from_us=NOW_US - 40 * DAY_US).held["too_old"] == 1
    clock.advance(60)

    decide("bill-now", "t1")
    clock.advance(3600)
    assert run().processed == 1

    (event,) = stripe.meter_events()
    assert event.timestamp_seconds * SECOND_US == NOW_US + 60 * SECOND_US
    assert look("select timestamp_us, decision_id from entry") == [(NOW_US + 60 * SECOND_US, 1)]
    assert look("select timestamp_us from trace") == [(NOW_US - 36 * DAY_US,)]


def test_a_trace_that_is_too_old_and_nobodys_takes_both_words(put, run, decide, stripe):
    """In either order: who pays, and when it is dated."""
    put("t1", minutes_ago=36 * 24 * 60, customer=None)
    run(from_us=NOW_US - 40 * DAY_US)

    decide("bill-now", "t1")
    assert run().held["no_customer"] == 1
    decide("customer", "t1", customer_id="cus_9")
    assert run().processed == 1

    assert stripe.tally() == {("cus_9", "credits"): CREDITS_OF_A_TRACE}


def test_a_waived_trace_is_skipped_now_and_whenever_it_is_read(put, run, decide, stripe, look):
    """It is no longer held at once; reading it again, with another price even, changes nothing."""
    put("t1", customer=None)
    run()

    decide("waive", "t1")
    assert look("select outcome, reason from trace") == [("skipped", "waived")]
    put("t1", cost="0.05")

    assert run(full=True).skipped[Reason.WAIVED] == 1
    assert run(full=True).skipped[Reason.WAIVED] == 1
    assert stripe.tally() == {}


def test_an_unpriced_trace_is_read_again_when_it_is_released(put, run, decide, stripe):
    """Its price is there now; it lies behind the overlap, and needs no full sync."""
    put("t1", cost=None, minutes_ago=600)
    assert run().held["unpriced"] == 1
    put("t1", minutes_ago=600)

    decide("as-is", "t1")

    assert run().processed == 1


def test_all_of_a_reason_at_once(put, run, decide, stripe, look):
    """One decision a trace, all of them in the ledger."""
    for number in range(7):
        put(f"t{number}", customer=None)
    put("other", cost=None)
    run()

    answer = decide("customer", reason="no_customer", customer_id="cus_9")
    run()

    assert len(answer["decisions"]) == 7
    assert stripe.tally() == {("cus_9", "credits"): 7 * CREDITS_OF_A_TRACE}
    assert look("select count(*), count(distinct subject), min(who), min(why) from decision") == [
        (7, 7, "anna", "agreed by mail")
    ]


# ---- rules


@pytest.mark.parametrize(
    ("kind", "value", "trace"),
    [
        ("user", "user-1", {}),
        ("session", "session-1", {"sessionId": "session-1"}),
        ("organization", "org-1", {"metadata": {"organizationId": "org-1"}}),
    ],
)
def test_a_rule_bills_what_was_held_and_what_comes(put, run, settings, clock, stripe, look, kind, value, trace):
    """Held traces are read again by the next sync; new ones are billed as they come."""
    put("held", customer=None, minutes_ago=600, **trace)
    run()

    held_decisions.add_customer_rules(
        settings(), [(kind, value)], "cus_9", why="their contract", by="anna", clock=clock
    )
    put("new", customer=None, **trace)
    summary = run()

    assert summary.processed == 2
    assert stripe.tally() == {("cus_9", "credits"): 2 * CREDITS_OF_A_TRACE}
    assert set(look("select found_by from trace")) == {(f"{kind} rule",)}


def test_mappings_of_the_settings_come_before_rules_and_rules_before_the_default(put, run, settings, clock, stripe):
    """A rule fills a gap; it overrules nothing that an operator wrote down."""
    held_decisions.add_customer_rules(settings(), [("user", "user-1")], "cus_rule", why="x", by="anna", clock=clock)
    put("named", customer="cus_own")
    put("ruled", customer=None)

    run(settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_default"))

    assert set(stripe.tally()) == {("cus_own", "credits"), ("cus_rule", "credits")}


def test_a_removed_rule_bills_nothing_any_more(put, run, settings, clock, stripe, look):
    """What it billed stays; who removed it is a line."""
    config = settings()
    held_decisions.add_customer_rules(config, [("user", "user-1")], "cus_9", why="x", by="anna", clock=clock)
    held_decisions.remove_customer_rule(config, "user", "user-1", why="ended", by="ben", clock=clock)
    put("t1", customer=None)

    assert run().held["no_customer"] == 1
    assert held_decisions.customer_rules(config) == []
    assert look("select verb, who from decision") == [("assign", "anna"), ("remove", "ben")]
    with pytest.raises(ConfigError, match="no rule"):
        held_decisions.remove_customer_rule(config, "user", "user-1", why="ended", by="ben", clock=clock)


# ---- cut off


@pytest.mark.parametrize("side", Side)
def test_a_decision_that_was_cut_off_is_made_or_not_made(late, decide, look, stripe, run, balanced, side):
    """Never in part: the line and everything that it causes are one commit."""
    meter_event_id = late()

    assert killed_at(Step.DECIDE_HELD, side, lambda: decide("waive", meter_event_id))

    made = side is Side.AFTER
    assert look("select count(*) from decision") == [(int(made),)]
    assert look("select state from meter_event") == [("cancelled" if made else "held",)]
    assert look("select sum(amount_micros) from entry") == [(0 if made else CREDITS_OF_A_TRACE * CREDIT_MICROS,)]
    balanced()


@pytest.mark.parametrize("side", Side)
def test_a_rule_that_was_cut_off_is_made_or_not_made(settings, clock, look, side):
    """The rule and its decision are one commit."""

    def add():
        held_decisions.add_customer_rules(settings(), [("user", "u")], "cus_9", why="x", by="anna", clock=clock)

    assert killed_at(Step.PUT_CUSTOMER_RULE, side, add)

    made = int(side is Side.AFTER)
    assert look("select (select count(*) from customer_rule), (select count(*) from decision)") == [(made, made)]


# ---- what is refused


def test_what_does_not_wait_cannot_be_decided_about(put, run, late, decide, look):
    """Accepted money, unknown ids, choices that make no sense: each refused with what is wrong, nothing written."""
    held = late()
    put("billed")
    run()
    accepted = waiting(look, "accepted")

    with pytest.raises(ConfigError, match="does not wait"):
        decide("waive", accepted)
    with pytest.raises(ConfigError, match="does not wait"):
        decide("waive", "billed")
    with pytest.raises(ConfigError, match=f"waits in {held}"):
        decide("waive", "late")
    with pytest.raises(NotFound, match="no-such"):
        decide("waive", "no-such")
    with pytest.raises(ConfigError, match="makes no sense"):
        decide("arrived", held)
    with pytest.raises(NotFound, match="nothing is held"):
        decide("waive", reason="unpriced")
    with pytest.raises(ConfigError, match="say why"):
        decide("waive", held, why="  ")
    with pytest.raises(ConfigError, match="--customer"):
        decide("customer", held)
    assert look("select count(*) from decision") == [(0,)]


def test_a_decision_is_not_made_twice(late, decide):
    """The second one finds that there is nothing to decide."""
    meter_event_id = late()
    decide("waive", meter_event_id)

    with pytest.raises(ConfigError, match="does not wait"):
        decide("waive", meter_event_id)


def test_what_confirm_refuses_is_not_done(late, decide, look):
    """Who is asked sees the amount first."""
    seen = []

    decide("waive", late(), confirm=lambda plan: bool(seen.append(plan.amount_micros)))

    assert seen == [CREDITS_OF_A_TRACE * CREDIT_MICROS]
    assert look("select count(*) from decision") == [(0,)]


def test_an_invoice_item_needs_the_permission(late, decide, settings, clock, subscribe, look):
    """The refusal says what to grant, and the same command goes on afterwards."""
    late()
    key = "rk_test_without"
    limited = SandboxStripe(clock=clock, keys={key: ["meter_events:write", "meters:read", "subscriptions:read"]})
    limited.add_meter("credits")
    subscribe(sandbox=limited)

    with pytest.raises(KeyRefused, match="Invoices: write"):
        decide("invoice-item", waiting(look), to=settings(bill_to=limited, STRIPE_SECRET_KEY=key))
    decide("invoice-item", waiting(look))

    assert look("select state from meter_event") == [("cancelled",)]
