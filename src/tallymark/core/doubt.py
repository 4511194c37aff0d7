"""Which meter events Stripe counted, told from what it says that a window of time is worth. Pure.

A window holds every meter event of a customer and meter whose timestamp lies in it. Of some it is certain that they
were counted, of some that they were not; the value of the window says which of the others were, where only one answer
adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from .clock import HOUR_US
from .states import UNSHOWN, State

# Event summaries are eventually consistent, without a promise of freshness (facts/stripe.md section 4).
SUMMARY_MARGIN_US = HOUR_US
# A window that allows several answers is left alone this long: reads have an allowance (facts/stripe.md section 4).
ASK_AGAIN_US = 6 * HOUR_US
# One page of summaries holds so many windows; to read across a gap as long as that costs no request more.
GAP_WINDOWS_MAX = 100
# More sums than this in all are not told apart; they would take seconds, and much memory.
SUMS_MAX = 100_000
COUNTED = "counted"
"""The reason of an accepted meter event that its window's value shows as counted, so that no report can mean it."""


class Window(NamedTuple):
    """A stretch of time (unix seconds, end exclusive) of one customer and meter (its event name)."""

    customer_id: str
    meter: str
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Value:
    """What Stripe says that a window is worth: whole credits, None if it is no such number, and its own words."""

    credits: int | None
    said: str


NOTHING = Value(0, "0")
PLUS = " + "
"""What stands between the values of several meters that were added up."""

NO_CUSTOMER = Value(None, "no such customer")


def total(values: Iterable[Value]) -> Value:
    """Several values together; no number of credits if there are none, or one of them has none."""
    found = list(values)
    known = [value.credits for value in found if value.credits is not None]
    said = PLUS.join(value.said for value in found) or "nothing, since it has no such meter"
    return Value(sum(known) if found and len(known) == len(found) else None, said)


@dataclass(frozen=True, slots=True)
class Member:
    """A meter event whose timestamp lies in a window.

    `unanswered`: a send of it has no answer. `suspected`: it was accepted, and a report of Stripe that names too few
    may speak of it. `touched_us`: when it was last sent, answered or reported.
    """

    meter_event_id: str
    state: str
    credits: int
    touched_us: int
    unanswered: bool = False
    suspected: bool = False
    reported: bool = False

    @property
    def standing(self) -> Standing:
        """Whether it is known that Stripe counts it."""
        if self.state == State.ACCEPTED:
            return Standing.UNKNOWN if self.suspected else Standing.COUNTED
        if self.unanswered or self.state in (*UNSHOWN, State.SENDING, State.CANCELLING):
            return Standing.UNKNOWN
        return Standing.NOT_COUNTED

    @property
    def is_asked(self) -> bool:
        """Whether the value of the window is to decide it; other unknown ones get their answers by themselves."""
        return self.state in UNSHOWN or self.suspected

    @property
    def may_move(self) -> bool:
        """Whether what last happened to it changes, or may change, what Stripe says of the window."""
        return self.standing is not Standing.NOT_COUNTED or self.reported or self.state == State.CANCELLED


class Standing(StrEnum):
    """What is known of a meter event before Stripe's value is looked at."""

    COUNTED = "counted"
    NOT_COUNTED = "not counted"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What Stripe's value says of a meter event."""

    COUNTED = "counted"
    NOT_COUNTED = "not counted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a window's value says of the unknown meter events in it.

    `accepted` is what is certainly counted, `unknown` the credits of each that is not, `why` what was concluded.
    """

    accepted: int
    unknown: Mapping[str, int]
    verdicts: Mapping[str, Verdict]
    why: str


def quiet_from_us(members: Iterable[Member]) -> int:
    """From when on a window's value shows everything that has happened in it."""
    return max((member.touched_us for member in members if member.may_move), default=0) + SUMMARY_MARGIN_US


def may_be_proved(members: Iterable[Member], now_us: int) -> bool:
    """Whether a window's value could prove what was streamed although it is young: see `prove`.

    Sums only grow, except by what was counted and is to be taken off them again: that must be old enough to show.
    """
    found = list(members)
    falling = [member for member in found if member.standing is Standing.NOT_COUNTED]
    return any(member.state == State.STREAMED for member in found) and quiet_from_us(falling) <= now_us


def prove(value: Value, members: Sequence[Member]) -> Judgement:
    """Compare the value of a young window with all that Stripe may have counted in it.

    The value may lag behind, so it is never more than what was counted: only if it is as much as all together, all was
    counted. Anything less decides nothing yet.
    """
    judgement = judge(value, members)
    if value.credits == judgement.accepted + sum(judgement.unknown.values()):
        return judgement
    return replace(judgement, verdicts=dict.fromkeys(judgement.unknown, Verdict.UNDECIDED))


def judge(value: Value, members: Sequence[Member]) -> Judgement:
    """Compare a window's value with what was accepted in it.

    Of all choices of the unknown meter events, those count that add up to the rest. What is in all of them was counted,
    what is in none was not, and anything else stays undecided. If Stripe does not know the customer, only what it has
    reported as not counted is taken for that: the key may be of the other mode.
    """
    accepted = sum(member.credits for member in members if member.standing is Standing.COUNTED)
    unknown = {member.meter_event_id: member.credits for member in members if member.standing is Standing.UNKNOWN}
    amounts = list(unknown.values())
    problem = _problem(value, accepted, sum(amounts))
    fates = None if problem or value.credits is None else fates_of(amounts, value.credits - accepted)
    verdicts = [Verdict.UNDECIDED] * len(amounts) if fates is None else [_verdict(fate) for fate in fates]
    decided = dict(zip(unknown, verdicts, strict=True))
    if value == NO_CUSTOMER:
        decided |= {member.meter_event_id: Verdict.NOT_COUNTED for member in members if member.suspected}
    said = f"Stripe counts {value.said}; {accepted} are known to be counted, and {sum(amounts)} may be"
    return Judgement(accepted, unknown, decided, f"{said}: {problem or _conclusion(fates)}")


def _problem(value: Value, accepted: int, unknown: int) -> str:
    """Why no choice of the unknown ones can explain a value; '' if one may."""
    if value == NO_CUSTOMER:
        return "for nobody nothing is counted, if the key is of the right mode"
    if value.credits is None:
        return "that is no whole number of credits"
    if value.credits < accepted:
        return "that is less than was accepted, so Stripe lost some, or its sums lag behind"
    if value.credits > accepted + unknown:
        return "that is more than was ever sent, so someone else writes to this meter"
    return ""


def _conclusion(fates: Sequence[frozenset[bool]] | None) -> str:
    if fates is None:
        return "too many sums are possible to tell them apart"
    if not all(fates):
        return "no choice of them adds up to it, so someone else writes to this meter, or Stripe lost some"
    return "more than one answer fits" if any(len(fate) > 1 for fate in fates) else "only one answer fits"


def _verdict(fate: frozenset[bool]) -> Verdict:
    if len(fate) != 1:
        return Verdict.UNDECIDED
    return Verdict.COUNTED if True in fate else Verdict.NOT_COUNTED


def fates_of(amounts: Sequence[int], rest: int) -> list[frozenset[bool]] | None:
    """For each amount: whether it is in (True), or left out of (False), a choice of amounts that adds up to the rest.

    Amounts are positive. None if there are too many sums to tell.
    """
    if rest in (0, sum(amounts)):
        return [frozenset({rest != 0})] * len(amounts)
    before, after = _sums(amounts, rest), _sums(amounts[::-1], rest)
    if before is None or after is None:
        return None
    return [_fate(amount, rest, before[at], after[len(amounts) - 1 - at]) for at, amount in enumerate(amounts)]


def _sums(amounts: Sequence[int], rest: int) -> list[set[int]] | None:
    """For each amount the sums, up to the rest, of choices of those before it; None if there are too many."""
    sums = [{0}]
    for amount in amounts:
        sums.append(sums[-1] | {one + amount for one in sums[-1] if one + amount <= rest})
        if sum(map(len, sums)) > SUMS_MAX:
            return None
    return sums


def _fate(amount: int, rest: int, before: set[int], after: set[int]) -> frozenset[bool]:
    """What may become of one amount, given the sums of those before it and of those after it."""
    possible = {
        True: any(rest - amount - one in after for one in before),
        False: any(rest - one in after for one in before),
    }
    return frozenset(fate for fate, may_be in possible.items() if may_be)


# --- which windows to ask


def windows_of(places: Iterable[tuple[str, str, int]], width_s: int) -> list[Window]:
    """The windows of a width, aligned in UTC, that hold these (customer, meter, unix seconds), in their order."""
    starts = sorted({(customer, meter, at_s - at_s % width_s) for customer, meter, at_s in places})
    return [Window(customer, meter, start_s, start_s + width_s) for customer, meter, start_s in starts]


def spans_of(windows: Iterable[Window]) -> list[list[Window]]:
    """Windows in their order, those of one customer and meter together where one question is no dearer than two."""
    spans: list[list[Window]] = []
    for window in windows:
        if spans and _is_near(spans[-1][-1], window):
            spans[-1].append(window)
        else:
            spans.append([window])
    return spans


def _is_near(last: Window, window: Window) -> bool:
    reach_s = (window.end_s - window.start_s) * GAP_WINDOWS_MAX
    return last[:2] == window[:2] and window.start_s - last.end_s <= reach_s
