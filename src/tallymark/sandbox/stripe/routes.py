"""Which handler answers which route. Static routes are one look-up; the others are few."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from .forms import Form

Handler = Callable[[Form, str], Any]
"""Takes the parameters and the id in the path ("" if there is none); returns what is sent as JSON."""

_NAMED = re.compile(r"\{[a-z]+\}")


@dataclass(frozen=True, slots=True)
class Match:
    """A handler, the "METHOD /template" that led to it, and the decoded id in the path."""

    name: str
    handler: Handler
    identity: str


class Routes:
    """A table of routes."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """`handlers` by "METHOD /template", with at most one `{id}` in a template."""
        self._static = {name: Match(name, handler, "") for name, handler in handlers.items() if "{" not in name}
        self._patterns = [
            (re.compile(_NAMED.sub("([^/]+)", name)), name, handler)
            for name, handler in handlers.items()
            if "{" in name
        ]

    def match(self, method: str, path: str) -> Match | None:
        """The route of a request, or None."""
        line = f"{method} {path}"
        return self._static.get(line) or self._search(line)

    def _search(self, line: str) -> Match | None:
        for pattern, name, handler in self._patterns:
            found = pattern.fullmatch(line)
            if found:
                return Match(name, handler, unquote(found[1]))
        return None
