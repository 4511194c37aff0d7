"""What runs in a child: the real command line, in which a failpoint stops it. Arming one is done here and nowhere else.

A small module of its own, because every child imports it.
"""

import os
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from importlib import import_module

from tallymark import cli, failpoints
from tallymark.failpoints import Side, Step

STARTED, REACHED = "started", "reached"


class Then(Enum):
    """What a child does when it reaches its failpoint."""

    DIES = "is killed"
    STANDS = "tells so, and stands still until it is killed or told to go on"
    GOES_ON = "tells so, and goes on"


@dataclass(frozen=True)
class Stop:
    """The n-th time (from 1) that a child reaches one side of a step, and what it does then."""

    step: Step
    side: Side
    time: int = 1
    then: Then = Then.DIES


def become_command(arguments, environment, folder, stop, constants, out, err, told):
    """Run a command with this environment, its outputs in two pipes; tell how often each (step, side) was reached."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    for name, value in constants.items():
        set_constant(name, value)
    armed = _Armed(stop, told)
    failpoints.arm(armed)
    sys.argv = ["tallymark", *arguments]
    told.send(STARTED)
    try:
        cli.main()
    finally:
        told.send(armed.counts)


def set_constant(name, value):
    """Give a constant of a module another value. It must be there: a renamed one would change nothing."""
    module, _, constant = name.rpartition(".")
    assert hasattr(import_module(module), constant), f"there is no {name}"
    setattr(import_module(module), constant, value)


class _Armed:
    """Counts what is reached, and stops where it was told to."""

    def __init__(self, stop, told):
        self.counts = Counter()
        self._stop, self._told, self._lock = stop, told, threading.Lock()

    def __call__(self, step, side):
        with self._lock:
            self.counts[step, side] += 1
            time = self.counts[step, side]
        if self._stop is None or (step, side, time) != (self._stop.step, self._stop.side, self._stop.time):
            return
        if self._stop.then is Then.DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        self._told.send(REACHED)
        if self._stop.then is Then.STANDS:
            self._told.recv()
