"""The sandbox's HTTP server: what reaches a service, what reaches the client, and how each fault looks on a socket."""

import contextlib
import gzip
import http.client
import io
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.http import BadRequestError, read_request, serve
from tallymark.sandbox.wire import Response


class Echo:
    """Keeps every request and answers with its body."""

    def __init__(self):
        self.seen = []

    def handle(self, request):
        self.seen.append(request)
        return Response(200, request.body, {"content-type": "text/plain"})


@pytest.fixture
def echo():
    return Echo()


@contextlib.contextmanager
def connected(service, faults=None, timeout_seconds=10):
    with serve(service, faults=faults) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout_seconds)
        try:
            yield connection
        finally:
            connection.close()


def exchange(connection, method="POST", path="/", body=b"hello", headers=None):
    connection.request(method, path, body, headers or {})
    return connection.getresponse().read()


def raw(server, text):
    """Send bytes as they are; read until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as stream:
            return stream.read()


def test_a_request_reaches_the_service_whole(echo):
    """Path as it was sent, query in order with repetition and blanks, header names in lower case."""
    with connected(echo) as connection:
        exchange(connection, "PUT", "/a%2Fb/%C3%A9?tag=x&tag=y+z&empty=&q=%26", b"body", {"X-Mixed-Case": "Kept"})
    [request] = echo.seen
    assert (request.method, request.path, request.body) == ("PUT", "/a%2Fb/%C3%A9", b"body")
    assert request.query == (("tag", "x"), ("tag", "y z"), ("empty", ""), ("q", "&"))
    assert request.headers["x-mixed-case"] == "Kept"


def test_a_connection_is_kept_alive(echo):
    with connected(echo) as connection:
        exchange(connection)
        first_socket = connection.sock
        exchange(connection)
        assert first_socket is not None
        assert connection.sock is first_socket
    assert len(echo.seen) == 2


def test_connection_close_is_honoured(echo):
    with serve(echo) as server:
        answer = raw(server, b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [request.path for request in echo.seen] == ["/a"]


def test_a_gzipped_body_arrives_unpacked(echo):
    with connected(echo) as connection:
        exchange(connection, body=gzip.compress(b"plain" * 100), headers={"Content-Encoding": "gzip"})
    assert echo.seen[0].body == b"plain" * 100


def test_large_bodies_pass_both_ways(echo):
    body = b"0123456789" * 500_000
    with connected(echo) as connection:
        assert exchange(connection, body=body) == body


def test_head_gets_no_body(echo):
    with connected(echo) as connection:
        connection.request("HEAD", "/")
        assert connection.getresponse().read() == b""
        assert exchange(connection) == b"hello"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort", 400),
        (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 300 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused_and_not_processed(echo, text, status):
    with serve(echo) as server:
        assert raw(server, text).startswith(b"HTTP/1.1 %d " % status)
    assert echo.seen == []


def test_the_reader_works_on_any_stream():
    stream = io.BytesIO(b"GET /x HTTP/1.1\r\n\r\n")
    assert read_request(stream).path == "/x"
    assert read_request(stream) is None
    with pytest.raises(BadRequestError):
        read_request(io.BytesIO(b"GET /x\r\n\r\n"))


def test_it_listens_on_loopback_only(echo):
    with serve(echo) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server._listener.socket.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_an_error(echo):
    with serve(echo) as server, pytest.raises(OSError, match="in use"):
        serve(echo, port=server.port)


def test_closing_cuts_open_connections_and_frees_the_port(echo):
    server = serve(echo)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        server.close()
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass
    server.close()
    serve(echo, port=server.port).close()


def test_many_clients_at_once_each_get_their_own_answer(echo):
    with serve(echo) as server:

        def ask(number):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            with contextlib.closing(connection):
                return [exchange(connection, body=b"%d-%d" % (number, turn)) for turn in range(20)]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(16)))
    assert answers == [[b"%d-%d" % (number, turn) for turn in range(20)] for number in range(16)]


@pytest.mark.parametrize(("fault", "processed"), [(Fault.RESET_BEFORE, 0), (Fault.RESET_AFTER, 1)])
def test_a_reset_is_a_reset_on_the_socket(echo, fault, processed):
    with connected(echo, Faults(1, {fault: 1})) as connection, pytest.raises(ConnectionResetError) as caught:
        exchange(connection)
    assert not isinstance(caught.value, http.client.RemoteDisconnected)
    assert len(echo.seen) == processed


def test_a_truncated_answer_is_shorter_than_it_says(echo):
    with connected(echo, Faults(1, {Fault.TRUNCATED: 1})) as connection:
        with pytest.raises(http.client.IncompleteRead) as caught:
            exchange(connection, body=b"0123456789")
        assert (caught.value.partial, caught.value.expected) == (b"01234", 5)
    assert len(echo.seen) == 1


@pytest.mark.parametrize(("fault", "processed"), [(Fault.HANG_BEFORE, 0), (Fault.HANG_AFTER, 1)])
def test_a_hang_lasts_until_the_client_gives_up(echo, fault, processed):
    with connected(echo, Faults(1, {fault: 1}), timeout_seconds=0.1) as connection, pytest.raises(TimeoutError):
        exchange(connection)
    assert len(echo.seen) == processed


def test_a_hang_ends_by_itself_for_a_client_without_patience_limit(echo):
    faults = Faults(1, {Fault.HANG_AFTER: 1}, hang_seconds=0.05)
    with connected(echo, faults) as connection, pytest.raises(http.client.RemoteDisconnected):
        exchange(connection)


def test_a_gateway_answers_html_and_the_connection_lives_on(echo):
    with connected(echo, Faults(1, {Fault.HTML: 1}, limit=1)) as connection:
        connection.request("POST", "/", b"hello")
        response = connection.getresponse()
        assert (response.status, response.headers["content-type"]) == (502, "text/html")
        assert b"<html>" in response.read()
        assert exchange(connection) == b"hello"
    assert len(echo.seen) == 1


def test_a_virtual_clock_moves_only_when_told():
    clock = VirtualClock(1_000_000)
    clock.advance(1.5)
    clock.sleep(2)
    assert clock.now_us() == 4_500_000
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)
