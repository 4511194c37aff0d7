"""What Stripe reports of meter events that it had taken and then did not count (facts/stripe.md section 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .clock import DAY_US, MINUTE_US
from .states import State

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"
REPORT_TYPES = (ERROR_REPORT, NO_METER_FOUND)
# After these a customer's billing periods, or their invoices, may be others than those that were read.
CHANGE_TYPES = (
    "invoice.finalized",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
)
# Stripe keeps its events so long (facts/stripe.md section 2).
REPORTS_KEPT_US = 30 * DAY_US
# Nobody promises how long after its receipt a meter event is judged, and clocks differ; published examples are seconds.
REPORT_SLACK_US = 15 * MINUTE_US
# A meter event that was sent again so often, and reported each time, is for a person to look at.
REISSUES_MAX = 3
UNKNOWN_CODE = "unknown"
CUSTOMER_NOT_FOUND = "meter_event_customer_not_found"
METER_CODES = ("archived_meter", "no_meter")
MENDABLE = frozenset({CUSTOMER_NOT_FOUND, *METER_CODES})
"""Codes whose cause somebody can mend outside of tallymark, and tallymark can see that it is mended."""


@dataclass(frozen=True, slots=True)
class Notification:
    """That there is a report: its id and type, when it was made, and on which meter ('' for none)."""

    notification_id: str
    type: str
    created_us: int
    meter_id: str


@dataclass(frozen=True, slots=True)
class CustomerChange:
    """That something about a customer's subscriptions or invoices has changed, and when."""

    customer_id: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One meter event that a report names: its identifier, or the idempotency key of its request, and why."""

    identifier: str
    message: str


@dataclass(frozen=True, slots=True)
class ReportedError:
    """How many meter events met an error, and some of them. `code` may be a word that nobody has published."""

    code: str
    count: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What a notification says: errors of the meter events that were judged from `start_us` to `end_us`.

    `meter` is the event name, '' where Stripe names no meter.
    """

    notification_id: str
    type: str
    meter_id: str
    meter: str
    start_us: int
    end_us: int
    errors: tuple[ReportedError, ...]

    @property
    def count(self) -> int:
        """How many errors it speaks of."""
        return sum(error.count for error in self.errors)


def codes_in(reason: str) -> list[str]:
    """The codes of a reported meter event: one, or all those that it may have met where a report names too few."""
    return reason.split(", ")


def reason_of(codes: Iterable[str]) -> str:
    """The same as text."""
    return ", ".join(codes)


def state_for(reason: str, reissue: int) -> State:
    """Where a reported meter event goes: to be offered again once its cause is mended, or to a person."""
    return State.REJECTED if MENDABLE.issuperset(codes_in(reason)) and reissue < REISSUES_MAX else State.HELD
