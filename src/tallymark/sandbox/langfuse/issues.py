"""Checks of request data, answering with the same words as the real server's validator (golden 04, 05 and 06)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tallymark.core.clock import parse_time

Path = tuple[str | int, ...]
Issue = dict[str, Any]
Check = Callable[[Path, Any], list[Issue]]

ID_LENGTH_MAX = 800
# Ours: the real server shows the pattern of its validation library here.
DATETIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$"
_DATETIME = re.compile(DATETIME_PATTERN)
_TYPES = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}


def type_name(value: Any) -> str:
    """The JavaScript name of a JSON value's type."""
    if value is None:
        return "null"
    return _TYPES.get(type(value), "undefined")


def wrong_type(path: Path, expected: str, value: Any) -> Issue:
    """The issue of a value of another type than expected."""
    message = f"Invalid input: expected {expected}, received {type_name(value)}"
    return {"expected": expected, "code": "invalid_type", "path": list(path), "message": message}


def missing(path: Path, expected: str) -> Issue:
    """The issue of a key that is not there."""
    message = f"Invalid input: expected {expected}, received undefined"
    return {"expected": expected, "code": "invalid_type", "path": list(path), "message": message}


def too_long(path: Path, maximum: int) -> Issue:
    """The issue of a string that is too long."""
    message = f"Too big: expected string to have <={maximum} characters"
    return {"origin": "string", "code": "too_big", "maximum": maximum, "inclusive": True, **_ending(path, message)}


def too_short(path: Path) -> Issue:
    """The issue of an empty string."""
    message = "Too small: expected string to have >=1 characters"
    return {"origin": "string", "code": "too_small", "minimum": 1, "inclusive": True, **_ending(path, message)}


def invalid_option(path: Path, options: list[str]) -> Issue:
    """The issue of a value that is none of the options."""
    listed = "|".join(f'"{option}"' for option in options)
    return {
        "code": "invalid_value",
        "values": options,
        **_ending(path, f"Invalid option: expected one of {listed}"),
    }


def no_discriminator(path: Path) -> Issue:
    """The issue of an object whose type says nothing known."""
    middle = {"code": "invalid_union", "errors": [], "note": "No matching discriminator", "discriminator": "type"}
    return {**middle, **_ending(path, "Invalid input")}


def string_issues(path: Path, value: Any, length_max: int | None = None) -> list[Issue]:
    """What is wrong with a string."""
    if not isinstance(value, str):
        return [wrong_type(path, "string", value)]
    return [too_long(path, length_max)] if length_max is not None and len(value) > length_max else []


def id_issues(path: Path, value: Any) -> list[Issue]:
    """What is wrong with an id: 1 to 800 characters (facts/langfuse-observed.md item 20)."""
    return [too_short(path)] if value == "" else string_issues(path, value, ID_LENGTH_MAX)


def datetime_issues(path: Path, value: Any) -> list[Issue]:
    """What is wrong with a time: ISO-8601 with a zone (facts/langfuse-observed.md item 12)."""
    if not isinstance(value, str):
        return [wrong_type(path, "string", value)]
    if is_datetime(value):
        return []
    start = {"origin": "string", "code": "invalid_format", "format": "datetime", "pattern": f"/{DATETIME_PATTERN}/"}
    return [{**start, **_ending(path, "Invalid ISO datetime")}]


def is_datetime(text: str) -> bool:
    """Whether a text is ISO-8601 with a zone and names a real date."""
    if not _DATETIME.match(text):
        return False
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def strings_issues(path: Path, value: Any) -> list[Issue]:
    """What is wrong with an array of strings."""
    if not isinstance(value, list):
        return [wrong_type(path, "array", value)]
    return [wrong_type((*path, index), "string", item) for index, item in enumerate(value) if not isinstance(item, str)]


def object_issues(path: Path, value: Any) -> list[Issue]:
    """What is wrong with an object."""
    return [] if isinstance(value, Mapping) else [wrong_type(path, "object", value)]


def boolean_issues(path: Path, value: Any) -> list[Issue]:
    """What is wrong with a boolean."""
    return [] if isinstance(value, bool) else [wrong_type(path, "boolean", value)]


def body_issues(path: Path, body: Mapping[str, Any], checks: Mapping[str, Check]) -> list[Issue]:
    """What is wrong with the known keys of a body. Unknown keys and nulls are fine."""
    given = [(name, check) for name, check in checks.items() if body.get(name) is not None]
    return [issue for name, check in given for issue in check((*path, name), body[name])]


def _ending(path: Path, message: str) -> Issue:
    return {"path": list(path), "message": message}
