"""Stripe Billing meter events, v2: JSON, a code for each refusal, and the same promise for an identifier.

Facts: facts/stripe.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ..core.clock import SECOND_US, format_time
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome, payload_of
from ..failpoints import Step
from .stripe_events import ONLY_TOTALS, StripeMeter, outcome_of

ANSWERS = {"duplicate_meter_event": Answer.DUPLICATE, "too_many_concurrent_requests": Answer.THROTTLED}
"""What a code says beyond the status of its answer; the others are refusals."""


def event_of(claim: Claim) -> dict[str, Any]:
    """A claimed meter event as v2 and the stream take it. All of its payload is text, as they demand."""
    fields: Mapping[str, str] = msgspec.json.decode(claim.payload)
    return {
        "event_name": claim.meter,
        "identifier": claim.identifier,
        "timestamp": format_time(claim.timestamp_s * SECOND_US),
        "payload": payload_of(claim.customer_id, claim.credits, fields),
    }


def outcome_of_v2(error: Exception, identifier: str) -> MeterOutcome:
    """What an error of the SDK says about the meter event that was sent: by code, where v2 has one for it."""
    outcome = outcome_of(error, identifier)
    answer = ANSWERS.get(str(getattr(getattr(error, "error", None), "code", None)))
    return outcome if answer is None else replace(outcome, answer=answer)


class StripeV2Meter:
    """Sends meter events to an account by v2. Safe to use from several threads."""

    def __init__(self, account: StripeMeter) -> None:
        self._account = account

    def send(self, claim: Claim) -> MeterOutcome:
        """Send one claimed meter event once. Raises KeyRefused: then it was certainly not counted."""
        if claim.window_total is not None:
            return ONLY_TOTALS
        return self._account.write(
            Step.STRIPE_SEND,
            claim.identifier,
            lambda: self._account.client.v2.billing.meter_events.create(
                event_of(claim),  # type: ignore[arg-type]
                {"idempotency_key": claim.idempotency_key},
            ),
            outcome_of_v2,
        )

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Ask Stripe once to take a meter event back, by v1. Raises KeyRefused: it was not."""
        return self._account.take_back(claim)
