"""What a closing is: a period, its checklist, and the object that `tallymark close --json` prints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import msgspec

from ..core.clock import format_time
from ..core.credits import format_micros
from ..errors import ConfigError

MIDNIGHT = "T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Period:
    """What is closed: usage from `from_us` on, before `to_us` (microseconds since 1970), of one customer, or all ("").

    Raises ConfigError if it is empty.
    """

    from_us: int
    to_us: int
    customer_id: str = ""

    def __post_init__(self) -> None:
        if self.to_us <= self.from_us:
            raise ConfigError(
                f"the period ends ({format_time(self.to_us)}) before it has begun ({format_time(self.from_us)}); "
                "name an earlier --from or a later --to."
            )

    @property
    def span(self) -> dict[str, int]:
        """The period's ends, as statements take them."""
        return {"from_us": self.from_us, "to_us": self.to_us}

    @property
    def values(self) -> dict[str, int | str]:
        """The period's ends and its customer, as statements take them."""
        return {**self.span, "customer_id": self.customer_id}

    @property
    def options(self) -> str:
        """The period's ends as options of a command."""
        return f"--from {moment_text(self.from_us)} --to {moment_text(self.to_us)}"


class Check(msgspec.Struct):
    """One line of the checklist: whether it passes, how much waits, and the command to run next ("" if it passes).

    `credits` and `traces` are null where they are not known. A trace that waits in two places counts in each.
    """

    check: str
    passed: bool
    detail: str
    credits: str | None = None
    traces: int | None = None
    run: str = ""


class Closing(msgspec.Struct):
    """The checklist of a period, and the ledger's heads to keep with its invoices."""

    from_: str = msgspec.field(name="from")
    to: str
    customer: str | None
    passed: bool
    checks: list[Check]
    entries: str
    decisions: str

    @property
    def exit_status(self) -> int:
        """0 if every line passes, else 1."""
        return 0 if self.passed else 1


def check_amount(
    check: str, amount_micros: int, traces: int, detail: str, run: str, *, passed_detail: str, also: int = 0
) -> Check:
    """A line that passes when no trace waits, nor any of what is counted in `also`."""
    if not traces and not also:
        return Check(check, True, passed_detail, format_micros(0), 0)
    return Check(check, False, detail, format_micros(amount_micros), traces, run)


def held_command(reason: str) -> str:
    """The command that lists what waits for a reason."""
    return f"tallymark held list --reason {shlex.quote(reason)}"


def moment_text(moment_us: int) -> str:
    """A moment as an option takes it: a day if it is the beginning of one."""
    return format_time(moment_us).removesuffix(MIDNIGHT)
