"""Lists that are read by cursor: an error instead of a list that never ends."""

from __future__ import annotations

from ..errors import Garbled


class Cursors:
    """Follows the cursors of one list and notices when they go round in a circle, in constant memory.

    Brent's method: one cursor is kept, and the next one to keep stands twice as far on.
    """

    def __init__(self, base_url: str, what: str) -> None:
        self._base_url = base_url
        self._what = what
        self._kept: str | None = None
        self._seen = 0
        self._keep_at = 1

    def follow(self, cursor: str) -> str:
        """Go on to the next cursor. Raises Garbled if it stood there before."""
        if cursor == self._kept:
            raise Garbled(f"{self._base_url} gave the same cursor twice; its list of {self._what} never ends.")
        self._seen += 1
        if self._seen == self._keep_at:
            self._kept, self._keep_at = cursor, 2 * self._keep_at
        return cursor
