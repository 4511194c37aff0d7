"""What may happen next. A step changes the world, or runs tallymark; each says in a line what it does."""

from sim.events import Violation
from sim.network import rates_of
from sim.world import CUSTOMERS
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.failpoints import Side, Step


def fate_of(world):
    """When the next process dies: never, after so many failpoints, or at a certain one."""
    chance = world.chance
    if chance.random() < 0.6:
        return None
    if chance.random() < 0.5:
        return _after(chance.randrange(1, 120))
    return _at(chance.choice(list(Step)), chance.choice(list(Side)), chance.choice([1, 1, 2, 4]))


def _after(times):
    left = times

    def fate(_step, _side):
        nonlocal left
        left -= 1
        return left == 0

    return fate


def _at(wanted_step, wanted_side, times):
    left = times

    def fate(step, side):
        nonlocal left
        left -= (step, side) == (wanted_step, wanted_side)
        return left == 0

    return fate


# ---- the world


def new_traces(world):
    """Usage of the last hours."""
    for _ in range(world.chance.randrange(1, 6)):
        ago_us = world.chance.randrange(10, 300) * MINUTE_US + world.chance.randrange(60_000) * 1000
        customer = world.chance.choice(CUSTOMERS)
        owner = "user" if world.chance.random() < 0.1 else "platform"
        world.new_trace(world.true.now_us() - ago_us, customer, owner)
    return f"{len(world.model.traces)} traces"


def time_passes(world):
    """Minutes, hours or days."""
    minutes = world.chance.choice([1, 5, 20, 60, 180, 600, 1440, 1800, 4320])
    world.advance(minutes * 60)
    return f"{minutes} minutes"


def faults(world):
    """One of the services becomes unreliable, or well again."""
    service = world.chance.choice(["langfuse", "stripe"])
    share = world.chance.choice([0, 0, 0.05, 0.2, 0.6])
    rates = rates_of(world.chance, share) if share else {}
    world.network.set_faults(service, rates)
    world.calm = False
    return f"{service} {sum(rates.values()):.2f} of {', '.join(kind.value for kind in rates)}"


# ---- tallymark


def sync(world):
    """What is new."""
    world.sync(fate_of(world))
    return ""


STEPS = {new_traces: 5, time_passes: 6, faults: 2, sync: 8}
RUNS = {sync}
