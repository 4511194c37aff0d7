"""Stripe's reports of meter events that it had taken and did not count: stored once, matched, and sent again.

A report names only samples. What it names is taken back at once. While it speaks of more it is open, and the meter
events that it may mean are told apart by the values of their windows (ledger/doubts.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from ..core.credits import MICROS_PER_CREDIT
from ..core.doubt import COUNTED
from ..core.ids import is_of_batch, issue_of
from ..core.reports import REPORT_SLACK_US, REPORTS_KEPT_US, ErrorReport, Notification, reason_of, state_for
from ..core.states import UNSHOWN, State
from ..failpoints import Step
from .corrections import Decided, put_decision_txn
from .database import Database, Row
from .ledger import Ledger
from .meter_windows import later_totals_txn, meter_windows_txn
from .rows import PutNotification, RunRef

RECEIVED, APPLIED, OPEN = "received", "applied", "open"
OPEN_MAX = 50
SUSPECTS_MAX = 1000
MAY_COUNT = (State.ACCEPTED, State.PENDING, State.SENDING, *UNSHOWN)
_encode = msgspec.json.Encoder().encode


class Stored(msgspec.Struct):
    """The body of a notification: the report, and how much of it is explained.

    `told`: of each code, how many samples were looked up. `narrowed`: how many meter events were found without a name.
    `unsure`: those that it names and that were sent again since, so that nobody can tell which send it means.
    """

    report: ErrorReport
    told: dict[str, int]
    narrowed: int = 0
    unsure: list[str] = []

    @property
    def unnamed(self) -> dict[str, int]:
        """How many meter events of each code are not named by a sample."""
        counts: Counter[str] = Counter()
        for error in self.report.errors:
            counts[error.code] += error.count
        return dict(counts - Counter(self.told))

    @property
    def rest(self) -> int:
        """How many meter events are still to be found."""
        return sum(self.unnamed.values()) - self.narrowed


@dataclass(frozen=True, slots=True)
class OpenReport:
    """A report that speaks of more meter events than were found, and when they may have been sent and answered."""

    notification_id: str
    matched: int
    stored: Stored

    @property
    def from_us(self) -> int:
        """No meter event that was answered before is meant."""
        return self.stored.report.start_us - REPORT_SLACK_US

    @property
    def to_us(self) -> int:
        """No meter event that was sent later is meant."""
        return self.stored.report.end_us + REPORT_SLACK_US

    @property
    def reason(self) -> str:
        """The code of what it does not name; all that it may be where that cannot be told apart."""
        return reason_of(self.stored.unnamed)

    @property
    def meant(self) -> dict[str, Any]:
        """The same as parameters of the statement `suspects`."""
        return {"meter": self.stored.report.meter, "from_us": self.from_us, "to_us": self.to_us}


# --- storing and applying


def put_notifications(ledger: Ledger, notifications: Iterable[Notification], now_us: int) -> None:
    """Store that there are reports, each once however often it is told."""
    rows = [PutNotification(n.notification_id, n.type, n.meter_id, n.created_us, now_us) for n in notifications]
    with ledger.transaction(Step.PUT_NOTIFICATIONS) as db:
        db.write_many("put_notification", rows)


def received(ledger: Ledger, limit: int) -> list[Notification]:
    """Reports whose data is still to be fetched, the oldest first."""
    return [
        Notification(row["notification_id"], row["type"], row["created_at_us"], row["object_id"])
        for row in ledger.query("notifications_in", state=RECEIVED, since_us=0, limit=limit)
    ]


class _Named(NamedTuple):
    """A sample, and its meter event if it is one of this ledger.

    `is_clear`: which send of that identifier it speaks of, and that its usage is not counted. Where doubt was settled
    and the same identifier sent again, the report may be on the send before; and where a later total holds the same
    usage, that may count. Then it is a suspicion only, and the sums decide.
    """

    code: str
    identifier: str
    message: str
    event: Any
    is_clear: bool


def apply_report(ledger: Ledger, report: ErrorReport, now_us: int) -> int:
    """Store what a report says and take back what it names; how many meter events.

    A report that was applied before changes nothing. If one of those that it names is being sent at this moment, it
    stays as it is and a later run applies it.
    """
    with ledger.transaction(Step.APPLY_REPORT) as db:
        named = _named_txn(db, report)
        known = db.row("notification", notification_id=report.notification_id)
        if known["state"] != RECEIVED or any(one.event and one.event["state"] == State.SENDING for one in named):
            return 0
        unsure = [one.event["meter_event_id"] for one in named if not one.is_clear and _is_current(one)]
        named = [one for one in named if one.is_clear]
        told = {error.code: sum(one.code == error.code for one in named) for error in report.errors}
        _put_report_txn(db, Stored(report, told, unsure=unsure), sum(one.event is not None for one in named))
        return sum(_take_named_txn(db, report, one, now_us) for one in named)


def _named_txn(db: Database, report: ErrorReport) -> list[_Named]:
    """The samples of a report, each meter event once for each code; one of a whole batch of them names none."""
    samples = [(error.code, sample) for error in report.errors for sample in error.samples]
    named = {}
    for code, sample in samples:
        if not is_of_batch(sample.identifier):
            meter_event_id, issue = issue_of(sample.identifier)
            event = db.row("meter_event", meter_event_id=meter_event_id)
            again = db.row("sent_since_settled", meter_event_id=meter_event_id)["times"]
            one = _Named(code, sample.identifier, sample.message, event, is_clear=not again)
            named[code, meter_event_id, issue] = one
    return _without_held_txn(db, list(named.values()))


def _without_held_txn(db: Database, named: list[_Named]) -> list[_Named]:
    """The same, but nothing is clear about a meter event whose usage a later total holds that is not named itself."""
    windows = meter_windows_txn(db)
    if not windows:
        return named
    current = {one.event["meter_event_id"] for one in named if one.event and _is_current(one)}
    return [
        one._replace(is_clear=one.is_clear and later_totals_txn(db, one.event, windows) <= current)
        if one.event
        else one
        for one in named
    ]


def _take_named_txn(db: Database, report: ErrorReport, named: _Named, now_us: int) -> bool:
    """Take back the meter event of a sample, unless it was never sent, or under a newer identifier since."""
    event = named.event
    if event is None or not event["attempt"] or not _is_current(named):
        return False
    detail = _encode({"notification": report.notification_id, "identifier": named.identifier}).decode()
    amount_micros = event["credits"] * MICROS_PER_CREDIT
    why = f"{named.code}: {named.message}"
    decided = Decided("stripe", "report", "meter_event", event["meter_event_id"], amount_micros, why, detail)
    return take_back_txn(db, named.code, decided, now_us)


def _is_current(named: _Named) -> bool:
    """Whether a sample speaks of the newest identifier of its meter event."""
    return bool(issue_of(named.identifier)[1] == named.event["reissue"])


def take_back_txn(db: Database, reason: str, decided: Decided, now_us: int) -> bool:
    """Note inside the caller's transaction that Stripe did not count a meter event; whether that was news."""
    meter_event_id = decided.subject
    event = db.row("meter_event", meter_event_id=meter_event_id)
    state = state_for(reason, event["reissue"])
    values = {"state": state, "reason": reason, "answer": decided.why, "now_us": now_us}
    if not db.write("take_back", meter_event_id=meter_event_id, **values):
        return False
    put_decision_txn(db, now_us, decided)
    db.write("await_marks", meter_event_id=meter_event_id)
    return True


def _put_report_txn(db: Database, stored: Stored, matched: int) -> None:
    db.write(
        "put_report",
        notification_id=stored.report.notification_id,
        state=OPEN if stored.rest else APPLIED,
        reported=stored.report.count,
        matched=matched,
        body=_encode(stored).decode(),
    )


# --- reports that name too few


def open_reports(source: Ledger | Database, now_us: int) -> list[OpenReport]:
    """Reports that speak of more meter events than were found, the oldest first, as long as Stripe keeps them."""
    ask = source.query if isinstance(source, Ledger) else source.rows
    return [
        OpenReport(row["notification_id"], row["matched"], msgspec.json.decode(row["body"], type=Stored))
        for row in ask("notifications_in", state=OPEN, since_us=now_us - REPORTS_KEPT_US, limit=OPEN_MAX)
    ]


def has_unfetched(db: Database, now_us: int) -> bool:
    """Whether a report that Stripe still keeps was announced, and what it says is not known yet."""
    return db.row("notifications_in", state=RECEIVED, since_us=now_us - REPORTS_KEPT_US, limit=1) is not None


def unexplained_reports(ledger: Ledger) -> int:
    """How many reports are still to be fetched, or speak of more meter events than were found."""
    return int(next(ledger.query("count_reports"))["reports"])


def suspects(ledger: Ledger, now_us: int) -> list[Row]:
    """Meter events that open reports may mean."""
    found = []
    for report in open_reports(ledger, now_us):
        found += list(ledger.query("suspects", **report.meant, limit=SUSPECTS_MAX))
        found += _unsure(ledger.query, report)
    return found


def _unsure(ask: Callable[..., Iterable[Row]], report: OpenReport) -> list[Row]:
    """Meter events that a report names, without saying which send of them it means, as long as that is open."""
    rows = [row for name in report.stored.unsure for row in ask("meter_event", meter_event_id=name)]
    return [row for row in rows if row["state"] in MAY_COUNT and row["reason"] != COUNTED]


def take_unnamed_txn(db: Database, report: OpenReport, decided: Decided, now_us: int) -> bool:
    """Take back a meter event that an open report means without naming it, inside the caller's transaction."""
    if not take_back_txn(db, report.reason, decided, now_us):
        return False
    stored = msgspec.structs.replace(report.stored, narrowed=report.stored.narrowed + 1)
    _put_report_txn(db, stored, report.matched + 1)
    return True


def close_reports(ledger: Ledger, now_us: int) -> None:
    """Close open reports that can mean no meter event of this ledger any more: the rest was someone else's."""
    with ledger.transaction(Step.CLOSE_REPORTS) as db:
        for report in open_reports(db, now_us):
            if db.row("suspects", **report.meant, limit=1) is None and not _unsure(db.rows, report):
                db.write("close_report", notification_id=report.notification_id)


# --- sending again


def reported(ledger: Ledger, now_us: int, limit: int) -> list[Row]:
    """Meter events that Stripe took and did not count, and whose cause may be mended by now."""
    return list(ledger.query("reported", now_us=now_us, limit=limit))


def offer_again(ledger: Ledger, run: RunRef, mended: Mapping[str, Decided], later_us: Mapping[str, int]) -> None:
    """Issue anew those reported meter events whose cause is mended, and note when to look at the others again."""
    with ledger.transaction(Step.REISSUE) as db:
        for meter_event_id, decided in mended.items():
            reissue_txn(db, run, meter_event_id, decided)
        for meter_event_id, again_at_us in later_us.items():
            db.write("postpone", meter_event_id=meter_event_id, again_at_us=again_at_us)


def reissue(ledger: Ledger, run: RunRef, meter_event_id: str, decided: Decided, *, by_person: bool = False) -> bool:
    """Offer a meter event that Stripe took and did not count again, under a new identifier; whether it was one.

    A person's word also releases it: it is sent even if it is late for its invoice.
    """
    with ledger.transaction(Step.REISSUE) as db:
        return reissue_txn(db, run, meter_event_id, decided, by_person=by_person)


def reissue_txn(db: Database, run: RunRef, meter_event_id: str, decided: Decided, *, by_person: bool = False) -> bool:
    """As `reissue`, inside the caller's transaction."""
    event = db.row("meter_event", meter_event_id=meter_event_id)
    if event is None or event["reported_at_us"] is None:
        return False
    decision_id = put_decision_txn(db, run.now_us, decided)
    released_by = decision_id if by_person else None
    return db.write("reissue", meter_event_id=meter_event_id, released_by=released_by) == 1
