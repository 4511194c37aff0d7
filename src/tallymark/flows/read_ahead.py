"""Read ahead: the next page is fetched while the last one is recorded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

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


def read_ahead(items: Iterator[T], depth: int = 32) -> Iterator[T]:
    """Yield the items of an iterator that runs in a thread, at most `depth` ahead. Its errors are raised here."""
    fetched: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                fetched.put((kind, value), timeout=0.1)
                return

    def fetch() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001 - carried to the reader and raised there
            put("error", error)

    thread = threading.Thread(target=fetch, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (got := fetched.get())[0] == "item":
            yield got[1]  # type: ignore[misc]
        if isinstance(got[1], BaseException):
            raise got[1]
    finally:
        stopped.set()
