"""Send: gather open entries into meter events, and send each until it is answered, none forgotten.

The order of the steps is the guarantee. A meter event is committed before it is claimed, and a claim before its
request leaves; so after a crash the row itself says that an answer may be missing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, runtime_checkable

from .. import machine
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
# Answers to a few are stored while others are sent; and where there are few customers, all of them are under way.
CLAIMS_MAX = 16
BATCHES_MAX = 4
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
        _send_open(_Sending(ledger, meter, clock, threads, lateness), sent, progress, total)
    return sent


@dataclass(slots=True)
class _Sending:
    """What sends meter events side by side, and what is under way, the oldest batch first."""

    ledger: Ledger
    meter: Meter
    clock: Clock
    threads: Pool
    lateness: Lateness
    under_way: deque[tuple[list[Claim], Iterator[MeterOutcome]]] = field(default_factory=deque)
    is_more: bool = True
    """Whether the last claim was a full one, so that another may find something."""

    def start(self) -> bool:
        """Claim a batch and begin to send it; False if there is nothing to claim, or enough is under way."""
        size, batches_max = batch_size(self.meter)
        if self.under_way and not (self.is_more and len(self.under_way) < batches_max):
            return False
        return self._send(self.ledger.claim(self.clock.now_us(), size, self.lateness))

    def settle(self, *, is_last: bool) -> list[MeterOutcome]:
        """Wait for the answers to the oldest batch; store them, and claim and begin the next one unless it `is_last`.

        The others are under way meanwhile.
        """
        claims, sent = self.under_way.popleft()
        outcomes = list(sent)
        settled, now_us = list(zip(claims, outcomes, strict=True)), self.clock.now_us()
        if is_last or refusal_in(outcomes):
            self.ledger.settle(settled, now_us)
        else:
            self._send(self.ledger.settle_and_claim(settled, now_us, batch_size(self.meter)[0], self.lateness))
        return outcomes

    def _send(self, claims: list[Claim]) -> bool:
        """Begin to send claims, each of another (customer, meter), so that none has two calls in flight."""
        self.is_more = len(claims) == batch_size(self.meter)[0]
        if claims:
            self.under_way.append((claims, self._sent(claims)))
        return bool(claims)

    def _sent(self, claims: Sequence[Claim]) -> Iterator[MeterOutcome]:
        meter = self.meter
        if isinstance(meter, BatchMeter):
            return chain.from_iterable(
                self.threads.map(lambda one: _send_batch_in_time(meter, one, self.clock), [claims])
            )
        return self.threads.map(lambda claim: _send_in_time(meter, claim, self.clock), claims)


def batch_size(meter: Meter) -> tuple[int, int]:
    """How many meter events are claimed together, and how many such batches are under way at most."""
    if isinstance(meter, BatchMeter):
        return meter.batch_max, SEND_THREADS
    return CLAIMS_MAX, BATCHES_MAX


def _send_open(sending: _Sending, sent: Sent, progress: Progress, total: int) -> None:
    moved_us, refusal = sending.clock.now_us(), ""
    while True:
        is_over = bool(refusal) or sending.clock.now_us() - moved_us > PATIENCE_SECONDS * SECOND_US
        if not is_over and sending.start():
            continue
        if sending.under_way:
            outcomes = sending.settle(is_last=is_over)
            sent.answers.update(outcome.answer for outcome in outcomes)
            refusal = refusal or refusal_in(outcomes)
            if any(outcome.answer in TAKEN for outcome in outcomes):
                moved_us = sending.clock.now_us()
                progress("send", sum(sent.answers[answer] for answer in TAKEN), total)
        elif refusal:
            raise KeyRefused(refusal)
        elif is_over or (next_us := sending.ledger.next_attempt_at_us()) is None:
            return
        else:
            sending.clock.sleep(max(POLL_SECONDS, min(1.0, (next_us - sending.clock.now_us()) / SECOND_US)))


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
    if refusal := refusal_in(outcomes):
        raise KeyRefused(refusal)


def refusal_in(outcomes: Sequence[MeterOutcome]) -> str:
    """What a refused key was told; empty if none was refused."""
    told = (outcome.detail.removeprefix(REFUSED) for outcome in outcomes if outcome.detail.startswith(REFUSED))
    return next(told, "")
