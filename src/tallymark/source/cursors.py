"""Lists that are read by cursor: an error instead of a list that never ends."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

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
            raise _never_ends(self._base_url, self._what)
        self._seen += 1
        if self._seen == self._keep_at:
            self._kept, self._keep_at = cursor, 2 * self._keep_at
        return cursor


class Progress:
    """Notices when a list that goes back in time repeats its rows, though under ever new cursors.

    An honest server gives each row once: every page reaches further back than all before it, or holds a row that the
    pages since the furthest point did not. More than a page may share one start time, so that alone proves nothing.
    Rows are looked at and remembered only from the first page that gets no further, until one does.
    """

    def __init__(self, base_url: str, what: str) -> None:
        self._base_url = base_url
        self._what = what
        self._oldest_us: int | None = None
        self._seen: set[Hashable] = set()

    def follow(self, oldest_us: int, rows: Iterable[Hashable]) -> None:
        """Take note of a page: its oldest start, and what tells its rows apart. Raises Garbled if nothing is new."""
        if self._oldest_us is None or oldest_us < self._oldest_us:
            self._oldest_us, self._seen = oldest_us, set()
            return
        known = len(self._seen)
        self._seen.update(rows)
        if len(self._seen) == known:
            raise _never_ends(self._base_url, self._what)


def _never_ends(base_url: str, what: str) -> Garbled:
    return Garbled(
        f"{base_url} gave the same cursor twice, or the same rows under another one; its list of {what} never ends. "
        "Nothing was lost; ask the server's operator, then run again."
    )
