"""An independent account of what every trace is worth: fractions, no ledger, and no code of tallymark's.

Times in microseconds, costs in hundred-millionths of a dollar, amounts in micro-credits.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

COST_PARTS = 10**8
MINUTE_MS = 60_000
METER = "credits"


@dataclass(frozen=True)
class Rule:
    """What holds from a moment on."""

    from_us: int
    price: str
    per_minute: str
    margin: str

    def toml(self):
        """The rule as a rate card says it."""
        when = '"beginning"'
        if self.from_us:
            when = datetime.fromtimestamp(self.from_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f'[[rule]]\nfrom = {when}\ncredit_price_usd = "{self.price}"\n'
            f'compute_usd_per_minute = "{self.per_minute}"\nmargin = "{self.margin}"\n'
        )


@dataclass
class Observation:
    """One observation of a trace."""

    identity: str
    start_us: int
    end_us: int
    cost: int


@dataclass
class ModelTrace:
    """A trace as the world knows it. `worths` are all amounts it was ever worth."""

    trace_id: str
    at_us: int
    customer: str | None
    user: str
    owner: str
    observations: list[Observation]
    deleted: bool = False
    customers: set = field(default_factory=set)
    worths: set = field(default_factory=set)
    first_seen_us: int | None = None
    fell: bool = False
    thought_deleted: bool = False

    @property
    def cost(self):
        """In hundred-millionths of a dollar."""
        return sum(one.cost for one in self.observations)

    @property
    def duration_ms(self):
        """From the first start to the last end."""
        last = max(one.end_us for one in self.observations)
        return (last - min(one.start_us for one in self.observations)) // 1000


class Model:
    """All traces there ever were, and the rules of the rate card."""

    def __init__(self, rules):
        self.rules = list(rules)
        self.traces = {}

    def card(self):
        """The rate card's file."""
        return 'name = "simulated"\n\n' + "\n".join(rule.toml() for rule in self.rules)

    def rule_at(self, at_us):
        """The rule for usage of a moment."""
        return max((rule for rule in self.rules if rule.from_us <= at_us), key=lambda rule: rule.from_us)

    def worth(self, trace):
        """Micro-credits of a trace as it is now, deleted or not: exact, rounded once, half to even."""
        rule = self.rule_at(trace.at_us)
        usd = Fraction(trace.duration_ms, MINUTE_MS) * Fraction(rule.per_minute)
        if trace.owner == "platform":
            usd += Fraction(trace.cost, COST_PARTS)
        return round(usd * Fraction(rule.margin) / Fraction(rule.price) * 1_000_000)

    def note(self, trace):
        """Remember what a trace is worth now, and to whom it may be billed."""
        trace.worths.add(self.worth(trace))
        if trace.customer:
            trace.customers.add(trace.customer)

    def most_by_customer(self):
        """The most that each customer can ever have been billed for."""
        most = Counter()
        for trace in self.traces.values():
            for customer in trace.customers:
                most[customer] += max(trace.worths)
        return most
