"""A vendor for tests: a small real HTTP server that answers as it is told, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # seconds

    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[BaseHTTPRequestHandler], None]


def answers(status: int, body: Any = None, **headers: str) -> Behaviour:
    content = b"" if body is None else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def slowly(seconds: float, then: Behaviour | None = None) -> Behaviour:
    def wait(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        (then or answers(200))(handler)

    return wait


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """Takes the request, begins an answer and closes the connection in the middle of its first line."""
    handler.wfile.write(b"HTTP/1.1 2")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A 200 with a body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65_536)


class Vendor:
    """Answers the n-th request with the n-th behaviour, and all further ones with the last."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.requests: list[Request] = []
        self.behaviours = list(behaviours or (answers(200),))
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with vendor._lock:
                    vendor.at_once += 1
                    vendor.most_at_once = max(vendor.most_at_once, vendor.at_once)
                    number = len(vendor.requests)
                    vendor.requests.append(Request(self.path, headers, body, time.monotonic()))
                try:
                    with contextlib.suppress(OSError):
                        vendor.behaviours[min(number, len(vendor.behaviours) - 1)](self)
                finally:
                    with vendor._lock:
                        vendor.at_once -= 1

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def vendor(*behaviours: Behaviour) -> Iterator[Vendor]:
    found = Vendor(*behaviours)
    try:
        yield found
    finally:
        found.close()
