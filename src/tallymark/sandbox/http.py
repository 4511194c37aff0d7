"""A small loopback HTTP/1.1 server around a sandbox service: one thread a connection, one write a response.

Made because `http.server` spends most of a request on header objects and log lines. It knows just what HTTP clients
of an API send: keep-alive, bodies with a content-length, gzip. Chunked request bodies are refused with 411.
"""

from __future__ import annotations

import gzip
import socket
import socketserver
import struct
import threading
import time
import zlib
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from io import BufferedIOBase
from types import TracebackType
from urllib.parse import parse_qsl

from .faults import Answer, Ending, Faults, answer
from .wire import Request, Response, Service

_HOST = "127.0.0.1"
_LINE_BYTES_MAX = 65_536
_HEADERS_MAX = 200
# Linger on with zero seconds makes close() send a reset instead of an orderly end.
_LINGER_ZERO = struct.pack("ii", 1, 0)
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class BadRequestError(Exception):
    """What came is not a request this server reads; `status` says why."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status to answer with."""
        super().__init__(message)
        self.status = status


class Server:
    """A running server on 127.0.0.1; a context manager that closes it."""

    def __init__(self, service: Service, port: int, faults: Faults | None) -> None:
        """Bind and start answering. Raises OSError if the port is taken."""
        self._listener = _Listener(service, port, faults)
        self.port: int = self._listener.server_address[1]
        self.url = f"http://{_HOST}:{self.port}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.02,), name=f"sandbox-{self.port}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut every connection. May be called twice."""
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.cut_connections()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(service: Service, *, port: int = 0, faults: Faults | None = None) -> Server:
    """Serve a service over HTTP on 127.0.0.1, on a free port if `port` is 0, through `faults` if given.

    `Request.path` reaches the service as it was sent, still percent-encoded. Raises OSError if the port is taken.
    """
    return Server(service, port, faults)


class _Listener(socketserver.ThreadingTCPServer):
    """Accepts connections, and remembers the open ones so that closing can cut them."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, service: Service, port: int, faults: Faults | None) -> None:
        self.service, self.faults = service, faults
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((_HOST, port), _Connection)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def ended(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def cut_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                _shut(connection)


class _Connection(socketserver.StreamRequestHandler):
    """Answers the requests of one connection, one after another."""

    rbufsize = 65_536
    disable_nagle_algorithm = True
    server: _Listener

    def handle(self) -> None:
        self.server.opened(self.connection)
        try:
            self._answer_all()
        except ConnectionError:
            pass  # the client went away, as clients do
        finally:
            self.server.ended(self.connection)

    def _answer_all(self) -> None:
        try:
            while (request := read_request(self.rfile)) is not None:
                if not self._answer(request):
                    return
        except BadRequestError as problem:
            response = Response(problem.status, str(problem).encode(), {"connection": "close"})
            self.connection.sendall(encode(response))

    def _answer(self, request: Request) -> bool:
        """Answer one request; False when the connection must end."""
        result = answer(self.server.service, request, self.server.faults)
        if result.ending is Ending.SENT and result.response is not None:
            self.connection.sendall(encode(result.response, body_wanted=request.method != "HEAD"))
            return request.headers.get("connection", "").lower() != "close"
        self._break(result)
        return False

    def _break(self, result: Answer) -> None:
        if result.ending is Ending.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            # Closed here, because socketserver would first end the connection in order.
            self.connection.close()
        elif result.ending is Ending.TRUNCATED and result.response is not None:
            self.connection.sendall(truncated(encode(result.response)))
        else:
            self._hang()

    def _hang(self) -> None:
        """Say nothing until the client gives up, the server closes, or the hang is over."""
        self.connection.settimeout(self.server.faults.hang_seconds if self.server.faults else None)
        try:
            self.connection.recv(1)
        except TimeoutError:
            return


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


def read_request(stream: BufferedIOBase) -> Request | None:
    """Read one request; None at the end of the connection. Raises BadRequestError for what is not HTTP/1.x."""
    line = stream.readline(_LINE_BYTES_MAX)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, "not an HTTP/1.1 request line")
    path, _, query = parts[1].partition("?")
    headers = _read_headers(stream)
    pairs = tuple(parse_qsl(query, keep_blank_values=True)) if query else ()
    return Request(parts[0], path, pairs, headers, _read_body(stream, headers))


def _read_headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_HEADERS_MAX):
        line = stream.readline(_LINE_BYTES_MAX)
        if line in (b"\r\n", b"\n", b""):
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    raise BadRequestError(431, f"more than {_HEADERS_MAX} headers")


def _read_body(stream: BufferedIOBase, headers: dict[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "chunked bodies are not supported: send a content-length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequestError(400, f"content-length {length!r} is not a number")
    body = stream.read(int(length)) if length != "0" else b""
    if len(body) < int(length):
        raise BadRequestError(400, "the body is shorter than its content-length")
    return _gunzipped(body) if headers.get("content-encoding") == "gzip" else body


def _gunzipped(body: bytes) -> bytes:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        raise BadRequestError(400, "the body is not gzip, as its content-encoding says") from None


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def encode(response: Response, *, body_wanted: bool = True) -> bytes:
    """The bytes of one response, with its content-length."""
    lines = [_STATUS_LINES.get(response.status) or f"HTTP/1.1 {response.status} Unknown\r\n"]
    lines.extend(f"{name}: {value}\r\n" for name, value in response.headers.items())
    if "date" not in response.headers:
        lines.append(f"date: {_http_date(int(time.time()))}\r\n")
    lines.append(f"content-length: {len(response.body)}\r\n\r\n")
    head = "".join(lines).encode("latin-1")
    return head + response.body if body_wanted else head


def truncated(encoded: bytes) -> bytes:
    """The first part of an encoded response: its whole head, with its content-length, and half of its body."""
    head_bytes = encoded.index(b"\r\n\r\n") + 4
    return encoded[: head_bytes + (len(encoded) - head_bytes) // 2]
