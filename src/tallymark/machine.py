"""What tallymark asks of the machine it runs on, besides the clock: threads, connections, chance, and who is alive.

A simulation puts another machine in its place (tests/sim, docs/adr/0033): one without threads and sockets, whose
processes die when it says so. Until then `current` is the real one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    """Does things side by side."""

    def map(self, do: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """What doing it came to for each item, in the order of the items."""
        ...


class Machine:
    """The machine as it is."""

    reads_ahead = True
    """Whether a thread may fetch what is next while the last is recorded."""

    def pool(self, threads: int, name: str) -> contextlib.AbstractContextManager[Pool]:
        """So many threads, named for people who look."""
        return ThreadPoolExecutor(threads, thread_name_prefix=name)

    def random_hex(self, digits: int) -> str:
        """A name that nobody has had before."""
        return secrets.token_hex(digits // 2)

    def langfuse_connections(self, **options: Any) -> Any:
        """What a client of Langfuse asks over: urllib3's PoolManager with these options, or what looks like it."""
        import urllib3

        return urllib3.PoolManager(**options)

    def stripe_connections(self, timeout_seconds: int, url: str) -> Any:
        """What Stripe's SDK asks that address over: one of its own HTTP clients."""
        from .meter.connections import Connections

        return Connections(timeout_seconds, url)

    def host(self) -> str:
        """This machine since its last start, and this namespace of process ids; empty if that cannot be known."""
        return _host()

    def process_id(self) -> int:
        """The number of this process."""
        return os.getpid()

    def process_started(self, process_id: int) -> str:
        """When a process was started, in ticks since boot; empty if there is none, or it is dead."""
        state, *fields = _read(f"/proc/{process_id}/stat").rpartition(")")[2].split() or ["Z"]
        return "" if state == "Z" else fields[18]


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:
        return ""


@cache
def _host() -> str:
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{boot}/{namespace}" if boot and namespace else ""


_current = Machine()


def current() -> Machine:
    """The machine that this process runs on."""
    return _current


@contextlib.contextmanager
def running_on(machine: Machine) -> Iterator[None]:
    """Run on another machine inside the block."""
    global _current
    before, _current = _current, machine
    try:
        yield
    finally:
        _current = before
