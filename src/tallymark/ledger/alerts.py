"""Alerts as they are told: what began, what is over, and what people have heard of it.

An alert is a row from when it is first found until its end is told. That it is going to be told is committed before the
message leaves, and that it was told only after it was taken: a process that is lost between the two tells it once more,
and never sooner than a run later; nothing is lost, and nothing is told in a loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.alerts import Finding
from ..core.clock import DAY_US, MINUTE_US
from ..failpoints import Step
from .database import Row
from .ledger import Ledger

# What comes and goes within this time is one alert.
CALM_US = 10 * MINUTE_US
REMIND_US = DAY_US


def note_alerts(ledger: Ledger, found: Sequence[Finding], now_us: int) -> None:
    """Store what is found now, and end what has not been found for ten minutes."""
    with ledger.transaction(Step.PUT_ALERTS) as db:
        for one in found:
            db.write(
                "put_alert",
                rule=one.rule,
                subject=one.subject,
                now_us=now_us,
                text=one.text,
                value=one.value,
                bound=one.limit,
                unit=one.unit,
            )
        db.write("end_alerts", now_us=now_us, unseen_since_us=now_us - CALM_US)


def begin_telling(ledger: Ledger, now_us: int, patience_us: int) -> list[Row]:
    """Take what is to be told: what is new, what is over, and each day what goes on; the rows as they were before.

    What was taken less than `patience_us` ago is left alone: whoever took it may still be telling it.
    """
    with ledger.transaction(Step.PUT_ALERTS) as db:
        rows = db.rows("alerts_to_tell", now_us=now_us, tried_by_us=now_us - patience_us, told_by_us=now_us - REMIND_US)
        for row in rows:
            db.write("try_alert", rule=row["rule"], subject=row["subject"], now_us=now_us)
        return rows


def end_telling(ledger: Ledger, told: Sequence[Row], now_us: int) -> None:
    """Store that these were told. An alert whose end was told is gone."""
    with ledger.transaction(Step.PUT_ALERTS) as db:
        for row in told:
            place = {"rule": row["rule"], "subject": row["subject"]}
            if row["over_at_us"] is None:
                db.write("tell_alert", now_us=now_us, **place)
            else:
                db.write("delete_alert", over_at_us=row["over_at_us"], **place)
