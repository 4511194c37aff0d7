"""Read ahead: the next page is fetched while the last one is recorded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from .. import machine

DEPTH = 32
"""Pages that wait, at most."""
T = TypeVar("T")


def batches(items: Iterator[T], size: int, last: type | tuple[type, ...] = ()) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, or shorter where an item of the type `last`, or an error, ends one."""
    batch: list[T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size or isinstance(item, last):
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def ahead(items: Iterator[T], depth: int = DEPTH) -> Iterator[T]:
    """The items of an iterator, at most `depth` fetched ahead where the machine has threads for that."""
    return ReadAhead(items, depth) if machine.current().reads_ahead else items


class ReadAhead(Iterator[T]):
    """The items of an iterator that runs in a thread, at most `depth` ahead, from the moment this is made.

    Its errors are raised here. The thread stops when nobody holds this any more.
    """

    def __init__(self, items: Iterator[T], depth: int = DEPTH) -> None:
        self._fetched: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        # The thread must not hold this object, or nobody could ever let go of it.
        threading.Thread(
            target=_fetch, args=(items, self._fetched, self._stopped), name="read-ahead", daemon=True
        ).start()

    def __next__(self) -> T:
        if self._stopped.is_set():
            raise StopIteration
        kind, value = self._fetched.get()
        if kind == "item":
            return value  # type: ignore[return-value]
        self._stopped.set()
        raise value if isinstance(value, BaseException) else StopIteration

    def __del__(self) -> None:
        self._stopped.set()


def _fetch(items: Iterator[T], fetched: queue.Queue[tuple[str, Any]], stopped: threading.Event) -> None:
    def put(kind: str, value: Any = None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                fetched.put((kind, value), timeout=0.1)
                return

    try:
        for item in items:
            put("item", item)
            if stopped.is_set():
                return
        put("end")
    except BaseException as error:  # noqa: BLE001 - carried to the reader and raised there
        put("error", error)
