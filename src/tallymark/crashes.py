"""A mistake in tallymark itself: its traceback goes to the standard error, without the secrets that errors repeat."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

from .core.secrets import hide

SORRY = "this is a mistake in tallymark; the ledger is consistent. Report it with the lines above, then run again."


def show_discreetly() -> None:
    """From now on show what nobody caught without secrets; the exit status stays 1."""
    sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    lines = traceback.format_exception(kind, error, trace)
    print(hide("".join(lines)), SORRY, sep="", file=sys.stderr)  # noqa: T201 - the last words of this process
