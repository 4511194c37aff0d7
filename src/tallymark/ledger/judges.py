"""The judges of `verify`: pure, over rows by column name. Each yields, for every row, what is wrong with it or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from ..core.clock import SECOND_US, format_time
from ..core.credits import MICROS_PER_CREDIT, format_micros, split_whole_credits
from ..core.decisions import EntryKind, MarkState
from ..core.ids import link, meter_event_id
from ..core.states import State
from ..errors import TallymarkError
from .gathering import PLACE

Rows = Iterable[Any]
BY_DECISION = (EntryKind.REVERSAL, EntryKind.REBOOKING, EntryKind.INVOICED)


class Found(NamedTuple):
    """Which row does not hold, and why; `also` if the row was judged before, or is none."""

    row: str
    detail: str
    also: bool = False


class Head(NamedTuple):
    """How long a chain of digests is, and its newest digest."""

    length: int
    digest: str

    def __str__(self) -> str:
        """LENGTH:DIGEST, for people to keep."""
        return f"{self.length}:{self.digest}"


def words(row: str) -> Callable[[Iterable[str]], Iterator[Found | None]]:
    """What is wrong already, in words."""

    def judge(details: Iterable[str]) -> Iterator[Found | None]:
        for detail in details:
            yield Found(row, detail, also=True)

    return judge


def readable(read: Iterable[str]) -> Iterator[Found | None]:
    """Each row of each table can be read, those included that no sum needs."""
    for unread in read:
        yield Found(unread, "it cannot be read, nor what follows in its table") if unread else None


class Chain:
    """Recomputes a chain of digests; each line is judged by the line before it, so one edit is one finding.

    `head` is the newest line that was read. `stands` is the head that the ledger keeps; `noted` is one that somebody
    kept outside, and catches a ledger that was rewritten as a whole.
    """

    def __init__(
        self,
        name: str,
        line_of: Callable[[Any], Any],
        content: Callable[[Any], bytes],
        stands: Head,
        noted: Head | None,
    ) -> None:
        self.head = Head(0, "")
        self._name, self._line_of, self._content = name, line_of, content
        self._stands, self._noted = stands, noted

    def __call__(self, rows: Rows) -> Iterator[Found | None]:
        """Judge all lines, in the order of their numbers."""
        for row in rows:
            line = self._line_of(row)
            yield self._problem(line[0], line.digest, self._content(line))
            self.head = Head(line[0], line.digest)
        yield from self._ends()

    def _problem(self, number: int, digest: str, content: bytes) -> Found | None:
        row, last = f"{self._name} {number}", self.head
        if number != last.length + 1:
            missing = f"{self._name} {last.length + 1}" + (f" to {number - 1}" if number > last.length + 2 else "")
            return Found(row, f"{missing} before it is missing")
        if digest != link(last.digest, content):
            return Found(row, "it was edited, moved or put there: its digest does not fit it and the line before")
        if self._noted and self._noted.length == number and digest != self._noted.digest:
            return Found(row, f"the digest noted earlier is {self._noted.digest}, and here it is {digest}")
        return None

    def _ends(self) -> Iterator[Found]:
        if self.head != self._stands:
            detail = f"the ledger says that its newest line is {self._stands}, and it is {self.head}"
            yield Found(f"{self._name} {max(self.head.length, self._stands.length)}", detail, also=True)
        if self._noted and self._noted.length > self.head.length:
            detail = f"there were {self._noted.length} lines when the head was noted, and there are {self.head.length}"
            yield Found(f"{self._name} {self._noted.length}", detail, also=True)


def entries(rows: Rows) -> Iterator[Found | None]:
    """Each entry lies in its bucket and in that of the meter event that covers it, and all that it names is there."""
    for row in rows:
        detail = _entry_problem(row)
        yield Found(f"entry {row['entry_id']}", detail) if detail else None


def _entry_problem(row: Any) -> str:
    if row["trace_found"] is None:
        return "its trace is not in the ledger"
    if row["card_found"] is None:
        return f"its rate card {row['card_digest']} is not in the ledger"
    if row["decision_id"] != row["decision_found"]:
        return f"it names the decision {row['decision_id']}, which is not in the ledger"
    waived = row["kind"] == EntryKind.WAIVER and row["amount_micros"] < 0
    if row["decision_id"] is None and (waived or row["kind"] in BY_DECISION):
        return f"it is a {row['kind']} and names no decision"
    if not row["bucket_start_us"] <= row["timestamp_us"] < row["bucket_end_us"]:
        return "its time lies outside its bucket"
    if row["meter_event_id"] != row["meter_event_found"]:
        return f"it names the meter event {row['meter_event_id']}, which is not in the ledger"
    if row["meter_event_id"] is not None and not row["place_agrees"]:
        return f"the meter event {row['meter_event_id']} covers it and is of another customer, meter or bucket"
    return ""


def meter_events(ledger_id: str) -> Callable[[Rows], Iterator[Found | None]]:
    """Each meter event is what its entries and the carry make of it, in its bucket, under its identifier."""

    def judge(rows: Rows) -> Iterator[Found | None]:
        for row in rows:
            detail = _sum_problem(row) or _form_problem(row, ledger_id)
            yield Found(f"meter event {row['meter_event_id']}", detail) if detail else None

    return judge


def _sum_problem(row: Any) -> str:
    total = row["carry_before_micros"] + row["entries_micros"]
    if split_whole_credits(total) != (row["credits"], row["carry_after_micros"]):
        before, after = format_micros(row["carry_before_micros"]), format_micros(row["carry_after_micros"])
        entered = format_micros(row["entries_micros"])
        return f"carry {before} + entries {entered} do not make {row['credits']} credits + carry {after}"
    if row["gathered_micros"] != row["entries_micros"]:
        found, said = format_micros(row["gathered_micros"]), format_micros(row["entries_micros"])
        return f"the entries that it covers come to {found}, and it says {said}"
    back = row["entries_micros"] if row["state"] == State.CANCELLED else 0
    if row["taken_back_micros"] != -back:
        taken = format_micros(-row["taken_back_micros"])
        return f"it is {row['state']}, so {format_micros(back)} of it must be taken back, and {taken} was"
    return ""


def _form_problem(row: Any, ledger_id: str) -> str:
    if (row["credits"] == 0) != (row["state"] == State.CARRIED):
        return f"it has {row['credits']} credits and is {row['state']}; those without any, and no others, are carried"
    if not row["bucket_start_us"] <= row["timestamp_s"] * SECOND_US < row["bucket_end_us"] and not _is_redated(row):
        return f"its time {format_time(row['timestamp_s'] * SECOND_US)} lies outside its bucket"
    if row["bucket_start_us"] % SECOND_US:
        return "its bucket does not begin with a second, as every bucket does"
    place = {name: row[name] for name in PLACE}
    if row["meter_event_id"] != meter_event_id(ledger_id, **place, revision=row["revision"]):
        return "its identifier is not the one that its content and this ledger's id make"
    if (row["attempts"], row["first_attempt"], row["last_attempt"]) != (row["attempt"], 1, row["attempt"]):
        return f"it was sent {row['attempt']} times, and its attempts are not numbered 1 to {row['attempt']}"
    if row["state"] == State.ACCEPTED and not row["attempt"]:
        return "it is accepted and was never sent"
    return ""


def _is_redated(row: Any) -> bool:
    """Whether it is dated at the last second before the window of a pre-aggregated meter (core.periods.dated_us)."""
    start_s = row["bucket_start_us"] // SECOND_US
    return row["window_s"] is not None and row["timestamp_s"] == start_s - start_s % row["window_s"] - 1


def carries(rows: Rows) -> Iterator[Found | None]:
    """The carry of a customer and meter is what its meter events left, and each began with what another had left.

    In which order they were gathered is not stored, and need not be: what they began with and what they left must form
    a row from 0 to the carry of today. A cancelled one gives back what it left over, at a moment that is not stored
    either (ledger/corrections.py): the row may be broken once for each of them, and they are no part of the sum.
    """
    for (customer, meter), lane in groupby(rows, key=lambda row: (row["customer_id"], row["meter"])):
        yield from _judge_lane(f"carry of {customer} on {meter}", lane)


def _judge_lane(name: str, lane: Rows) -> Iterator[Found | None]:
    carry = left = cancelled = 0
    # How often a carry was begun with, less how often it was left. Only those that do not match stay in memory.
    unmatched: Counter[int] = Counter()
    begun: dict[int, str] = {}
    for row in lane:
        before, after = row["carry_before_micros"], row["carry_after_micros"]
        if row["state"] == "carry":
            carry = after
        else:
            left += after - before if row["state"] != State.CANCELLED else 0
            cancelled += row["state"] == State.CANCELLED
            begun[before] = row["meter_event_id"]
            _add(unmatched, begun, before, 1)
            _add(unmatched, begun, after, -1)
        yield None
    if left != carry:
        detail = f"it is {format_micros(carry)}, and what its meter events left comes to {format_micros(left)}"
        yield Found(name, detail, also=True)
        return
    _add(unmatched, begun, 0, -1)
    _add(unmatched, begun, carry, 1)
    if sum(times for times in unmatched.values() if times > 0) > cancelled:
        first = min((value for value, times in unmatched.items() if times > 0 and value in begun), default=None)
        row = name if first is None else f"meter event {begun[first]}"
        detail = f"it begins with the carry {format_micros(first or 0)}, which no other of its customer and meter left"
        yield Found(row, "no meter event left what it is" if first is None else detail, also=True)


def _add(unmatched: Counter[int], begun: dict[int, str], value: int, times: int) -> None:
    unmatched[value] += times
    if not unmatched[value]:
        del unmatched[value]
        begun.pop(value, None)


def balances(rows: Rows) -> Iterator[Found | None]:
    """For each customer and meter, entries = accepted + on the way + carry + open, to the micro-credit (G4)."""
    for row in rows:
        sent = (row["accepted_credits"] + row["owed_credits"]) * MICROS_PER_CREDIT
        explained = sent + row["carry_micros"] + row["open_micros"]
        entered, rest = format_micros(row["entries_micros"]), format_micros(row["entries_micros"] - explained)
        detail = f"of entries of {entered} credits, {rest} are neither accepted nor on the way, carried or open"
        holds = explained == row["entries_micros"]
        yield None if holds else Found(f"balance of {row['customer_id']} on {row['meter']}", detail)


def traces(rows: Rows) -> Iterator[Found | None]:
    """What a trace says of its money is what its entries say, and its mark follows it (G5)."""
    for row in rows:
        detail = _trace_problem(row)
        yield Found(f"trace {row['trace_id']} in {row['project_id']}", detail) if detail else None


def _trace_problem(row: Any) -> str:
    for column, word in (("billed_micros", "billed"), ("waived_micros", "waived")):
        said, found = row[column], row[f"entries_{column}"]
        if said != found:
            return f"it says that {format_micros(said)} was {word}, and its entries come to {format_micros(found)}"
    mark = row["mark_state"]
    if row["deleted_at_us"] is not None:
        return ""  # It gets no mark any more, which would make a new trace of its id.
    if mark == MarkState.WAITING and not row["unsettled"]:
        return "its mark waits for money, and all of its money is settled"
    if mark in (MarkState.OWED, MarkState.WRITTEN) and row["unaccepted"]:
        return f"its mark is {mark}, and Stripe never accepted its money"
    return ""


def decisions(rows: Rows) -> Iterator[Found | None]:
    """What the entries of a decision take back is its amount."""
    for row in rows:
        said, found = format_micros(row["amount_micros"]), format_micros(row["taken_back_micros"])
        detail = f"its amount is {said}, and its entries take {found} back"
        wrong = row["entries"] and row["taken_back_micros"] != row["amount_micros"]
        yield Found(f"decision {row['decision_id']}", detail) if wrong else None


def rate_cards(card_digest: Callable[[str], str]) -> Callable[[Rows], Iterator[Found | None]]:
    """Each rate card says what it said when usage was rated by it."""

    def judge(rows: Rows) -> Iterator[Found | None]:
        for row in rows:
            detail = _card_problem(card_digest, row["digest"], row["body"])
            yield Found(f"rate card {row['digest']}", detail) if detail else None

    return judge


def _card_problem(card_digest: Callable[[str], str], digest: str, body: str) -> str:
    try:
        found = card_digest(body)
    except TallymarkError as error:
        return f"it cannot be read: {error}"
    return "" if found == digest else f"it was edited: its digest is {found}"
