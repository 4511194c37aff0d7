"""What happened in a run: a line for each thing, so that two runs can be compared, and how often each kind did."""

import hashlib
from collections import Counter


class Violation(AssertionError):
    """Something that must hold does not."""


class Events:
    """The lines of one seed, and how often each kind of thing happened."""

    def __init__(self):
        self.lines = []
        self.steps = []
        self.counts = Counter()

    def add(self, line):
        """Note what happened."""
        self.lines.append(line)

    def step(self, line):
        """Note what the simulation does next."""
        self.steps.append(line)
        self.lines.append(f"step {line}")

    def count(self, group, kind):
        """Count one thing of a kind; the groups are step, fault, crash, error, decision and other."""
        self.counts[group, kind] += 1

    def digest(self):
        """A digest over every line."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
