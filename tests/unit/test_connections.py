"""What Stripe's SDK asks over: proxies of the environment, redirections, and connections that break."""

import base64
import http.server
import threading

import pytest
import stripe

from tallymark.errors import ConfigError
from tallymark.meter.connections import Connections


class Server(http.server.BaseHTTPRequestHandler):
    """Answers all with where it was asked, and by which keys for a proxy."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self):
        """Answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        said = f"{self.path} {self.headers.get('proxy-authorization', '-')} ".encode() + body
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """A server on loopback, and its address."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.status, made.address = 200, f"127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    """Each test says which proxies there are."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def post(url, body="a=1"):
    """Post to an address by connections that were made for it."""
    connections = Connections(5, url)
    try:
        return connections.request("post", url, {"Content-Type": "text/plain"}, body)
    finally:
        connections.close()


def test_an_answer_is_its_body_status_and_headers_whatever_case_they_are_asked_in(server):
    body, status, headers = post(f"http://{server.address}/v1/meter")
    assert (body, status) == (b"/v1/meter - a=1", 200)
    assert headers["location"] == headers["LOCATION"] == "/elsewhere"


def test_a_redirection_is_an_answer_and_is_not_followed(server):
    server.status = 307
    assert post(f"http://{server.address}/v1/meter")[:2] == (b"/v1/meter - a=1", 307)


@pytest.mark.parametrize("form", ["http://tally:a%20word@{}", "tally:a%20word@{}"])
def test_a_proxy_of_the_environment_is_asked_with_its_keys(server, monkeypatch, form):
    monkeypatch.setenv("http_proxy", form.format(server.address))
    body, _, _ = post("http://stripe.invalid/v1/meter")
    keys = base64.b64encode(b"tally:a word").decode()
    assert body == f"http://stripe.invalid/v1/meter Basic {keys} a=1".encode()


def test_an_address_that_the_environment_excepts_is_asked_directly(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert post(f"http://{server.address}/v1/meter")[1] == 200


def test_a_proxy_that_speaks_no_http_is_refused_without_its_password(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://tally:secret@127.0.0.1:1")
    with pytest.raises(ConfigError, match="speaks socks5") as refused:
        Connections(5, "https://api.stripe.com")
    assert "secret" not in str(refused.value)


def test_a_connection_that_is_refused_is_an_error_of_the_sdk():
    with pytest.raises(stripe.APIConnectionError) as failed:
        post("http://127.0.0.1:1/v1/meter")
    assert type(failed.value.__cause__).__name__ == "NewConnectionError"
