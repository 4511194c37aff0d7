"""What a sync did: the object that `--json` prints (CONTRACT, sync --json)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..core.decisions import PROCESSED
from ..core.types import HELD, SKIPPED, Reason

FAILURES_MAX = 20
STREAMED = "streamed"
"""What the ledger calls the money of traces whose meter events were streamed, and are to be shown by Stripe's sums."""


class Failure(msgspec.Struct):
    """A trace that could not be processed, and why."""

    trace_id: str
    error: str


class MeterEvents(msgspec.Struct):
    """How the meter answered, what is rejected or in doubt at the end, what was settled or reported meanwhile, how many
    reports are not explained, and what was streamed and is still to be shown by Stripe's sums."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    in_doubt: int = 0
    settled: int = 0
    reported: int = 0
    open_reports: int = 0
    streamed: int = 0

    @property
    def unsettled(self) -> int:
        """How much is not where it is going to be when a run has ended."""
        return self.rejected + self.in_doubt + self.open_reports


class MarkCounts(msgspec.Struct):
    """How many marks were written and how many were refused."""

    written: int = 0
    failed: int = 0


class Requests(msgspec.Struct):
    """How many requests were made."""

    langfuse: int = 0
    stripe: int = 0

    def __add__(self, other: Requests) -> Requests:
        """Those of two processes together."""
        return Requests(self.langfuse + other.langfuse, self.stripe + other.stripe)

    def __sub__(self, other: Requests) -> Requests:
        """Those since others were counted."""
        return Requests(self.langfuse - other.langfuse, self.stripe - other.stripe)


def zeros(reasons: Iterable[Reason]) -> dict[str, int]:
    """A count of nothing for each reason."""
    return {str(reason): 0 for reason in reasons}


def count_reasons(counts: dict[str, int], results: Mapping[str, int]) -> None:
    """Add results to the counts of the reasons that are counted there."""
    for reason in counts:
        counts[reason] += results.get(reason, 0)


class SyncSummary(msgspec.Struct):
    """Counts of one run; each distinct trace that was read counts once.

    fetched = processed + failed + the sum of skipped + the sum of held.
    """

    run_id: str
    dry_run: bool
    source: str
    source_reason: str
    server_version: str
    from_: str = msgspec.field(name="from")
    to: str
    fetched: int = 0
    processed: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=lambda: zeros(SKIPPED))
    held: dict[str, int] = msgspec.field(default_factory=lambda: zeros(HELD))
    failed: int = 0
    failures: list[Failure] = msgspec.field(default_factory=list)
    adjusted: int = 0
    healed: int = 0
    untagged: int = 0
    adopted: int = 0
    credits: str = "0.000000"
    meter_events: MeterEvents = msgspec.field(default_factory=MeterEvents)
    marks: MarkCounts = msgspec.field(default_factory=MarkCounts)
    requests: Requests = msgspec.field(default_factory=Requests)
    seconds: float = 0.0

    def count_results(self, results: Mapping[str, int], unpaid: Mapping[str, int]) -> None:
        """Add traces by result, and take from the processed those whose money is "open", or held for a reason.

        What is "streamed" Stripe has received; its sums are to show it.
        """
        unpaid = {money: traces for money, traces in unpaid.items() if money != STREAMED}
        self.fetched += sum(results.values())
        count_reasons(self.skipped, results)
        count_reasons(self.held, results)
        self.processed += results.get(PROCESSED, 0) - sum(unpaid.values())
        count_reasons(self.held, unpaid)
        self.failed += sum(traces for money, traces in unpaid.items() if money not in self.held)

    @property
    def exit_status(self) -> int:
        """0 if all is done, 1 if something failed or is held."""
        return 1 if self.failed or self.marks.failed or sum(self.held.values()) or self.meter_events.unsettled else 0

    def encode(self) -> bytes:
        """The object as JSON."""
        return msgspec.json.encode(self)
