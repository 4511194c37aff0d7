"""What to do about a value that cannot be used: raise where people test, say it once and go on in production."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
STRICT_VARIABLE = "TALLYMARK_INSTRUMENT_STRICT"

_log = logging.getLogger("tallymark.instrument")
_lock = threading.Lock()
_said: set[str] = set()
_strict: bool | None = None


def set_strict(strict: bool | None) -> None:
    """Raise ValueError for values that Langfuse would drop (True), or log once and go on (False).

    None, as at the start, leaves it to the environment variable TALLYMARK_INSTRUMENT_STRICT.
    """
    global _strict
    _strict = strict


def is_strict() -> bool:
    """Whether a refusal raises."""
    if _strict is not None:
        return _strict
    return os.environ.get(STRICT_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def refuse(condition: str, error: Exception | None = None) -> None:
    """Refuse something. `condition` never holds the value itself: it may be a secret or a prompt (DESIGN G7).

    Raises ValueError if strict. Otherwise logs the condition the first time it is met.
    """
    if is_strict():
        raise ValueError(condition) from error
    with _lock:
        first = condition not in _said
        _said.add(condition)
    if first:
        _log.warning("%s (said once)%s", condition, f": {type(error).__name__}" if error else "")


def safely(what: str, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result | None:
    """Call a function; None if it fails, which is refused: billing must never break the application."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if is_strict() and isinstance(error, ValueError):
            raise
        refuse(f"a billable() could not be {what}", error)
        return None


def forget() -> None:
    """Forget what was said, so that it is said again. For tests."""
    with _lock:
        _said.clear()
