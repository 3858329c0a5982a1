"""A real server process for tests, and what tests post to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from httpx_sse import EventSource, ServerSentEvent, connect_sse
from httpx_sse._decoders import SSEDecoder

ROOT = Path(__file__).parents[2]
SECRET = "s3cret of a vendor"  # of the shared servers: env:NUDGELEDGER_VENDOR_SECRET
COMMAND = [sys.executable, "-m", "api.cli"]
_numbers = itertools.count(1)


class Server:
    """`nudgeledger serve` as a subprocess on a free port."""

    def __init__(self, database_url: str, folder: Path, command: str = "serve", **settings: str) -> None:
        self.database_url, self._command = database_url, command
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        self._env = environment(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, self._command, "--port", str(self.port), "--database-url", self.database_url],
                cwd=ROOT,
                env=self._env,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log.read_text()}")
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/readyz").status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the server does not answer: {self.log.read_text()}")

    def kill(self) -> None:
        """As a power cut would: no signal handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        self.http.close()
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(timeout=20)

    # --- what tests do with it -------------------------------------------------------------------

    def put(self, config: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.put(f"/v1/products/{config['product_id']}/config", content=yaml.safe_dump(config))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def post(self, product: str, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.http.post(f"/v1/products/{product}/events", json={"events": list(events), **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def session(self, product: str, session_id: str, **query: Any) -> dict[str, Any]:
        return self.get(f"/v1/products/{product}/sessions/{session_id}", **query)

    def events(self, product: str, session_id: str) -> list[dict[str, Any]]:
        found = self.get(f"/v1/products/{product}/sessions/{session_id}/events", limit=1000)
        listed: list[dict[str, Any]] = found["events"]
        return listed

    @contextlib.contextmanager
    def stream(
        self, path: str, *, last: str | None = None, wait: bool = True, **query: Any
    ) -> Iterator[Frames]:
        headers = {"last-event-id": last.encode("latin-1")} if last is not None else {}
        before = self.streams()
        with (
            httpx.Client(base_url=self.http.base_url, timeout=6) as client,
            connect_sse(client, "GET", path, params=query, headers=headers) as source,
        ):
            assert source.response.status_code == 200
            if wait:
                until(lambda: self.streams() > before)
            yield Frames(source)
        with contextlib.suppress(httpx.TransportError):
            until(lambda: self.streams() <= before)

    def native(self, product: str, user: str, *, tab: str = "tab-1", **more: Any) -> Any:
        return self.stream(f"/v1/products/{product}/nudges/stream", user_id=user, tab_id=tab, **more)

    def legacy(self, product: str, user: str, **more: Any) -> Any:
        return self.stream(f"/p/{product}/proactive/stream/{user}", **more)

    def streams(self) -> int:
        """How many nudge streams are open."""
        text = self.http.get("/metrics").text
        return int(
            float(
                next(line for line in text.splitlines() if line.startswith("nudgeledger_streams")).split()[1]
            )
        )


class Frames:
    """The events of one stream, as httpx-sse reads them."""

    def __init__(self, source: EventSource) -> None:
        self.response = source.response
        self._lines = source.response.iter_lines()
        self._decoder = SSEDecoder()

    def next(self, within_s: float = 5.0) -> ServerSentEvent:
        """The next event, as `iter_sse` would give it, which knows no end where keep-alives come."""
        deadline = time.monotonic() + within_s
        for line in self._lines:
            event = self._decoder.decode(line.rstrip("\n"))
            if event is not None:
                return event
            assert time.monotonic() < deadline, "no event came"
        raise StopIteration

    def quiet(self) -> None:
        """A keep-alive comes before any event does: nothing waited."""
        for line in self._lines:
            event = self._decoder.decode(line.rstrip("\n"))
            assert event is None, event
            if line.startswith(":"):
                return


def environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUDGELEDGER_")}
    return kept | {f"NUDGELEDGER_{name.upper()}": value for name, value in settings.items()}


def command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`nudgeledger …`, run to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def until(said: Any, within_s: float = 10.0) -> Any:
    """Wait until `said()` is true; its value."""
    deadline = time.monotonic() + within_s
    while not (value := said()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def product_id() -> str:
    """A name that no other test uses."""
    return f"p{next(_numbers)}-{os.getpid()}"


def config(product: str, **changes: Any) -> dict[str, Any]:
    """Three saves in two minutes are answered with an offer."""
    return {
        "schema": 1,
        "product_id": product,
        "session": {"interaction_timeout_s": 60, "cooldown_period_s": 120},
        "triggers": [trigger()],
        "tours": [{"id": "bulk-tour", "user_tour_id": "flow_1", "page_contains": "/projects"}],
    } | changes


def trigger(name: str = "saves", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": "Saves one by one",
        "body": "Try bulk edit?",
        "how_to": "1. Open the menu.",
        "tours": ["bulk-tour"],
        "options": [{"id": "yes", "label": "Yes"}],
        "cooldown_s": 1,
        "criteria": {
            "type": "count",
            "where": {"title_contains": "save"},
            "at_least": 3,
            "within_s": 120,
        },
    } | changes


def action(
    session: str, title: str = "Save changes", user: str | None = "u_1", **changes: Any
) -> dict[str, Any]:
    return {
        "event_id": f"e-{next(_numbers)}-{os.getpid()}",
        "type": "action",
        "session_id": session,
        **({"user_id": user} if user is not None else {}),
        "data": {"type": "click", "title": title, "raw_url": "https://app.example/projects"},
    } | changes


def fact(kind: str, session: str, user: str | None = "u_1", **data: Any) -> dict[str, Any]:
    return action(session, user=user, type=kind, data=data)


def saves(session: str, user: str | None = "u_1", count: int = 3) -> list[dict[str, Any]]:
    return [action(session, user=user) for _ in range(count)]
