"""A world for tests with real processes: the two sandboxes served from the test, and tallymark as a child of it.

The sandboxes live in the test process so that it can look into them, and break them at a chosen request; tallymark runs
as its users run it, a command with an environment. The judge is the sandbox's own tally, never the ledger alone.
"""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from databases import ask, has_table, path_of
from tallymark.clock import SystemClock
from tallymark.sandbox.clock import OffsetClock
from tallymark.sandbox.http import serve
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.story import Expected, StoryTrace, expect, tell
from tallymark.sandbox.stripe import SandboxStripe

COMMAND = (sys.executable, "-m", "tallymark")
SETTING_PREFIXES = ("BILLING_", "LANGFUSE_", "STRIPE_")
WAIT_SECONDS_MAX = 60
POLL_SECONDS = 0.002
CREDIT_MICROS = 1_000_000
PROJECT = DEFAULT_PROJECT.project_id


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on the standard output; an error if there is anything else."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


class Child:
    """A tallymark command that is running."""

    def __init__(self, arguments, environment, folder):
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def running(self):
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def kill(self):
        """SIGKILL it; whether that hit it before it had ended."""
        self.process.kill()
        return self.end().status < 0

    def interrupt(self):
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def clear(self):
        """End it and close its pipes if a failed test has left it alone."""
        if not self.process.stdout.closed:
            self.kill()

    def end(self):
        """Wait for its end."""
        out, err = self.process.communicate(timeout=WAIT_SECONDS_MAX)
        return Ended(self.process.returncode, out, err)


def environment(folder, settings=()):
    """This process's environment with no setting of tallymark's but these, and a home of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTING_PREFIXES)}
    return {**inherited, "HOME": str(folder), "XDG_DATA_HOME": str(folder), **dict(settings)}


def tallymark(folder, *arguments, **settings):
    """Run a command to its end, with these settings and no others."""
    return Child(arguments, environment(folder, settings), folder).end()


def until(holds, child=None):
    """Wait until something holds; an error if it never does, or if the child ends before it does."""
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < give_up_at, "it never came true"
        assert child is None or child.running() or holds(), "the child ended before it came true"
        time.sleep(POLL_SECONDS)


@dataclass
class World:
    """Two sandboxes, a ledger and what a correct run makes of them."""

    folder: Path
    langfuse: SandboxLangfuse
    stripe: SandboxStripe
    stripe_clock: OffsetClock
    settings: dict[str, str]
    told: list[StoryTrace] = field(default_factory=list)
    # The default look-back is 7 days, so the story's traces of 36 days ago are never read.
    expected: Expected = field(default_factory=Expected)
    children: list[Child] = field(default_factory=list)

    @property
    def ledger(self):
        """The file of the ledger, where it is one."""
        return path_of(self.settings["BILLING_LEDGER_URL"])

    def start(self, *arguments, **settings):
        """Start a command, with these settings besides the world's own; None takes one away."""
        merged = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        self.children.append(Child(arguments, environment(self.folder, merged), self.folder))
        return self.children[-1]

    def run(self, *arguments, **settings):
        """Run a command to its end."""
        return self.start(*arguments, **settings).end()

    def ask(self, question, *values):
        """Rows of the ledger, over a connection of our own, which sees only what is committed."""
        return ask(self.settings["BILLING_LEDGER_URL"], question, *values)

    def has_ledger(self):
        """Whether the ledger is there with its tables of today, which come all at once."""
        return has_table(self.settings["BILLING_LEDGER_URL"], "decision")

    def billed(self):
        """Micro-credits by customer: what Stripe counted, and what whole credits left over in the carry."""
        micros = Counter(dict(self.ask("select customer_id, sum(amount_micros) from carry group by customer_id")))
        for (customer, _), credits in self.stripe.tally().items():
            micros[customer] += int(credits) * CREDIT_MICROS
        return {customer: amount for customer, amount in micros.items() if amount}

    def marked(self):
        """The ids of traces that carry a mark: the tag, or the score."""
        return {
            trace["id"]
            for trace in self.langfuse.traces(PROJECT)
            if "billing:processed" in trace["tags"] or self.langfuse.scores(PROJECT, trace["id"])
        }

    def marked_before(self):
        """The ids of traces whose story begins with the tag billing:processed."""
        return {told.trace["id"] for told in self.told if "billing:processed" in told.trace["tags"]}

    def owed_marks(self):
        """The ids of traces that a finished run has marked: processed by anyone."""
        ends = ("processed by", "untagged", "plain", "public", "bookmarked", "user-owned")
        return {told.trace["id"] for told in self.told if told.kind.startswith(ends)}

    def write_story(self, traces):
        """Fill Langfuse with a story and note what it should come to."""
        self.told = list(tell(traces, SystemClock().now_us()))
        self.expected = expect(iter(self.told))
        for told in self.told:
            body = {**told.trace, "bookmarked": told.bookmarked}
            self.langfuse.put_trace(PROJECT, body, told.observations)


@contextlib.contextmanager
def open_world(
    folder,
    *,
    traces=0,
    langfuse=None,
    stripe=None,
    langfuse_faults=None,
    stripe_faults=None,
    keys=DEFAULT_PROJECT,
    ledger_url=None,
) -> Iterator[World]:
    """Serve the sandboxes (with a meter "credits") through faults, if given, and fill them with a story.

    The clock of a Stripe that is not given can be moved on: what takes time there need not be waited for.

    The ledger is a file in the folder if no other is named.
    """
    clock = SystemClock()
    stripe_clock = OffsetClock(clock)
    langfuse = langfuse or SandboxLangfuse(clock=clock)
    if stripe is None:
        stripe = SandboxStripe(clock=stripe_clock)
        stripe.add_meter("credits")
    with serve(langfuse, faults=langfuse_faults) as source, serve(stripe, faults=stripe_faults) as meter:
        settings = {
            "LANGFUSE_BASE_URL": source.url,
            "LANGFUSE_PUBLIC_KEY": keys.public_key,
            "LANGFUSE_SECRET_KEY": keys.secret_key,
            "STRIPE_API_BASE": meter.url,
            "STRIPE_METER_EVENTS_BASE": meter.url,
            "BILLING_STRIPE_SECRET_KEY": "sk_test_sandbox",
            "BILLING_STRIPE_REQUESTS_PER_SECOND": "1000",
            "BILLING_LEDGER_URL": ledger_url or f"sqlite:///{folder / 'ledger.sqlite3'}",
        }
        world = World(folder, langfuse, stripe, stripe_clock, settings)
        world.write_story(traces)
        try:
            yield world
        finally:
            for child in world.children:
                child.clear()


def on_a_terminal(world, answer, *arguments):
    """Run a command on a terminal and answer its question; its status and what it said."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(world.folder, world.settings),
        cwd=world.folder,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(controller, answer.encode())
    out, err = child.communicate(timeout=60)
    os.close(controller)
    os.close(terminal)
    return child.returncode, out + err
