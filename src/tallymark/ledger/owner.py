"""Who holds a claim: a process, named so that a later one on the same machine can tell that it is gone.

Without this a killed run's meter events wait until the claim's time is over; with it they go on at once.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:
        return ""


@cache
def _machine() -> str:
    """This machine since its last start, and this namespace of process ids."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{boot}/{namespace}" if boot and namespace else ""


def _started(process_id: int) -> str:
    """When a process was started, in ticks since boot; empty if there is none, or it is dead and only not reaped."""
    state, *fields = _read(f"/proc/{process_id}/stat").rpartition(")")[2].split() or ["Z"]
    return "" if state == "Z" else fields[18]


def this_process() -> str:
    """The name under which this process claims."""
    return f"{_machine()}|{os.getpid()}|{_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether a claim's owner certainly ended. False where that cannot be known: then only time frees the claim."""
    machine, process_id, started = name.split("|")
    return bool(machine) and machine == _machine() and _started(int(process_id)) != started
