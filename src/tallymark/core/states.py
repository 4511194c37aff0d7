"""The states of a meter event, what may follow what, and what an answer of the meter means for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """pending → sending → accepted | rejected | in_doubt; held waits for a person; carried ends without a send.

    sending → streamed → accepted, where Stripe's stream answers before it has looked: its sums show what it counted.
    accepted → cancelling → cancelled where Stripe is asked to take one back; what never counted is cancelled at once.
    accepted → rejected where Stripe reports later that it did not count it.
    """

    PENDING = "pending"
    SENDING = "sending"
    STREAMED = "streamed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    HELD = "held"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    CARRIED = "carried"


def payload_of(customer_id: str, value: int, fields: Mapping[str, str]) -> dict[str, str]:
    """The payload of a meter event as Stripe gets it; `fields` are those that belong to a single trace."""
    return {**fields, "stripe_customer_id": customer_id, "value": str(value)}


UNSETTLED = (
    State.PENDING,
    State.SENDING,
    State.STREAMED,
    State.CANCELLING,
    State.REJECTED,
    State.IN_DOUBT,
    State.HELD,
)
"""States in which the money of a meter event is not where it is going to be."""
UNSHOWN = (State.IN_DOUBT, State.STREAMED)
"""States of what Stripe may have counted, which the value of its window is to show."""


class Answer(StrEnum):
    """What the meter's answer to one send means.

    STREAMED: received, and not looked at yet. THROTTLED: not taken, come again. UNKNOWN: it may or may not have been
    taken.
    """

    ACCEPTED = "accepted"
    STREAMED = "streamed"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MeterOutcome:
    """The meter's answer in our words. `detail` holds no secret."""

    answer: Answer
    detail: str = ""
    retry_after_seconds: float | None = None


STATE_AFTER = {
    Answer.ACCEPTED: State.ACCEPTED,
    Answer.STREAMED: State.STREAMED,
    Answer.DUPLICATE: State.ACCEPTED,
    Answer.REJECTED: State.REJECTED,
    Answer.THROTTLED: State.PENDING,
    Answer.UNKNOWN: State.PENDING,
}


@dataclass(frozen=True, slots=True)
class WindowTotal:
    """What a send sets a window of a pre-aggregated meter to: `credits`, all that is counted in it from `start_s` on,
    before `end_s` (unix seconds). It is dated `timestamp_s`."""

    credits: int
    start_s: int
    end_s: int
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A meter event that this process may send once: everything in it was committed before.

    `identifier` is what Stripe gets; it is the meter event's id until Stripe has reported that it did not count it.
    `window_total` is None unless its meter counts only the last meter event of each window.
    """

    meter_event_id: str
    identifier: str
    customer_id: str
    meter: str
    timestamp_s: int
    credits: int
    payload: str
    attempt: int
    idempotency_key: str
    unanswered_since_us: int | None
    sent_at_us: int
    window_total: WindowTotal | None = None


@dataclass(frozen=True, slots=True)
class CancelClaim:
    """A meter event that this process may ask Stripe once to take back. `again`: an earlier request had no answer."""

    meter_event_id: str
    identifier: str
    meter: str
    attempt: int
    idempotency_key: str
    again: bool


KEPT = "kept"
"""The reason on an accepted meter event that Stripe would not take back."""

CANCELLING = "cancelling"
"""The reason on a meter event that is in doubt because Stripe was asked, without an answer, to take it back."""


def after_cancel(answer: Answer, *, again: bool, last: bool) -> tuple[State, str]:
    """The state, and why, after an answer that does not say that the meter event was taken back.

    A refusal after an unanswered request may mean that the first one was carried out: that is a doubt. `last`: nobody
    will ask again, and the customer's other usage must go on.
    """
    unknown = answer is Answer.UNKNOWN or (again and answer is Answer.THROTTLED)
    if unknown and not last:
        return State.CANCELLING, ""
    if unknown or again:
        return State.IN_DOUBT, CANCELLING
    return State.ACCEPTED, KEPT if last or answer is Answer.REJECTED else ""


def retry_delay_us(attempt: int, retry_after_seconds: float | None) -> int:
    """How long to wait before a meter event is offered again: doubling from 0.2 s to 30 s, or longer if so asked.

    Never shorter than the doubling: a "Retry-After: 0" would else be answered by asking again at once, for ever.
    """
    doubled_us = min(30_000_000, 100_000 << min(attempt, 10))
    return max(doubled_us, int((retry_after_seconds or 0) * 1_000_000))


# Stripe's sums show what it counted after some time that it does not promise (facts/stripe.md section 4).
FIRST_PROOF_US = 10_000_000
PROOF_DELAY_MAX_US = 3_600_000_000


def proof_delay_us(age_us: int) -> int:
    """How long until the sums are asked again about what was streamed so long ago: half of that, up to an hour."""
    return max(FIRST_PROOF_US, min(PROOF_DELAY_MAX_US, age_us // 2))
