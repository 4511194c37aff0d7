"""Addresses of pages: the one that was asked for with something changed in its query, and ids as a part of a path."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from litestar import Request


def with_query(request: Request[Any, Any, Any], path: str, **changes: str | None) -> str:
    """`path` with the query of the request, in which these are set, or left out if they are None."""
    kept = [(name, value) for name, value in request.query_params.items() if value and name not in changes]
    query = urlencode([*kept, *((name, value) for name, value in changes.items() if value is not None)])
    return f"{path}?{query}" if query else path


def quoted(identity: str) -> str:
    """An id as a part of an address; it may hold slashes."""
    return quote(identity, safe="")
