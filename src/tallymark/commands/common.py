"""What all commands share: the options, moments on the command line, and how a command begins."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..core.clock import DAY_US, HOUR_US, parse_time
from ..core.secrets import hide

F = TypeVar("F", bound=Callable[..., Any])


# Not ParamType[int]: older releases of click take no type there.
class Moment(click.ParamType):  # type: ignore[type-arg]
    """A moment on the command line: 2026-11-01, 2026-11-01T10:00:00Z, or an age such as 36h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Microseconds since 1970. Fails with what is accepted."""
        try:
            return _moment_us(str(value))
        except ValueError:
            self.fail(f"{value!r:.60} is no time; write 2026-11-01, 2026-11-01T10:00:00Z, 36h or 7d", param, ctx)


def _moment_us(text: str) -> int:
    from ..clock import SystemClock

    # Five digits of days are 273 years, which every calendar has.
    if age := re.fullmatch(r"([0-9]{1,5})([hd])", text):
        return SystemClock().now_us() - int(age[1]) * (HOUR_US if age[2] == "h" else DAY_US)
    return parse_time(f"{text}T00:00:00Z" if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else text)


def common(command: F) -> F:
    """The options that every command takes."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
        click.option("--config", "config_file", type=click.Path(path_type=Path), help="Settings file to read."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."),
    ):
        command = option(command)
    return command


class _Discreet(logging.Formatter):
    """Writes no secret, whoever logs it."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, or more with a traceback."""
        return hide(super().format(record))


def begin(config_file: Path | None, verbose: bool, quiet: bool) -> Any:
    """Set up logging and read the settings."""
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    # Stripe's library would print what it sends and gets by itself, past this formatter.
    os.environ.pop("STRIPE_LOG", None)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    from ..api import load_config

    return load_config(config_file)
