"""Billing periods of customers, as Stripe was last found to have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..core.clock import DAY_US
from ..core.periods import Period, corrected
from ..core.windows import CLOCK_TOLERANCE_US
from ..failpoints import Step
from .database import Database

if TYPE_CHECKING:
    from .ledger import Ledger


@dataclass(frozen=True, slots=True)
class Checked:
    """The billing periods that a customer's subscription items for a meter are in; none where there is no item."""

    customer_id: str
    meter: str
    periods: Sequence[Period]


class PutPeriod(NamedTuple):
    """A billing period as its row."""

    customer_id: str
    meter: str
    item_id: str
    start_us: int
    end_us: int
    read_at_us: int


class PutPeriodCheck(NamedTuple):
    """That a customer's items were read."""

    customer_id: str
    meter: str
    read_at_us: int


def lanes_to_check(ledger: Ledger, now_us: int) -> list[tuple[str, str]]:
    """Customers and meters with money to send whose periods are not known as of now: about once a period for each."""
    rows = ledger.query(
        "lanes_to_check", now_us=now_us, day_ago_us=now_us - DAY_US, ahead_us=now_us + CLOCK_TOLERANCE_US
    )
    return [(row["customer_id"], row["meter"]) for row in rows]


def put_periods(ledger: Ledger, checked: Sequence[Checked], now_us: int) -> None:
    """Store what was read of some customers."""
    with ledger.transaction(Step.PUT_PERIODS) as db:
        for one in checked:
            lane = one.customer_id, one.meter
            periods = corrected(periods_txn(db, *lane), one.periods, now_us)
            rows = [PutPeriod(*lane, p.item_id, p.start_us, p.end_us, now_us) for p in periods]
            db.write_many("put_period", rows)
        db.write_many("put_period_check", [PutPeriodCheck(c.customer_id, c.meter, now_us) for c in checked])


def doubt_periods(ledger: Ledger, customer_id: str, changed_us: int) -> None:
    """Have a customer's periods read anew, if they were last read before they changed, as far as clocks can tell."""
    with ledger.transaction(Step.PUT_PERIODS) as db:
        db.write("delete_period_checks", customer_id=customer_id, until_us=changed_us + CLOCK_TOLERANCE_US)


def periods_txn(db: Database, customer_id: str, meter: str) -> list[Period]:
    """The billing periods that are known of a customer for a meter, the earliest first."""
    rows = db.rows("periods_of", customer_id=customer_id, meter=meter)
    return [Period(row["item_id"], row["start_us"], row["end_us"]) for row in rows]
