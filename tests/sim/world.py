"""A world for one seed: sandboxes, clocks, a machine, a ledger in a file, and a model of what it must come to."""

import json
import logging
import random
from dataclasses import dataclass

from sim.clocks import MachineClock
from sim.events import Events, Violation
from sim.judge import Judge
from sim.machine import Killed, Processes, SimulatedMachine
from sim.model import COST_PARTS, METER, Model, ModelTrace, Observation, Rule
from sim.network import Network
from tallymark import config, failpoints, machine
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time, parse_time
from tallymark.core.windows import METER_WINDOW_S, STRIPE_AGE_MARGIN_US, STRIPE_AGE_MAX_US
from tallymark.errors import ClockAhead, TallymarkError
from tallymark.failpoints import Side, Step
from tallymark.flows import sync as sync_flow
from tallymark.flows.reconcile import reconcile
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request
from tallymark.source import observations, traces

START_US = parse_time("2026-11-02T09:00:00Z")
PROJECT = DEFAULT_PROJECT.project_id
CUSTOMERS = ("cus_a", "cus_b", "cus_c")
PAGE_ROWS = 7
SETTLE_MIN, SETTLE_MAX = 3, 12
REQUESTS = (
    Step.LANGFUSE_READ,
    Step.LANGFUSE_WRITE,
    Step.STRIPE_SEND,
    Step.STRIPE_CANCEL,
    Step.STRIPE_READ,
    Step.STRIPE_INVOICE_ITEM,
)
TOO_OLD_US = STRIPE_AGE_MAX_US - STRIPE_AGE_MARGIN_US
STRIPE_KEY = {"authorization": "Bearer sk_test_sandbox"}
WEBHOOK_SECRET = "whsec_simulated"
NO_TOTALS = {"meter_window": None, "late_sends": 0}


@dataclass(frozen=True)
class Options:
    """What a seed's world is like throughout."""

    generation: str
    bucket: str
    corrections: str
    late_period: str
    deleted: str
    visibility_seconds: float
    samples_max: int
    stripe_lag_seconds: float
    with_periods: bool
    with_skew: bool
    meter_window: str | None
    late_sends: float


def options_of(chance, seed):
    """Draw a world."""
    with_skew = chance.random() < 0.4
    bucket = chance.choice(["hour", "hour", "minute", "day", "trace", "trace"])
    return Options(
        generation=chance.choice(["legacy", "legacy", "dual", "events_only"]),
        bucket=bucket,
        corrections=chance.choice(["carry", "cancel"]) if bucket == "trace" else "carry",
        late_period=chance.choice(["hold", "hold", "send"]),
        deleted=chance.choice(["credit", "credit", "hold", "keep"]),
        visibility_seconds=chance.choice([0.0, 8.0]),
        # Where the machine's clock is wrong nobody can tell which sends fell into a report's window: see ADR 33.
        samples_max=100 if with_skew else chance.randrange(4),
        stripe_lag_seconds=chance.choice([0, 90]),
        with_periods=chance.random() < 0.5,
        with_skew=with_skew,
        **totals_of(random.Random(-seed), bucket),
    )


def totals_of(chance, bucket):
    """Whether the meter is a pre-aggregated one, and how often what is sent to it arrives late."""
    window, late = chance.choice([None, "hour", "day"]), chance.choice([0, 0.05, 0.3])
    return {"meter_window": window, "late_sends": late if window else 0} if bucket != "trace" else NO_TOTALS


class World:
    """Everything of one seed."""

    def __init__(self, seed, folder):
        self.seed, self.folder = seed, folder
        self.chance = random.Random(seed)
        self.events = Events()
        self.true = VirtualClock(START_US)
        self.clock = MachineClock(self.true)
        self.options = options_of(self.chance, seed)
        self.events.add(str(self.options))
        self.ledger_file = folder / "ledger.sqlite3"
        self.ledger_url = f"sqlite:///{self.ledger_file}"
        self.model = Model([Rule(0, "0.00004", "0.05", "1")])
        self.periods = {}
        self._open_services()
        self.processes = Processes()
        self.network = Network(self.chance, self.true, {"langfuse": self.langfuse, "stripe": self.stripe}, self.events)
        self.network.in_flight, self.network.late_sends = self.elsewhere, self.options.late_sends
        self.machine = SimulatedMachine(self.chance, self.network, self.processes)
        self.judge = Judge(self)
        self.network.watch = [self, self.judge]
        self.generation, self.meter_is_active = self.options.generation, True
        self.decided, self.rules, self.rules_ever = set(), set(), {}
        self.meanwhile = 0
        self._config = None
        self._number = 0

    def _open_services(self):
        options = self.options
        self.langfuse = SandboxLangfuse(
            clock=self.true,
            generation=options.generation,
            visibility_seconds=options.visibility_seconds,
            unmerged_seconds=self.chance.choice([0.0, 300.0]),
            unstable_ties_seed=self.chance.choice([None, self.seed]),
        )
        self.stripe = SandboxStripe(
            clock=self.true,
            error_samples_max=options.samples_max,
            summary_lag_seconds=options.stripe_lag_seconds,
        )
        self.meter_id = self.stripe.add_meter(METER, window=options.meter_window).id
        if options.with_periods:
            begun_us = START_US - 60 * DAY_US + (25 * MINUTE_US if options.meter_window else 0)
            for customer in CUSTOMERS[:2]:
                period_s = self.chance.choice([3, 10]) * 86_400
                self.stripe.add_subscription(customer, METER, started_at_us=begun_us, period=period_s)
                self.periods[customer] = begun_us // SECOND_US, period_s

    @property
    def window_s(self):
        """How long a window of the meter is, in seconds, if it counts only the last meter event of each; else None."""
        return METER_WINDOW_S.get(self.options.meter_window)

    def values_of_windows(self):
        """What Stripe counts in each window: (customer, number of the window) → credits."""
        last = {}
        for event in self.stripe.meter_events():
            if event.counted:
                last[event.customer, event.timestamp_seconds // self.window_s] = int(event.value)
        return last

    def period_at(self, customer, at_s):
        """The number of a customer's billing period that holds a moment; None if there are none."""
        begun_s, period_s = self.periods.get(customer, (0, None))
        return None if period_s is None else (at_s - begun_s) // period_s

    @property
    def calm(self):
        """Whether nothing is broken, so that no run has a reason to fail."""
        return self.network.is_calm and self.meter_is_active

    def switch_meter(self):
        """Deactivate the meter, or activate it again."""
        verb = "deactivate" if self.meter_is_active else "reactivate"
        path = f"/v1/billing/meters/{self.meter_id}/{verb}"
        assert self.stripe.handle(Request("POST", path, (), STRIPE_KEY)).status == 200
        self.meter_is_active = not self.meter_is_active

    def decided_about(self, identity, choice, customer_id):
        """A person is about to decide."""
        self.decided.add(identity)
        if customer_id is None:
            return
        rows = self.judge.ask("select distinct trace_id from entry where meter_event_id = ?", identity)
        for trace_id in {identity, *(row["trace_id"] for row in rows)} & self.model.traces.keys():
            self.model.traces[trace_id].customers.add(customer_id)

    def is_marked(self, trace_id):
        """Whether a trace carries a mark in Langfuse, by tag or by score."""
        by_tag = "billing:processed" in self.langfuse.trace(PROJECT, trace_id)["tags"]
        return by_tag or any(one["name"] == "billing_status" for one in self.langfuse.scores(PROJECT, trace_id))

    def invoice_items(self):
        """What was put on invoices apart from meters."""
        answer = self.stripe.handle(Request("GET", "/v1/invoiceitems", (("limit", "100"),), STRIPE_KEY))
        return json.loads(answer.body)["data"]

    # --- settings

    def config(self):
        """The settings as they are now."""
        if self._config is None:
            card = self.folder / "card.toml"
            card.write_text(self.model.card())
            self._config = config.load(None, self._settings(card))
        return self._config

    def _settings(self, card):
        return {
            "LANGFUSE_BASE_URL": "http://langfuse.test",
            "LANGFUSE_PUBLIC_KEY": DEFAULT_PROJECT.public_key,
            "LANGFUSE_SECRET_KEY": DEFAULT_PROJECT.secret_key,
            "STRIPE_API_BASE": "http://stripe.test",
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "BILLING_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "BILLING_LEDGER_URL": self.ledger_url,
            "BILLING_METER_BUCKET": self.options.bucket,
            "BILLING_METER_API": "totals" if self.options.meter_window else "v1",
            "BILLING_CORRECTIONS": self.options.corrections,
            "BILLING_LATE_PERIOD": self.options.late_period,
            "BILLING_DELETED_TRACES": self.options.deleted,
            "BILLING_RATE_CARD": str(card),
        }

    def add_rule(self, rule):
        """Change prices from a moment on."""
        self.model.rules.append(rule)
        for trace in self.model.traces.values():
            self.model.note(trace)
        self._config = None

    # --- traces

    def new_trace(self, at_us, customer, owner="platform"):
        """Write a trace of a root and some generations into Langfuse."""
        chance, self._number = self.chance, self._number + 1
        trace_id = f"t{self._number:03d}"
        at_us -= at_us % 1000
        length_us = chance.randrange(50, 600_000) * 1000
        root = Observation(f"{trace_id}-0", at_us, at_us + length_us, 0)
        trace = ModelTrace(trace_id, at_us, customer, f"user-{chance.randrange(4)}", owner, [root])
        for _ in range(chance.choice([1, 1, 2, 3])):
            self.add_observation(trace)
        self.model.traces[trace_id] = trace
        self.write(trace)
        return trace

    def add_observation(self, trace):
        """One more generation inside, or a little after, the root."""
        root = trace.observations[0]
        start_us = root.start_us + self.chance.randrange((root.end_us - root.start_us) // 1000) * 1000
        end_us = start_us + self.chance.randrange(1, 200_000) * 1000
        number = len(trace.observations)
        trace.observations.append(Observation(f"{trace.trace_id}-{number}", start_us, end_us, self.cost()))

    def cost(self):
        """A cost by chance, in hundred-millionths of a dollar."""
        return self.chance.choice([self.chance.randrange(1, 4000), self.chance.randrange(4000, 40_000_000)])

    def write(self, trace):
        """Write a trace as it is now."""
        trace.customers |= self.rules_ever.get(trace.user, set())
        self.model.note(trace)
        metadata = {"aiCredentialsOwnership": trace.owner}
        if trace.customer:
            metadata["customerId"] = trace.customer
        body = {
            "id": trace.trace_id,
            "timestamp": format_time(trace.at_us),
            "name": "chat",
            "userId": trace.user,
            "tags": ["billing:pending"],
            "metadata": metadata,
        }
        self.langfuse.put_trace(PROJECT, body, [_body(one, trace) for one in trace.observations])

    def trace_problem(self, trace, row, billed):
        """What is wrong with how a trace ended; empty if nothing is. `billed`: its charges and adjustments."""
        if row is None:
            return "" if trace.deleted or trace.at_us < START_US - 40 * DAY_US else "it is lost: the ledger has no row"
        if trace.deleted:
            return self._deleted_problem(trace, billed)
        reason = row["reason"]
        if row["outcome"] == "billed":
            # What fell is not given back by a reading through another generation than the one that billed (ADR 5).
            kept = trace.fell and self.generation != self.options.generation and billed in trace.worths
            right = billed == self.model.worth(trace) or kept
            return "" if right else f"billed {billed}, worth {self.model.worth(trace)}, before {sorted(trace.worths)}"
        if billed:
            return f"it is {row['outcome']} as {reason}, and yet billed {billed}"
        if reason == "no_customer":
            return "" if trace.customer is None else "it is held without a customer, but has one"
        if reason == "too_old":
            seen_us = self.clock.latest_us if trace.customer is None else trace.first_seen_us
            return "" if trace.at_us < seen_us - TOO_OLD_US else "it is held as too old, and is not"
        return "" if trace.trace_id in self.decided else f"it is {row['outcome']} as {reason}"

    def _deleted_problem(self, trace, billed):
        """It may have been read in part before it was gone, and given back or not, as is set and decided."""
        return "" if 0 <= billed <= max(trace.worths) else f"it is deleted, and billed {billed}"

    # --- processes

    def before(self, _service, _request):
        """A dead process asks for nothing."""
        if self.processes.current.dead:
            raise Killed

    def after(self, _service, _request, _answer):
        """Nothing to do."""

    def reach(self, step, side):
        """A failpoint was reached."""
        if not self.processes.stack:
            return
        process = self.processes.current
        if process.dead:
            raise Killed
        self.events.add(f"{process.number} {side} {step}")
        self.events.count("reached", f"{side} {step}")
        if process.fate is not None and process.fate(step, side):
            process.dead = True
            self.events.count("crash", f"{side} {step}")
            self.events.add(f"{process.number} killed {side} {step}")
            raise Killed
        if side is Side.AFTER and step not in REQUESTS:
            self.elsewhere()

    def run(self, do, fate=None, expected=()):
        """Run one process of tallymark to its end, or to its death; what it returned, or None.

        Its errors are expected only while something is broken.
        """
        self.processes.start(fate)
        try:
            return do()
        except Killed:
            return None
        except TallymarkError as error:
            self.events.count("error", type(error).__name__)
            self.events.add(f"error {type(error).__name__}: {error}")
            if isinstance(error, ClockAhead) and self.clock.skew_us > 0:
                return None
            if self.calm and not isinstance(error, expected):
                raise Violation(f"{type(error).__name__}, though nothing is broken: {error}") from error
            return None
        finally:
            self.processes.end()

    def sync(self, fate=None, expected=(), **request):
        """One sync."""
        said = self.run(lambda: sync_flow.sync(self.config(), clock=self.clock, **request), fate, expected)
        if said is not None:
            ended = said.processed + said.failed + sum(said.skipped.values()) + sum(said.held.values())
            self.judge.must(said.fetched == ended, f"{said.fetched} traces were fetched, and {ended} ended")

    def reconcile(self):
        """A reconciliation of all there ever was, when all is quiet."""
        now_us = self.clock.now_us()
        first_us = min((trace.at_us for trace in self.model.traces.values()), default=now_us)
        found, _ = self.run(lambda: reconcile(self.config(), from_us=first_us - DAY_US, by="day", clock=self.clock))
        return found

    def elsewhere(self):
        """Another worker does all of a sync in the middle of this one, if it is time for that."""
        if not self.meanwhile or len(self.processes.stack) != 1 or self.processes.current.dead:
            return
        self.meanwhile -= 1
        if self.meanwhile == 0:
            self.events.count("other", "second worker")
            self.events.add("meanwhile")
            self.sync(self.fate_of_second(), full=self.chance.random() < 0.3)
            self.events.add("back")

    def fate_of_second(self):
        """The second worker dies now and then, too."""
        if self.chance.random() < 0.6:
            return None
        left = self.chance.randrange(1, 80)

        def fate(_step, _side):
            nonlocal left
            left -= 1
            return left == 0

        return fate

    def set_clock(self, skew_us):
        """Let the machine's clock be wrong by so much."""
        self.clock.skew_us = skew_us

    def advance(self, seconds):
        """Let time pass."""
        self.network.wait(seconds)

    def settle(self):
        """Mend everything, and let a few days pass with syncs of all there is, until nothing moves any more."""
        self.network.be_calm()
        if not self.meter_is_active:
            self.switch_meter()
        self.set_clock(0)
        before, number = None, 0
        while number < SETTLE_MIN or self._standing() != before:
            before = self._standing()
            self.advance((26 * HOUR_US if number < SETTLE_MIN else 3 * HOUR_US) / SECOND_US)
            self.events.step(f"settle {number}")
            # The first reads all there ever was.
            self.sync(**({} if number else {"from_us": START_US - 40 * DAY_US}))
            self.judge.after_step(ran=True)
            number += 1
            self.judge.must(number < SETTLE_MAX, "it never comes to rest")

    def _standing(self):
        """What must stay as it is once all is settled."""
        entries = self.judge.ask("select count(*) from entry")
        events = self.judge.ask(
            "select state, reason, reissue, count(*) from meter_event group by 1, 2, 3 order by 1, 2, 3"
        )
        return [tuple(row) for row in (*entries, *events)]


def _body(one, trace):
    root = one is trace.observations[0]
    body = {
        "id": one.identity,
        "type": "SPAN" if root else "GENERATION",
        "startTime": format_time(one.start_us),
        "endTime": format_time(one.end_us),
    }
    if root:
        return body
    return {
        **body,
        "parentObservationId": trace.observations[0].identity,
        "model": "house-model",
        "usageDetails": {"input": 10, "output": 5},
        "costDetails": {"total": one.cost / COST_PARTS},
    }


class Running:
    """A context in which tallymark runs in a world: its machine, its failpoints, short pages, and no log lines."""

    def __init__(self, world):
        self._world = world
        self._machine = machine.running_on(world.machine)

    def __enter__(self):
        self._machine.__enter__()
        self._pages = traces.PAGE_ROWS, observations.PAGE_ROWS
        traces.PAGE_ROWS = observations.PAGE_ROWS = PAGE_ROWS
        failpoints.arm(self._world.reach)
        logging.getLogger("tallymark").setLevel(logging.CRITICAL)
        return self._world

    def __exit__(self, *error):
        logging.getLogger("tallymark").setLevel(logging.NOTSET)
        failpoints.arm(None)
        traces.PAGE_ROWS, observations.PAGE_ROWS = self._pages
        self._machine.__exit__(*error)
        self._world.judge.close()
