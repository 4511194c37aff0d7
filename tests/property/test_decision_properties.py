"""Whatever is billed, held, answered and decided, in whatever order, no micro-credit is lost or made."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import CREDIT_MICROS, NOW_US, PROJECT
from ledger_lines import ACCEPTED, REJECTED, RUN, UNKNOWN, adjust, bill
from tallymark.core.choices import Choice
from tallymark.core.clock import DAY_US, MINUTE_US
from tallymark.core.periods import Period
from tallymark.core.windows import bucket_of
from tallymark.ledger import open_ledger
from tallymark.ledger.corrections import Place
from tallymark.ledger.deletions import credit_deleted
from tallymark.ledger.held import Word, begin_invoicing, decide_meter_events, finish_invoicing, meter_event_choices
from tallymark.ledger.periods import Checked, put_periods

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BOUNDARY_US = NOW_US - 90 * MINUTE_US
CUSTOMERS = ("cus_1", "cus_2")
MINUTES_AGO = (40, 80, 100, 130)
WHERE = st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(MINUTES_AGO))
# The first ones are late, and worth a credit: so there is something to decide about.
LATE = st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from([100, 130]))
BILLS = st.lists(st.tuples(st.just("bill"), LATE, st.integers(1_100_000, 4 * CREDIT_MICROS)), min_size=2, max_size=6)
MORE = st.lists(
    st.one_of(
        st.tuples(st.just("bill"), WHERE, st.integers(0, 4 * CREDIT_MICROS)),
        st.tuples(st.just("adjust"), st.integers(0, 9), st.integers(-2 * CREDIT_MICROS, 2 * CREDIT_MICROS)),
        st.tuples(st.just("answer"), st.sampled_from([ACCEPTED, REJECTED, UNKNOWN])),
        st.tuples(st.just("decide"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("decide"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
    ),
    min_size=4,
    max_size=20,
)
STEPS = st.builds(lambda first, more: [*first, *more], BILLS, MORE)


class Story:
    """A ledger, and what its customers use, waived and were invoiced otherwise, counted apart from it."""

    def __init__(self):
        self.ledger = open_ledger("sqlite://")
        self.now_us, self.traces, self.worth = NOW_US, [], Counter()
        period = Period("si", BOUNDARY_US - 30 * DAY_US, BOUNDARY_US)
        put_periods(self.ledger, [Checked(customer, "credits", [period]) for customer in CUSTOMERS], NOW_US)

    @property
    def run(self):
        """A run at the present."""
        return RUN._replace(now_us=self.now_us)

    def bill(self, where, micros):
        """A new trace."""
        customer, minutes_ago = where
        trace_id = f"t{len(self.worth)}"
        bill(self.ledger, trace_id, micros, customer=customer, minutes_ago=minutes_ago)
        self.traces.append((trace_id, customer, minutes_ago))
        self.worth[trace_id] = micros

    def adjust(self, place, micros):
        """A trace of before is worth more or less, never less than nothing."""
        if self.traces:
            trace_id, _, minutes_ago = self.traces[place % len(self.traces)]
            micros = max(micros, -self.worth[trace_id])
            adjust(self.ledger, trace_id, micros, customer=self.customer_of(trace_id), minutes_ago=minutes_ago)
            self.worth[trace_id] += micros

    def customer_of(self, trace_id):
        """Whom the ledger bills."""
        (row,) = self.ledger.query("billed_trace", project_id=PROJECT, trace_id=trace_id)
        return row["customer_id"]

    def delete(self, place):
        """A trace is gone, and given back."""
        if self.traces:
            trace_id, *_ = self.traces.pop(place % len(self.traces))
            credit_deleted(self.ledger, self.run, [(PROJECT, trace_id)], "hour")

    def gather(self):
        """Until nothing is open."""
        while self.ledger.gather(self.run, 10):
            pass

    def answer(self, outcome):
        """Claim, and let the meter answer all of it alike."""
        self.now_us += MINUTE_US
        self.gather()
        self.ledger.reopen_rejected()
        self.ledger.settle([(claim, outcome) for claim in self.ledger.claim(self.now_us, 10)], self.now_us)

    def decide(self, which, how):
        """Some choice that is open for some meter event."""
        self.gather()
        waiting = list(self.ledger.query("list_open_meter_events", reason="", limit=100))
        if not waiting:
            return
        identity = waiting[which % len(waiting)]["meter_event_id"]
        (event,) = self.ledger.query("meter_event", meter_event_id=identity)
        if choices := meter_event_choices(self.ledger, event, self.now_us):
            self.carry_out(identity, choices[how % len(choices)])

    def carry_out(self, identity, choice):
        """As the flow does."""
        if choice is Choice.INVOICE_ITEM:
            begun = begin_invoicing(self.ledger, self.run, Word(choice, "anna", "why"), identity, "{}")
            finish_invoicing(self.ledger, self.run, begun, "ii_1")
            return
        place = Place()
        if choice is Choice.BILL_NOW:
            place = Place(self.now_us, *bucket_of(self.now_us, "hour"))
        if choice is Choice.ASSIGN:
            place = Place(customer_id="cus_3")
        decide_meter_events(self.ledger, self.run, Word(choice, "anna", "why", place), [identity])


def play(steps):
    """Let it happen."""
    story = Story()
    for verb, *values in steps:
        getattr(story, verb)(*values)
    story.gather()
    return story


@QUICK
@given(STEPS)
def test_sums_hold_whatever_is_decided(steps):
    """Entries are meter events and carry, for each customer; what is cancelled covers nothing; each row adds up."""
    ledger = play(steps).ledger

    for row in ledger.query("balances"):
        sent = (row["accepted_credits"] + row["owed_credits"]) * CREDIT_MICROS
        assert row["entries_micros"] == sent + row["carry_micros"]
    for event in events_of(ledger):
        covered = sum(
            row["amount_micros"] for row in ledger.query("covered_by", meter_event_id=event["meter_event_id"])
        )
        gathered = event["credits"] * CREDIT_MICROS + event["carry_after_micros"] - event["carry_before_micros"]
        assert event["entries_micros"] == gathered
        assert covered == (0 if event["state"] == "cancelled" else event["entries_micros"])
    ledger.close()


@QUICK
@given(STEPS)
def test_a_customer_owes_what_was_used_less_what_was_waived_or_invoiced(steps):
    """Trace by trace, by its lines: nobody pays for what was waived, nor is given what was never paid."""
    story = play(steps)

    for trace_id, *_ in story.traces:
        lines = list(story.ledger.query("entries_of", project_id=PROJECT, trace_id=trace_id))
        waived = -sum(line["amount_micros"] for line in lines if line["kind"] == "waiver")
        invoiced = -sum(line["amount_micros"] for line in lines if line["kind"] == "invoiced")
        assert sum(line["amount_micros"] for line in lines) == story.worth[trace_id] - waived - invoiced
        assert waived >= 0
    story.ledger.close()


def events_of(ledger):
    """Every meter event."""
    with ledger.transaction("read") as db:
        return [db.row("meter_event", meter_event_id=row[0]) for row in db.stream_table("meter_event")]
