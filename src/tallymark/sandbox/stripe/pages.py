"""Stripe's paging: `limit`, `starting_after`, `ending_before`, `has_more`."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import invalid, no_such
from .forms import Form, optional_integer, optional_text
from .shapes import Json, list_json

_LIMIT_DEFAULT = 10
_LIMIT_MAX = 100

PAGE_KEYS = frozenset({"limit", "starting_after", "ending_before", "expand"})


def page(form: Form, items: Sequence[Json], url: str) -> Json:
    """The page of `items` (objects with an `id`, in list order) that was asked for. Raises Refusal (400)."""
    limit = limit_of(form, _LIMIT_DEFAULT)
    after, before = optional_text(form, "starting_after"), optional_text(form, "ending_before")
    if before is not None:
        end = _position(items, before, "ending_before")
        return list_json(url, items[max(0, end - limit) : end], end > limit)
    start = 0 if after is None else _position(items, after, "starting_after") + 1
    return list_json(url, items[start : start + limit], len(items) > start + limit)


def limit_of(form: Form, default: int) -> int:
    """How many items a page shall hold. Raises Refusal (400) for less than 1 or more than 100."""
    limit = optional_integer(form, "limit")
    if limit is None:
        return default
    if not 1 <= limit <= _LIMIT_MAX:
        raise invalid(f"Invalid limit: must be between 1 and {_LIMIT_MAX}", "limit")
    return limit


def _position(items: Sequence[Json], identity: str, param: str) -> int:
    for position, item in enumerate(items):
        if item["id"] == identity:
            return position
    raise no_such("object", identity, param, 400)
