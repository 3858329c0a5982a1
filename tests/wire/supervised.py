"""What stands around the service: a supervisor that keeps its socket, an endpoint that is pushed to."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.api.serving import COMMAND, ROOT, Server, until


class Supervised(Server):
    """A server whose listening socket outlives it, as systemd's socket activation hands it over."""

    def __init__(self, database_url: str, folder: Path, **settings: str) -> None:
        super().__init__(database_url, folder, **settings)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.listen(100)

    def start(self) -> Server:
        def hand_over() -> None:
            os.dup2(self._socket.fileno(), 3)
            os.set_inheritable(3, True)

        arguments = " ".join([*COMMAND, "serve", "--port", str(self.port)])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    f"LISTEN_PID=$$ LISTEN_FDS=1 exec {arguments} --database-url {self.database_url}",
                ],
                cwd=ROOT,
                env=self._env,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=hand_over,
                close_fds=False,
            )
        until(lambda: self.http.get("/readyz").status_code == 200)
        return self

    def close(self) -> None:
        super().close()
        self._socket.close()


class Endpoint:
    """An endpoint of a host's. `answers(n)` says the status of the n-th request, or how long to be silent."""

    def __init__(self, take: Callable[[bytes, str | None], object], answers: Callable[[int], int]) -> None:
        self.count = 0
        self.taken: list[bytes] = []
        self.keys: list[str | None] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                endpoint.count += 1
                status = answers(endpoint.count)
                if status == 200:
                    take(body, self.headers.get("x-connector-signature"))
                    endpoint.taken.append(body)
                    endpoint.keys.append(self.headers.get("idempotency-key"))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Warnings(logging.Handler):
    """Every record of a client's logger at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.name}: {record.getMessage()}")


def settled(count: Callable[[], int], quiet_s: float = 0.6) -> None:
    """Wait until a number has not moved for a while."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        time.sleep(0.05)
        if count() != last:
            last, since = count(), time.monotonic()
