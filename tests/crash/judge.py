"""What must hold when a process is lost, and what must hold in the end. The judge is the sandbox Stripe's own tally.

What must have come first is asked last, so that another process may go on meanwhile.
"""

from collections import Counter

from tallymark.core.ids import sent_identifier
from worlds import until


def is_exact(world):
    """Whether every customer was billed what the story says, and nobody else was."""
    return world.billed() == dict(world.expected.micros)


def sent_and_unclaimed(world):
    """Meter events that reached Stripe though the ledger had no committed claim of them."""
    received = _received(world)
    return received - {identifier for (identifier,) in world.ask("select meter_event_id from attempt")}


def marked_and_unpaid(world):
    """Traces that tallymark marked though a meter event of theirs has not reached Stripe (G5)."""
    marked = world.marked() - world.marked_before()
    rows = world.ask(
        "select e.trace_id, e.meter_event_id, m.state from entry as e"
        " left join meter_event as m on m.meter_event_id = e.meter_event_id"
    )
    received = _received(world)
    settled = ("carried", "cancelled")
    return marked & {trace for trace, identifier, state in rows if identifier not in received and state not in settled}


def _received(world):
    """The ids of meter events that have reached Stripe, each under whichever of its identifiers (core.ids)."""
    return {meter_event.identifier.partition(".")[0] for meter_event in world.stripe.meter_events()}


def sent_after_acceptance(world):
    """Sends that began after the ledger knew that Stripe had taken their identifier; a new issue has another one.

    To have a meter event taken back is an attempt, too, and begins after its acceptance.
    """
    known_us, late = {}, []
    rows = world.ask(
        "select a.idempotency_key, a.sent_at_us, a.outcome, a.answered_at_us from attempt as a"
        " join meter_event as m on m.meter_event_id = a.meter_event_id"
        " where m.state not in ('cancelling', 'cancelled') and m.reason <> 'cancelling'"
        " and coalesce(a.answer, '') not like 'asked to take it back:%' order by a.sent_at_us"
    )
    for key, sent_at_us, outcome, answered_at_us in rows:
        identifier = key.rpartition(":")[0]
        if known_us.get(identifier, sent_at_us + 1) <= sent_at_us:
            late.append(key)
        if outcome in ("accepted", "duplicate"):
            known_us.setdefault(identifier, answered_at_us)
    return late


def check_order(world, marked):
    """At any moment: nothing is sent without a claim, or though it is known as counted, and no mark precedes its money.

    `marked` are the traces that were marked a while ago, for what was billed then.
    """
    if world.has_ledger():
        assert sent_and_unclaimed(world) == set()
        assert marked_and_unpaid(world) - marked == set()
        assert sent_after_acceptance(world) == []


def check_money(world):
    """When all is done: each customer's amount is exact, and Stripe counted what the ledger says it accepted, once."""
    assert is_exact(world)
    counted = [meter_event.identifier for meter_event in world.stripe.meter_events() if meter_event.counted]
    accepted = world.ask("select meter_event_id, reissue from meter_event where state = 'accepted'")
    assert sorted(counted) == sorted(sent_identifier(*each) for each in accepted)
    assert world.ask("select 1 from meter_event where state in ('pending', 'sending', 'cancelling')") == []


def check_traces(world):
    """When all is done: every trace that is read ended once, as the story says (G2)."""
    ended = world.ask("select case outcome when 'billed' then 'processed' else reason end from trace")
    assert Counter(result for (result,) in ended) == +Counter({**world.expected.results, "too_old": 0})


def check_marks(world, *, by_score):
    """When all is done: what is owed a mark carries it, and nothing waits for one."""
    owed = world.owed_marks()
    if by_score:
        # What another program has marked in metadata only is adopted, and needs no score.
        owed -= {told.trace["id"] for told in world.told if told.kind == "processed by metadata"}
    until(lambda: world.marked() == owed)
    assert world.ask("select 1 from trace where mark_state in ('waiting', 'owed')") == []
