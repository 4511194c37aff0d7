"""A ClickHouse for tests: the engine of chDB behind ClickHouse's HTTP interface on loopback, in a process of its own.

As much of the interface as clickhouse-connect uses: a query in the body or the address, parameters, a format; errors
with their code. `python tests/clickhouse_server.py` prints its port and serves until its standard input ends.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

USER, PASSWORD, DATABASE = "reader", "a-password-nobody-may-see", "langfuse"


class Handler(BaseHTTPRequestHandler):
    """Answers queries, one at a time: chDB has one session a process."""

    session = None
    lock = threading.Lock()
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer a query in the address."""
        self._answer(b"")

    def do_POST(self):
        """Answer a query in the body."""
        self._answer(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _answer(self, body):
        asked = dict(parse_qsl(urlsplit(self.path).query))
        if asked.get("password", self.headers.get("x-clickhouse-key", "")) != PASSWORD and not self._is_basic():
            return self._send(
                403, b"Code: 516. DB::Exception: Authentication failed", {"X-ClickHouse-Exception-Code": "516"}
            )
        query = "\n".join(each for each in (asked.get("query", ""), body.decode()) if each)
        values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
        form = self.headers.get("x-clickhouse-format") or asked.get("default_format") or "TabSeparated"
        try:
            with self.lock:
                found = self.session.query(query, form, params=values).bytes()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is an answer
            code = re.search(r"Code: (\d+)", str(error))
            headers = {"X-ClickHouse-Exception-Code": code[1] if code else "1"}
            return self._send(500, str(error).encode(), headers)
        return self._send(200, found, {"X-ClickHouse-Format": form, "X-ClickHouse-Timezone": "UTC"})

    def _is_basic(self):
        kind, _, text = self.headers.get("authorization", "").partition(" ")
        return kind == "Basic" and b64decode(text).decode() == f"{USER}:{PASSWORD}"

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def main():
    """Serve until the standard input ends."""
    from chdb import session

    Handler.session = session.Session()
    Handler.session.query(f"create database {DATABASE}")
    Handler.session.query(f"use {DATABASE}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    # The engine's threads would not end.
    os._exit(0)


class ClickHouse:
    """The server as a test sees it."""

    def __init__(self, port):
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"
        self._place = f"http://127.0.0.1:{port}/?password={PASSWORD}"

    def run(self, query, body=b""):
        """Run a statement, such as one that makes or fills a table; the text of its answer."""
        data = query.encode() + (b"\n" + body if body else b"")
        with urllib.request.urlopen(urllib.request.Request(self._place, data=data)) as answer:
            return answer.read().decode()

    def insert(self, table, rows):
        """Insert rows, values by column."""
        if rows:
            lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
            self.run(f"insert into {table} format JSONEachRow", lines.encode())


@contextlib.contextmanager
def running():
    """A server, while the context lasts."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield ClickHouse(int(child.stdout.readline()))
    finally:
        child.stdin.close()
        child.wait(timeout=60)
        child.stdout.close()


if __name__ == "__main__":
    main()
