"""Reading in a process of its own: pages are fetched and decoded there, while this one decides and stores.

Python runs one thread at a time, and decoding takes a third of collecting: so a long range is read faster
(docs/adr/0021). Both ends are here. The order goes to the child's standard input, so that no key stands among its
arguments; pages come back on its standard output, each as its length and then MessagePack. The standard input stays
open, so that the child notices when the parent ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from .. import errors
from ..clock import SystemClock
from ..core.clock import DAY_US
from ..crashes import show_discreetly
from ..errors import TallymarkError, Unavailable
from ..remote.langfuse import LangfuseClient
from ..source.observations import ObservationPage, ObservationsSource, WindowEnd
from ..source.rows import Page
from ..source.traces import Ahead, IdStream, TracesSource
from ..source.windows import Windows
from .read_ahead import ReadAhead

# Starting a process takes as long as reading a few thousand rows; a shorter range is read in this one.
RANGE_US_MIN = DAY_US
_LENGTH = struct.Struct(">I")


class ReadTraces(msgspec.Struct, tag=True):
    """What TracesSource.read is asked."""

    from_us: int
    to_us: int
    only_pending: bool
    horizon_us: int | None
    window_us_max: int | None


class ReadObservations(msgspec.Struct, tag=True):
    """What ObservationsSource.read is asked."""

    from_us: int
    to_us: int
    width_us_max: int


class Order(msgspec.Struct):
    """What the child is to read, and with which keys."""

    base_url: str
    public_key: str
    secret_key: str
    read: ReadTraces | ReadObservations


class Failed(msgspec.Struct, tag=True):
    """The child met an error: the name of its class in errors.py, and what it says."""

    kind: str
    message: str


class Done(msgspec.Struct, tag=True):
    """The last thing a child says: how many requests it made."""

    requests: int


class TracesApart(TracesSource):
    """The trace list, a long range of it read in a process of its own."""

    def read(
        self, from_us: int, to_us: int, only_pending: bool = False, horizon_us: int | None = None
    ) -> Iterator[Page]:
        """As TracesSource.read."""
        if not _is_long(from_us, to_us, horizon_us):
            return super().read(from_us, to_us, only_pending, horizon_us)
        return _read_apart(
            self._client, ReadTraces(from_us, to_us, only_pending, horizon_us, self._window_us_max), _decode_page
        )

    def scored(self, from_us: int, to_us: int, horizon_us: int | None = None, ahead: Ahead = iter) -> IdStream:
        """As TracesSource.scored. In a long range something is new for certain: it is asked while the child starts."""
        return super().scored(from_us, to_us, horizon_us, ReadAhead if _is_long(from_us, to_us, horizon_us) else ahead)


def _is_long(from_us: int, to_us: int, horizon_us: int | None) -> bool:
    return (to_us if horizon_us is None else horizon_us) - from_us >= RANGE_US_MIN


class ObservationsApart(ObservationsSource):
    """Observations, a range of several windows of them read in a process of its own."""

    def read(self, windows: Windows) -> Iterator[ObservationPage | WindowEnd]:
        """As ObservationsSource.read."""
        if windows.to_us - windows.from_us <= windows.width_us_max:
            return super().read(windows)
        order = ReadObservations(windows.from_us, windows.to_us, windows.width_us_max)
        return _read_apart(self._client, order, _decode_observations)


_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_page = msgspec.msgpack.Decoder(Page | Failed | Done).decode
_decode_observations = msgspec.msgpack.Decoder(ObservationPage | WindowEnd | Failed | Done).decode


def _read_apart(client: LangfuseClient, read: ReadTraces | ReadObservations, decode: Any) -> Iterator[Any]:
    """Start a child and yield what it reads. Raises the child's error, or Unavailable if it ends without a word."""
    child = subprocess.Popen(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __spec__.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            _write(child.stdin, Order(client.base_url, *client.keys, read))
        for frame in _frames(child.stdout):
            said = decode(frame)
            if isinstance(said, Failed):
                raise getattr(errors, said.kind)(said.message)
            if isinstance(said, Done):
                client.requests += said.requests
                return
            yield said
        raise Unavailable(
            f"the process that reads {client.base_url} ended early (status {child.wait()}). Nothing is lost: run again."
        )
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()


def _frames(stream: IO[bytes]) -> Iterator[bytes]:
    while len(length := stream.read(_LENGTH.size)) == _LENGTH.size:
        yield stream.read(_LENGTH.unpack(length)[0])


def _write(stream: IO[bytes], what: Any) -> None:
    frame = msgspec.msgpack.encode(what)
    stream.write(_LENGTH.pack(len(frame)) + frame)
    stream.flush()


def main() -> None:
    """The child: take an order, read, and say what was read."""
    # Who presses Ctrl-C means the parent, which then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    frame = next(_frames(sys.stdin.buffer), None)
    if frame is None:
        return
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    order = _decode_order(frame)
    client = LangfuseClient(order.base_url, order.public_key, order.secret_key, SystemClock())
    try:
        for page in _pages(client, order.read):
            _write(sys.stdout.buffer, page)
        _write(sys.stdout.buffer, Done(client.requests))
    except TallymarkError as error:
        _write(sys.stdout.buffer, Failed(type(error).__name__, str(error)))


def _end_with_parent() -> None:
    """End this process when the parent does, even while a server keeps it waiting.

    The parent holds the other end of the standard input and writes nothing more there, so its end is all that can come.
    """
    # Not through the buffered reader: its lock must be free when this process ends by itself.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _pages(client: LangfuseClient, read: ReadTraces | ReadObservations) -> Iterator[Any]:
    if isinstance(read, ReadTraces):
        source = TracesSource(client, read.window_us_max)
        return source.read(read.from_us, read.to_us, read.only_pending, read.horizon_us)
    return ObservationsSource(client, ahead=ReadAhead).read(Windows(read.from_us, read.to_us, read.width_us_max))


if __name__ == "__main__":
    show_discreetly()
    try:
        main()
    except BrokenPipeError:
        # The parent is gone. What is left to say goes nowhere, or Python would complain of it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
