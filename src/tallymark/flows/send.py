"""Send: gather open entries into meter events, and send each until it is answered, none forgotten.

The order of the steps is the guarantee. A meter event is committed before it is claimed, and a claim before its
request leaves; so after a crash the row itself says that an answer may be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, runtime_checkable

from .. import machine
from ..core.batches import batched
from ..core.clock import SECOND_US, Clock
from ..core.periods import Lateness
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome
from ..errors import KeyRefused
from ..ledger import Ledger
from ..ledger.ledger import DEFAULT_LATENESS
from ..ledger.rows import RunRef
from ..machine import Pool
from .progress import Progress

GATHER_BUCKETS = 500
SEND_THREADS = 8
CLAIMS_MAX = 64
# A claim's minute, less the longest that Stripe is waited for: where it hangs, a batch lasts longer than that.
SEND_WITHIN_SECONDS = 40
# How long a run goes on without any meter event settled; longer than another process may hold a claim.
PATIENCE_SECONDS = 90
POLL_SECONDS = 0.1


class Canceller(Protocol):
    """Takes meter events back."""

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Ask once for a meter event to be taken back. Raises KeyRefused."""
        ...


class SingleMeter(Canceller, Protocol):
    """Takes meter events one by one."""

    def send(self, claim: Claim) -> MeterOutcome:
        """Send one claimed meter event once. Raises KeyRefused."""
        ...


@runtime_checkable
class BatchMeter(Canceller, Protocol):
    """Takes up to `batch_max` meter events a call."""

    batch_max: int

    def send_batch(self, claims: Sequence[Claim]) -> list[MeterOutcome]:
        """Send claimed meter events in one call, and give the answer to each. Raises KeyRefused."""
        ...


Meter = SingleMeter | BatchMeter


@dataclass(slots=True)
class Sent:
    """How the meter answered in this run; `settled` and `reported` count meter events that an answer of another kind
    moved: a window's value, or a report that they were not counted."""

    answers: Counter[Answer] = field(default_factory=Counter)
    settled: int = 0
    reported: int = 0


def send(
    ledger: Ledger, meter: Meter, run: RunRef, clock: Clock, progress: Progress, lateness: Lateness = DEFAULT_LATENESS
) -> Sent:
    """Gather, claim, send, settle, until nothing is open or nothing moves any more. What is late is held."""
    gather(ledger, run, lateness)
    return send_open(ledger, meter, clock, progress, lateness)


def gather(ledger: Ledger, run: RunRef, lateness: Lateness = DEFAULT_LATENESS) -> None:
    """Fix meter events for all usage that has none, and offer again what was rejected."""
    ledger.reopen_rejected()
    while ledger.gather(run, GATHER_BUCKETS, lateness):
        pass


def send_open(
    ledger: Ledger, meter: Meter, clock: Clock, progress: Progress, lateness: Lateness = DEFAULT_LATENESS
) -> Sent:
    """Claim, send, settle what is gathered. Several processes may do so at once: each claims what no other has."""
    sent = Sent()
    total = sum(ledger.open_meter_events().values())
    with machine.current().pool(SEND_THREADS, "send") as threads:
        _send_open(ledger, meter, clock, threads, sent, progress, total, lateness)
    return sent


def _send_open(
    ledger: Ledger,
    meter: Meter,
    clock: Clock,
    threads: Pool,
    sent: Sent,
    progress: Progress,
    total: int,
    lateness: Lateness,
) -> None:
    moved_us = clock.now_us()
    while (next_us := ledger.next_attempt_at_us()) is not None:
        claims = ledger.claim(clock.now_us(), _claims_max(meter), lateness)
        if claims:
            outcomes = _send_all(meter, claims, threads, clock)
            ledger.settle(list(zip(claims, outcomes, strict=True)), clock.now_us())
            sent.answers.update(outcome.answer for outcome in outcomes)
            raise_refused(outcomes)
        if any(outcome.answer in TAKEN for outcome in (outcomes if claims else ())):
            moved_us = clock.now_us()
            progress("send", sum(sent.answers[answer] for answer in TAKEN), total)
        elif clock.now_us() - moved_us > PATIENCE_SECONDS * SECOND_US:
            return
        elif not claims:
            clock.sleep(max(POLL_SECONDS, min(1.0, (next_us - clock.now_us()) / SECOND_US)))


def _claims_max(meter: Meter) -> int:
    return SEND_THREADS * meter.batch_max if isinstance(meter, BatchMeter) else CLAIMS_MAX


def _send_all(meter: Meter, claims: Sequence[Claim], threads: Pool, clock: Clock) -> list[MeterOutcome]:
    """Send claims in parallel: each is of another (customer, meter), so none has two calls in flight."""
    if isinstance(meter, BatchMeter):
        batches = batched(claims, meter.batch_max)
        return list(chain.from_iterable(threads.map(lambda batch: _send_batch_in_time(meter, batch, clock), batches)))
    return list(threads.map(lambda claim: _send_in_time(meter, claim, clock), claims))


def _send_in_time(meter: SingleMeter, claim: Claim, clock: Clock) -> MeterOutcome:
    """Send one claim, unless so much time has passed that another process may take it over before the answer comes."""
    return OVER if _is_nearly_over(claim, clock) else answered(lambda: meter.send(claim))


def _send_batch_in_time(meter: BatchMeter, claims: Sequence[Claim], clock: Clock) -> list[MeterOutcome]:
    """Send claims that were made at the same moment, unless so much time has passed."""
    if _is_nearly_over(claims[0], clock):
        return [OVER] * len(claims)
    try:
        return meter.send_batch(claims)
    except KeyRefused as error:
        return [MeterOutcome(Answer.THROTTLED, f"{REFUSED}{error}")] * len(claims)


def _is_nearly_over(claim: Claim, clock: Clock) -> bool:
    return clock.now_us() - claim.sent_at_us > SEND_WITHIN_SECONDS * SECOND_US


def answered(ask: Callable[[], MeterOutcome]) -> MeterOutcome:
    """The meter's answer; a refused key is one too, until all answers of its batch are stored."""
    try:
        return ask()
    except KeyRefused as error:
        return MeterOutcome(Answer.THROTTLED, f"{REFUSED}{error}")


REFUSED = "key refused: "
OVER = MeterOutcome(Answer.THROTTLED, "not sent: its claim was nearly over")
TAKEN = (Answer.ACCEPTED, Answer.STREAMED, Answer.DUPLICATE)


def raise_refused(outcomes: Sequence[MeterOutcome]) -> None:
    """A refused key is raised only after every answer of the batch is stored."""
    for outcome in outcomes:
        if outcome.detail.startswith(REFUSED):
            raise KeyRefused(outcome.detail.removeprefix(REFUSED))
