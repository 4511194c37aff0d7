"""Who holds a claim: a process, named so that a later one on the same machine can tell that it is gone.

Without this a killed run's meter events wait until the claim's time is over; with it they go on at once.
"""

from __future__ import annotations

from .. import machine


def this_process() -> str:
    """The name under which this process claims."""
    here = machine.current()
    process_id = here.process_id()
    return f"{here.host()}|{process_id}|{here.process_started(process_id)}"


def is_dead(name: str) -> bool:
    """Whether a claim's owner certainly ended. False where that cannot be known: then only time frees the claim."""
    here = machine.current()
    host, process_id, started = name.split("|")
    return bool(host) and host == here.host() and here.process_started(int(process_id)) != started
