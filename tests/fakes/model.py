"""An OpenAI-compatible endpoint for tests: real HTTP, in the form that the public API documents.

No vendor's server can be installed here, so what it answers is composed from `POST /chat/completions` as
documented: `choices[0].message.content`, `finish_reason`, `usage.total_tokens`, `model`, errors by status.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple


class Raw(NamedTuple):
    """An answer, byte for byte."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    pause_s: float = 0.0  # before anything is sent
    drip_s: float = 0.0  # between two bytes


Answer = str | Raw | Callable[[dict[str, Any]], "str | Raw"]


def completion(text: str, tokens: int | None = 42, **more: Any) -> bytes:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "small-1-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if tokens is not None:
        body["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": tokens}
    return json.dumps(body | more).encode()


class FakeModel:
    """Answers in order; the last answer again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = ["All is well."]
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()  # what pauses for ever goes on when this is set
        self.url = ""

    @property
    def data(self) -> dict[str, Any]:
        """The data of the newest question."""
        found: dict[str, Any] = json.loads(self.asked[-1]["messages"][1]["content"])
        return found

    def config(self, **more: Any) -> dict[str, Any]:
        return {"url": self.url, "name": "small-1", **more}


@contextmanager
def serving() -> Iterator[FakeModel]:
    fake = FakeModel()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/chat/completions", self.path
            fake.asked.append(body)
            fake.headers.append({k.lower(): v for k, v in self.headers.items()})
            answer = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
            if callable(answer):
                answer = answer(body)
            raw = Raw(completion(answer)) if isinstance(answer, str) else answer
            with suppress(OSError):  # the caller did not wait
                self._send(raw)
            self.close_connection = True

        def _send(self, raw: Raw) -> None:
            if raw.pause_s:
                fake.released.wait(raw.pause_s)
            self.send_response(raw.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw.body)))
            self.send_header("connection", "close")
            for name, value in raw.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if not raw.drip_s:
                self.wfile.write(raw.body)
                return
            for byte in raw.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if fake.released.wait(raw.drip_s):
                    return

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
