"""The judge: what must hold at every request, after every step, and in the end. It asks Stripe's own tally first.

It reads the ledger's file over a connection of its own, which sees only what is committed.
"""

import json
import sqlite3
from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qs

from sim.events import Violation
from sim.model import METER
from tallymark.core.clock import DAY_US, SECOND_US
from tallymark.core.ids import issue_of, sent_identifier
from tallymark.flows.progress import quiet
from tallymark.flows.proof import verify_ledger
from tallymark.ledger.verify import NOTHING_NOTED
from tallymark.sandbox.faults import Ending

CREDIT_MICROS = 1_000_000
REPORTS = "/v2/core/events"
SENDS = "/v1/billing/meter_events"
MARKS = ("/api/public/ingestion", "/api/public/scores")
SETTLED = ("accepted", "carried", "cancelled")
WAITS = ("pending", "sending", "rejected", "held", "in_doubt", "cancelling")
# Reading the whole ledger takes as long as a sync; what it finds wrong stays wrong.
VERIFY_EVERY = 4
MOVING_TRACES = """
select t.trace_id, t.mark_state, sum(coalesce(m.state, '') not in ('accepted', 'carried', 'cancelled')) as moving
  from trace as t
  join entry as e on e.project_id = t.project_id and e.trace_id = t.trace_id
  left join meter_event as m on m.meter_event_id = e.meter_event_id
 group by 1, 2
"""
LINES = "select customer_id, sum(amount_micros) as micros from entry group by 1"
CALL_SECONDS_MAX = 16
BY_DECISION = ("reversal", "rebooking", "waiver", "invoiced")


class Judge:
    """Looks at requests, and at ledger, Stripe and model side by side. Raises Violation."""

    def __init__(self, world):
        self._world, self._file = world, world.ledger_file
        self._reader, self._runs = None, 0
        self._polled_at_us = []
        self._verified = ""

    # --- the ledger, as committed

    def ask(self, question, *values):
        """Rows of the ledger; none before there is one."""
        if self._reader is None:
            if not self._file.exists():
                return []
            reader = sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True, isolation_level=None)
            if reader.execute("select count(*) from sqlite_master where name = 'decision'").fetchone()[0] == 0:
                reader.close()
                return []
            self._reader = reader
            self._reader.row_factory = sqlite3.Row
        return self._reader.execute(question, values).fetchall()

    def close(self):
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # --- requests

    def before(self, service, request):
        """Look at a request that is about to leave."""
        if service == "stripe" and request.path == SENDS:
            self._before_send(request)
        if service == "langfuse" and request.method == "POST" and request.path in MARKS:
            for trace_id in marked_by(request):
                self._before_mark(trace_id)

    def after(self, service, request, found):
        """Look at an answer."""
        if service == "stripe" and request.path == REPORTS and found.ending is Ending.SENT:
            self._polled_at_us.append(self._world.true.now_us())
        if service == "stripe" and request.path == SENDS:
            self._world.processes.current.calling.pop(lane_of(request), None)

    def _before_send(self, request):
        """G1: the claim is committed, says the same, and no other identifier of this money counts."""
        sent = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        identifier = sent["identifier"]
        own_id, issue = issue_of(identifier)
        rows = self.ask("select * from meter_event where meter_event_id = ?", own_id)
        self.must(rows, f"{identifier} was sent and is not in the ledger")
        row = rows[0]
        self.must(row["state"] == "sending", f"{identifier} was sent while its committed state is {row['state']}")
        key = request.headers.get("idempotency-key")
        attempts = self.ask("select * from attempt where meter_event_id = ?", own_id)
        committed = {one["idempotency_key"]: one["window_total"] for one in attempts}
        self.must(key in committed, f"{identifier} was sent under {key}, which is no committed attempt")
        said = sent["payload[stripe_customer_id]"], sent["event_name"]
        fixed = row["customer_id"], row["meter"]
        self.must(said == fixed, f"{identifier} was sent as {said} but fixed as {fixed}")
        said = int(sent["payload[value]"]), int(sent["timestamp"])
        if self._world.window_s:
            self._before_total(row, committed[key], *said)
        else:
            self._before_value(row, identifier, *said)
        self.must(issue <= row["reissue"], f"{identifier} is no issue of {own_id}, which has {row['reissue']}")
        self._one_call(lane_of(request))

    def _before_value(self, row, identifier, value, timestamp_s):
        """What is sent is what was fixed, in its bucket, and counts once."""
        own_id, fixed = row["meter_event_id"], (row["credits"], row["timestamp_s"])
        self.must((value, timestamp_s) == fixed, f"{own_id} was sent as {value, timestamp_s} but fixed as {fixed}")
        self.must(
            row["bucket_start_us"] <= timestamp_s * CREDIT_MICROS < row["bucket_end_us"],
            f"the timestamp of {own_id} lies outside its bucket",
        )
        for event in self._world.stripe.meter_events():
            if event.identifier != identifier and issue_of(event.identifier)[0] == own_id:
                self.must(not event.counted, f"{identifier} was sent though {event.identifier} counts")

    def _before_total(self, row, total, value, timestamp_s):
        """What is sent is the total that was committed, and it is dated in the window of what it adds."""
        own_id, window_s = row["meter_event_id"], self._world.window_s
        self.must(value == total, f"{own_id} set its window to {value}, and {total} was committed")
        same = timestamp_s >= row["timestamp_s"] and timestamp_s // window_s == row["timestamp_s"] // window_s
        self.must(same, f"{own_id} of {row['timestamp_s']} set the window of {timestamp_s}")

    def _one_call(self, lane):
        """A call lasts for 15 seconds at most, unless its process is stopped meanwhile, which nothing can prevent."""
        now_us = self._world.true.now_us()
        for process in self._world.processes.stack:
            begun_us = process.calling.get(lane, 0)
            self.must(now_us - begun_us > CALL_SECONDS_MAX * SECOND_US, f"two calls in flight for {lane}")
        self._world.processes.current.calling[lane] = now_us

    def _before_mark(self, trace_id):
        """G5: every line of the trace lies in a meter event that is settled, and that Stripe got if it was sent."""
        received = {issue_of(one.identifier)[0] for one in self._world.stripe.meter_events()}
        rows = self.ask(
            "select e.meter_event_id, coalesce(m.state, 'open') as state from entry as e"
            " left join meter_event as m on m.meter_event_id = e.meter_event_id where e.trace_id = ?",
            trace_id,
        )
        for row in rows:
            self.must(row["state"] in SETTLED, f"{trace_id} was marked while {row['meter_event_id']} is {row['state']}")
            if row["state"] == "accepted":
                self.must(row["meter_event_id"] in received, f"{trace_id} was marked and Stripe never got its usage")

    # --- after every step

    def after_step(self, ran):
        """What holds at any moment. `ran`: the ledger may have changed."""
        self._counted_once()
        self._never_more_than_the_model()
        if ran:
            self._carries()
            self._note_first_seen()
            self._runs += 1
            if self._runs % VERIFY_EVERY == 0:
                self._verify()

    def _is_forgotten(self, event):
        """Whether nobody asked for so long, from about then on, that Stripe may have dropped its report on it."""
        asked_us = [0, *self._polled_at_us]
        return event.rejected_later and any(
            before <= event.validated_at_us + 2 * DAY_US and after - max(before, event.validated_at_us) > 26 * DAY_US
            for before, after in pairwise(asked_us)
        )

    def _note_first_seen(self):
        latest_us = self._world.clock.latest_us
        for row in self.ask("select trace_id, deleted_at_us from trace where reason <> 'future_timestamp'"):
            trace = self._world.model.traces.get(row["trace_id"])
            if trace is not None and row["deleted_at_us"] is not None:
                trace.thought_deleted = True
            if trace is not None and trace.first_seen_us is None:
                trace.first_seen_us = latest_us

    def _counted_once(self):
        """G1: of each meter event at most one issue counts, and nothing counts that the ledger does not know."""
        counted = Counter(issue_of(one.identifier)[0] for one in self._world.stripe.meter_events() if one.counted)
        for own_id, times in counted.items():
            # Of a window's totals only the last one counts.
            self.must(times == 1 or self._world.window_s, f"{own_id} counts {times} times")
        known = {row["meter_event_id"] for row in self.ask("select meter_event_id from meter_event")}
        self.must(counted.keys() <= known, f"Stripe counts what no ledger knows: {sorted(counted.keys() - known)}")

    def _never_more_than_the_model(self):
        most = self._world.model.most_by_customer()
        for (customer, _), credits in self._world.stripe.tally().items():
            self.must(
                int(credits) * CREDIT_MICROS <= most[customer] + self.moved_to(customer),
                f"{customer}: {credits} credits counted, and all its usage was never more than {most[customer]} micros",
            )

    def moved_to(self, customer):
        """What decisions of people moved to a customer from others, in micro-credits."""
        rows = self.ask(
            "select coalesce(sum(amount_micros), 0) as micros from entry where kind = 'rebooking' and customer_id = ?",
            customer,
        )
        return rows[0]["micros"] if rows else 0

    def _carries(self):
        """Less than a credit, and up to one more for each meter event whose usage was entered anew or waived."""
        rows = self.ask("select customer_id, count(*) as times from meter_event where state = 'cancelled' group by 1")
        withdrawn = {row["customer_id"]: row["times"] for row in rows}
        for row in self.ask("select * from carry"):
            most = CREDIT_MICROS * (1 + withdrawn.get(row["customer_id"], 0))
            self.must(row["amount_micros"] < most, f"the carry of {row['customer_id']} is {row['amount_micros']}")

    def _verify(self):
        if not self.ask("select 1"):
            return
        found = verify_ledger(self._world.ledger_url, NOTHING_NOTED, quiet)
        self.must(found.holds, f"ledger verify: {[(one.check, one.row, one.detail) for one in found.findings]}")
        before = int(self._verified.partition(":")[0] or "0")
        self.must(int(found.entries.partition(":")[0]) >= before, "the chain of entries became shorter")
        self._verified = found.entries

    # --- in the end

    def in_the_end(self):
        """When all is quiet: nothing is on its way, every trace ended once, and every customer's sum is exact."""
        moving = self.ask("select meter_event_id, state from meter_event where state in ('pending', 'sending')")
        self.must(not moving, f"still on its way: {[tuple(row) for row in moving]}")
        self._verify()
        self._each_trace()
        if self._world.window_s:
            self._each_lane()
            self._each_window()
        else:
            self._each_customer()
            self._ledger_and_stripe_agree()
        self._each_mark()
        self._right_period()
        self._invoiced_once()

    def _each_trace(self):
        """G2 and G4: each trace is billed what the model says, or waits or is left out for a reason that holds."""
        billed = Counter()
        for row in self.ask("select trace_id, kind, amount_micros from entry"):
            if row["kind"] not in BY_DECISION:
                billed[row["trace_id"]] += row["amount_micros"]
        rows = {row["trace_id"]: row for row in self.ask("select * from trace")}
        self.must(rows.keys() <= self._world.model.traces.keys(), "the ledger holds a trace that never was")
        for trace_id, trace in self._world.model.traces.items():
            problem = self._world.trace_problem(trace, rows.get(trace_id), billed[trace_id])
            self.must(not problem, f"{trace_id}: {problem}")

    def _each_customer(self):
        """G4: what Stripe counted, the carry, and what waits uncounted is the sum of the lines, to the micro-credit."""
        counted = {issue_of(one.identifier)[0] for one in self._world.stripe.meter_events() if one.counted}
        micros = Counter()
        for (customer, meter), credits in self._world.stripe.tally().items():
            micros[customer, meter] += int(credits) * CREDIT_MICROS
        for row in self.ask("select * from carry"):
            micros[row["customer_id"], row["meter"]] += row["amount_micros"]
        forgotten = self._forgotten()
        for row in self.ask("select * from meter_event"):
            waits = row["state"] in WAITS and row["meter_event_id"] not in counted
            if waits or sent_identifier(row["meter_event_id"], row["reissue"]) in forgotten:
                micros[row["customer_id"], row["meter"]] += row["credits"] * CREDIT_MICROS
        lines = Counter()
        for row in self.ask("select customer_id, meter, sum(amount_micros) as micros from entry group by 1, 2"):
            lines[row["customer_id"], row["meter"]] += row["micros"]
        self.must(+micros == +lines and -micros == -lines, f"counted, carried and waiting {micros}, but lines {lines}")
        moved = self.ask("select sum(amount_micros) from entry where kind in ('reversal', 'rebooking')")
        self.must(not moved or not moved[0][0], "decisions moved money out of nowhere")

    def _each_lane(self):
        """G4: what is accepted, the carry, and what waits is the sum of the lines, to the micro-credit."""
        rows = self.ask(
            "select * from meter_event where state in ('accepted', 'pending', 'rejected', 'held', 'in_doubt')"
        )
        micros = Counter()
        for row in (*self.ask("select *, amount_micros / 1e6 as credits from carry"), *rows):
            micros[row["customer_id"]] += round(row["credits"] * CREDIT_MICROS)
        lines = {row["customer_id"]: row["micros"] for row in self.ask(LINES)}
        self.must(
            all(micros[one] == lines.get(one, 0) for one in {*micros, *lines}),
            f"accepted, carried and waiting are {micros}, but lines {lines}",
        )

    def _each_window(self):
        """G1: Stripe counts in each window what was accepted in it, and at most one in doubt besides."""
        accepted, doubtful = Counter(), {}
        for row in self.ask("select * from meter_event where state in ('accepted', 'in_doubt')"):
            window = row["customer_id"], row["timestamp_s"] // self._world.window_s
            if row["state"] == "accepted":
                accepted[window] += row["credits"]
            else:
                doubtful.setdefault(window, {0}).add(row["credits"])
        counted = self._world.values_of_windows()
        excused = {self._window_of(issue_of(identifier)[0]) for identifier in self._forgotten()}
        for window in ({*accepted, *counted}) - excused:
            more = counted.get(window, 0) - accepted[window]
            self.must(more in doubtful.get(window, {0}), f"{window}: Stripe counts {more} more than {accepted[window]}")

    def is_in_total(self, row):
        """Whether Stripe counts a meter event in its window besides all that was accepted in it."""
        window = self._window_of(row["meter_event_id"])
        accepted = [
            one["credits"]
            for one in self.ask("select * from meter_event where state = 'accepted'")
            if (one["customer_id"], one["timestamp_s"] // self._world.window_s) == window
        ]
        return self._world.values_of_windows().get(window, 0) == sum(accepted) + row["credits"]

    def _window_of(self, own_id):
        (row,) = self.ask("select * from meter_event where meter_event_id = ?", own_id)
        return row["customer_id"], row["timestamp_s"] // self._world.window_s

    def _forgotten(self):
        """Identifiers called accepted and not counted, where nobody could know it, or a report is still open."""
        rows = self.ask("select * from meter_event where state = 'accepted'")
        accepted = {row["meter_event_id"] for row in rows}
        events = [one for one in self._world.stripe.meter_events() if issue_of(one.identifier)[0] in accepted]
        forgotten = {one.identifier for one in events if self._is_forgotten(one)}
        # Where two in one window are worth the same, the sums cannot say which of them a report means: it stays open.
        asked = {sent_identifier(row["meter_event_id"], row["reissue"]) for row in rows if row["reason"] != "counted"}
        open_reports = self.ask("select * from notification where state = 'open'")
        rejected = {one.identifier for one in events if one.rejected_later}
        return forgotten | (asked & rejected if open_reports else set())

    def _ledger_and_stripe_agree(self):
        """G1: what the ledger says was accepted is what Stripe counts."""
        counted = sorted(one.identifier for one in self._world.stripe.meter_events() if one.counted)
        waits = {row["meter_event_id"] for row in self.ask("select * from meter_event where state = 'in_doubt'")}
        counted = [one for one in counted if issue_of(one)[0] not in waits]
        rows = self.ask("select meter_event_id, reissue from meter_event where state = 'accepted'")
        accepted = {sent_identifier(row["meter_event_id"], row["reissue"]) for row in rows} - self._forgotten()
        accepted = sorted(accepted)
        self.must(counted == accepted, f"counted {counted}, accepted {accepted}")

    def _each_mark(self):
        """G5: whatever is billed, and is settled, carries its mark; nothing else waits for one."""
        rows = self.ask(MOVING_TRACES)
        for row in rows:
            trace_id = row["trace_id"]
            # One that was believed to be deleted and is there again loses its mark, not its money.
            if self._world.model.traces[trace_id].thought_deleted or self._world.model.traces[trace_id].deleted:
                continue
            self.must(row["mark_state"] != "owed", f"{trace_id} still waits for its mark")
            if not row["moving"]:
                self.must(self._world.is_marked(trace_id), f"{trace_id} is billed and settled, and carries no mark")

    def _right_period(self):
        """G3: nothing came after its invoice was final, unless somebody said so, or the clock was wrong."""
        options = self._world.options
        if options.with_skew or options.late_period == "send":
            return
        if self._world.window_s:
            self._one_period_for_each_window()
        lost = {issue_of(one.identifier)[0] for one in self._world.stripe.lost()}
        self.must(lost <= self._world.decided, f"on no invoice: {sorted(lost - self._world.decided)}")

    def _one_period_for_each_window(self):
        """What Stripe counts of a window it dates by its last total, so all in it must be of one period."""
        periods = {}
        for row in self.ask("select * from meter_event where state = 'accepted'"):
            if row["meter_event_id"] not in self._world.decided:
                customer, at_s = row["customer_id"], row["timestamp_s"]
                window = customer, at_s // self._world.window_s
                periods.setdefault(window, set()).add(self._world.period_at(customer, at_s))
        cut = {window for window, found in periods.items() if len(found) > 1}
        self.must(not cut, f"windows that hold usage of two periods: {cut}")

    def explained(self, found):
        """What a reconciliation in the end found: every difference has its cause, where any could be known."""
        causes = {line.cause: line.credits for line in found.causes}
        self.must(found.explained or self._forgotten(), f"reconcile leaves unexplained: {causes}")

    def _invoiced_once(self):
        """Each decision to bill by an invoice item made just one; one that died in between goes on where it was."""
        made = Counter(item["metadata"]["tallymark_meter_event"] for item in self._world.invoice_items())
        decided = {row["subject"] for row in self.ask("select subject from decision where verb = 'invoice_item'")}
        rows = self.ask("select distinct meter_event_id from entry where kind = 'invoiced'")
        self.must(set(made.values()) <= {1}, f"invoiced more than once: {made}")
        self.must(
            {row["meter_event_id"] for row in rows} <= made.keys() <= decided, f"invoiced {made}, decided {decided}"
        )

    def must(self, holds, problem):
        """Raise Violation unless it holds."""
        if not holds:
            raise Violation(problem)


def lane_of(request):
    """Customer and meter of a request to count usage."""
    sent = parse_qs(request.body.decode())
    return sent["payload[stripe_customer_id]"][0], sent.get("event_name", [METER])[0]


def marked_by(request):
    """The ids of traces that a request marks as processed."""
    said = json.loads(request.body)
    if request.path.endswith("scores"):
        said = said if isinstance(said, list) else [said]
        return [one["traceId"] for one in said if one.get("name") == "billing_status"]
    bodies = [one["body"] for one in said["batch"]]
    tagged = [one["id"] for one in bodies if "billing:processed" in one.get("tags", ())]
    return tagged + [one["traceId"] for one in bodies if one.get("name") == "billing_status" and "traceId" in one]
