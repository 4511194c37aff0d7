"""Requests and responses as values, so that a sandbox service is a function from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `query` keeps order; header names are lower case; `body` is already un-gzipped."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; content-length is added by the server."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Service(Protocol):
    """A sandbox service: no sockets, no clock of its own, safe to call from many threads."""

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        ...
