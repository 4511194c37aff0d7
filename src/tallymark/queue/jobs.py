"""What stands in the queue: which part of which plan, or that a plan is to go on."""

from __future__ import annotations

from dataclasses import dataclass

COLLECT, SEND, MARK = "collect", "send", "mark"
QUEUES = (COLLECT, SEND, MARK)
# What every worker does besides: bring plans on, and look after jobs that were lost.
PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a plan to do: `queue` says what kind it is. Of the queue `plan`: the stage of a plan is over.

    `tries` is how often it came before.
    """

    queue: str
    plan_id: str
    stage: str
    number: int = 0
    tries: int = 0

    @property
    def key(self) -> str:
        """The same for the same work: only one of it waits, and only one is done at a time."""
        return f"{self.plan_id}/{self.stage}/{self.number}" if self.queue != PLAN else self.plan_id

    @property
    def lock(self) -> str:
        """What no other job has while this one is done. A shard to send is one for all plans."""
        return f"send-{self.number}" if self.queue == SEND else self.key


class TryAgain(Exception):
    """A job that was not done is to come again, after so many seconds."""

    def __init__(self, after_seconds: int) -> None:
        super().__init__(f"again in {after_seconds} s")
        self.after_seconds = after_seconds
