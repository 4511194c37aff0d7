"""What happens to the world while tallymark is not looking: usage, changes of it, time, clocks, services, prices.

Each says in a line what it did.
"""

from sim.model import Rule
from sim.network import rates_of
from sim.world import CUSTOMERS, PROJECT
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US

SKEWS_US = (0, 0, 3 * MINUTE_US, -3 * MINUTE_US, 40 * MINUTE_US, -40 * MINUTE_US, 5 * HOUR_US, -5 * HOUR_US)
FAR_SKEWS_US = (26 * HOUR_US, -26 * HOUR_US, 10 * DAY_US, -10 * DAY_US)
CODES = ("meter_event_customer_not_found", "archived_meter", "no_meter", "meter_event_invalid_value")


def new_traces(world):
    """Usage of the last hours."""
    chance, many = world.chance, world.chance.randrange(1, 6)
    for _ in range(many):
        ago_us = chance.randrange(0, 300) * MINUTE_US + chance.randrange(60_000) * 1000
        owner = "user" if chance.random() < 0.1 else "platform"
        world.new_trace(world.true.now_us() - ago_us, chance.choice(CUSTOMERS), owner)
    return f"{many}"


def many_traces(world):
    """So much usage in one moment that pages are cut in the middle of it."""
    at_us, many = world.true.now_us() - world.chance.randrange(30, 90) * MINUTE_US, world.chance.randrange(8, 18)
    for number in range(many):
        world.new_trace(at_us + number // 6 * SECOND_US, world.chance.choice(CUSTOMERS))
    return f"{many}"


def late_trace(world):
    """Usage that arrives days or weeks after it happened, or from a clock that is ahead."""
    days = world.chance.choice([-0.1, 0.5, 2, 5, 9, 20, 34, 36])
    world.new_trace(world.true.now_us() - int(days * DAY_US), world.chance.choice(CUSTOMERS))
    return f"of {days} days ago"


def nobodys_trace(world):
    """Usage that names no customer."""
    world.new_trace(world.true.now_us() - world.chance.randrange(20, 200) * MINUTE_US, None)
    return ""


def _any_trace(world):
    living = [trace for trace in world.model.traces.values() if not trace.deleted]
    return world.chance.choice(living[-20:]) if living else None


def late_observation(world):
    """A trace gets one more observation."""
    trace = _any_trace(world)
    if trace is None:
        return "none"
    world.add_observation(trace)
    world.write(trace)
    return trace.trace_id


def cost_changes(world):
    """The cost of an observation is written again, higher or lower."""
    trace = _any_trace(world)
    if trace is None:
        return "none"
    before = world.model.worth(trace)
    world.chance.choice(trace.observations[1:]).cost = world.cost()
    trace.fell = trace.fell or world.model.worth(trace) < before
    world.write(trace)
    return f"{trace.trace_id} from {before} to {world.model.worth(trace)}"


def deletion(world):
    """Somebody deletes a trace."""
    trace = _any_trace(world)
    if trace is None:
        return "none"
    trace.deleted = True
    world.langfuse.delete_trace(PROJECT, trace.trace_id)
    return trace.trace_id


def time_passes(world):
    """Minutes, hours or days; a meter that somebody deactivated is soon missed."""
    if not world.meter_is_active and world.chance.random() < 0.5:
        world.switch_meter()
    minutes = world.chance.choice([1, 5, 20, 60, 180, 600, 1440, 1800, 4320])
    world.advance(minutes * 60)
    return f"{minutes} minutes"


def month_passes(world):
    """A long holiday."""
    days = world.chance.choice([15, 31, 37])
    world.advance(days * 86_400)
    return f"{days} days"


def clock_jumps(world):
    """The machine's clock goes wrong, or right again."""
    if not world.options.with_skew:
        return "not here"
    world.set_clock(world.chance.choice(SKEWS_US if world.chance.random() < 0.7 else FAR_SKEWS_US))
    return f"{world.clock.skew_us // SECOND_US} s off"


def faults(world):
    """One of the services becomes unreliable, or well again."""
    service, share = world.chance.choice(["langfuse", "stripe"]), world.chance.choice([0, 0, 0.05, 0.2, 0.6])
    rates = rates_of(world.chance, share) if share else {}
    world.network.set_faults(service, rates)
    return f"{service} {share} of {', '.join(kind.value for kind in rates)}"


def repeats(world):
    """The network repeats requests, and the server pages; or not any more."""
    world.network.repeated_pages = world.chance.choice([0, 0, 0.3])
    world.network.repeated_requests = world.chance.choice([0, 0, 0.2])
    return f"pages {world.network.repeated_pages}, requests {world.network.repeated_requests}"


def upgrade(world):
    """The Langfuse server becomes the next generation: legacy, dual, events_only."""
    following = {"legacy": ("dual", "events_only"), "dual": ("events_only",), "events_only": ()}[world.generation]
    if not following:
        return "none left"
    world.generation = world.chance.choice(following)
    world.langfuse.set_generation(world.generation)
    return world.generation


def stripe_rejects(world):
    """Stripe takes the next meter events and says later that it does not count them."""
    many, code = world.chance.randrange(1, 4), world.chance.choice(CODES)
    world.stripe.reject_next(many, code)
    return f"{many} as {code}"


def stripe_breaks(world):
    """Stripe answers 500 to the next meter events, and keeps that answer; it has counted them, or not."""
    many, counted = world.chance.randrange(1, 3), world.chance.random() < 0.5
    world.stripe.break_next(many, counted=counted)
    return f"{many}, {'counted' if counted else 'not counted'}"


def meter_switches(world):
    """Somebody deactivates the meter, or activates it again."""
    world.switch_meter()
    return "on" if world.meter_is_active else "off"


def price_changes(world):
    """A new rule of the rate card, from a moment that is still to come."""
    chance = world.chance
    from_us = world.true.now_us() + chance.randrange(1, 2000) * MINUTE_US
    from_us = max(from_us, world.model.rules[-1].from_us + HOUR_US)
    rule = Rule(
        from_us - from_us % SECOND_US,
        chance.choice(["0.00004", "0.00005", "0.000037"]),
        chance.choice(["0.05", "0.07", "0"]),
        chance.choice(["1", "1.25", "0.9"]),
    )
    world.add_rule(rule)
    return str(rule)


HAPPENINGS = {
    new_traces: 12,
    many_traces: 2,
    late_trace: 3,
    nobodys_trace: 2,
    late_observation: 4,
    cost_changes: 4,
    deletion: 2,
    time_passes: 14,
    month_passes: 1,
    clock_jumps: 3,
    faults: 6,
    repeats: 2,
    upgrade: 1,
    stripe_rejects: 3,
    stripe_breaks: 2,
    meter_switches: 2,
    price_changes: 2,
}
"""How often each happens, against the others."""
