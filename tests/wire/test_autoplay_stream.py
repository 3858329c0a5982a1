"""`GET /stream/{product_id}`, read by the real clients of autoplay-sdk 0.13.0, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from autoplay_sdk import ActionsPayload, AsyncConnectorClient, ConnectorClient

from tests.api.serving import Server, action, config, fact, product_id, trigger, until
from tests.wire.supervised import Supervised, Warnings

Read = Callable[[Server, str], "Reading"]


class Reading:
    """One sync and one async client on a product."""

    def __init__(self, server: Server, product: str) -> None:
        url = f"http://127.0.0.1:{server.port}/stream/{product}"
        self.sync: list[ActionsPayload] = []
        self.coroutine: list[ActionsPayload] = []
        self.connects = [0, 0]
        self._client = ConnectorClient(url=url, initial_backoff_s=0.3, on_connect=lambda: self._connected(0))
        self._client.on_actions(self.sync.append)
        self._threads = [self._client.run_in_background(), threading.Thread(target=self._run, args=(url,))]
        self._threads[1].start()
        self.loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]
        until(lambda: min(self.connects) == 1)

    def _connected(self, which: int) -> None:
        self.connects[which] += 1

    def _run(self, url: str) -> None:
        async def run() -> None:
            async def take(payload: ActionsPayload) -> None:
                self.coroutine.append(payload)

            client = AsyncConnectorClient(
                url=url, initial_backoff_s=0.3, on_connect=lambda: self._connected(1)
            )
            client.on_actions(take)
            self.loop = asyncio.get_running_loop()
            self._task = client.run_in_background()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

        asyncio.run(run())

    @property
    def both(self) -> tuple[list[ActionsPayload], list[ActionsPayload]]:
        return self.sync, self.coroutine

    def close(self) -> None:
        self._client.stop()
        if self._threads[1].is_alive():
            self.loop.call_soon_threadsafe(self._task.cancel)
            self._threads[1].join(5)


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    """What the published client and its stream reader complain of."""
    handler = Warnings()
    loggers = [logging.getLogger(name) for name in ("autoplay_sdk", "httpx_sse")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture
def reading() -> Iterator[Read]:
    """Starts clients; they end after the server (a sync client reads on until its stream ends)."""
    started: list[Reading] = []

    def start(server: Server, product: str) -> Reading:
        made = Reading(server, product)
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()


def numbers(payloads: list[ActionsPayload]) -> list[tuple[str | None, int]]:
    return [(a.session_id, a.index) for payload in payloads for a in payload.actions]


def test_real_clients_read_every_field_as_recorded_and_warn_of_nothing(
    server: Server, reading: Read, warnings: Warnings
) -> None:
    first, second = product_id(), product_id()
    for product in (first, second):
        server.put(config(product, triggers=[]))
    here, there = reading(server, first), reading(server, second)
    server.post(
        first,
        fact("user_identified", "s1", "u_1", email="ana@example.test"),
        action("s1", "Projects", occurred_at="2026-05-19T11:07:19.5Z"),
        action(
            "s1",
            "Save",
            occurred_at="2026-05-19T11:07:21Z",
            data={
                "type": "click",
                "title": "Save",
                "description": "User clicked Save on Projects",
                "raw_url": "https://app.example/projects/102/edit?x=1#top",
            },
        ),
    )
    linked = {"product_id": first, "session_id": "s1", "conversation_id": "c-7"}
    assert server.http.post("/sessions/link", json=linked).status_code == 200
    time.sleep(1.2)  # keep-alives come every half second
    server.post(first, action("s1", "Third"), action("s2", "Unknown", user=None))
    server.post(second, action("s1", "Elsewhere"))
    for got in here.both:
        until(lambda got=got: len(got) == 3)
        batch, later, anonymous = got
        assert (batch.product_id, batch.session_id, batch.user_id) == (first, "s1", "u_1")
        assert (batch.email, batch.count, batch.conversation_id) == ("ana@example.test", 2, None)
        assert batch.forwarded_at == pytest.approx(time.time(), abs=60)
        page, save = batch.actions
        assert (page.index, page.type, page.title, page.description) == (0, "click", "Projects", "Projects")
        assert (page.timestamp_start, page.timestamp_end) == (1779188839.5, 1779188841.0)
        assert (save.index, save.title, save.description) == (1, "Save", "User clicked Save on Projects")
        assert (save.timestamp_start, save.timestamp_end) == (1779188841.0, 1779188841.0)
        assert save.raw_url == "https://app.example/projects/102/edit?x=1#top"
        assert save.canonical_url == "https://app.example/projects/:id/edit"
        assert (save.session_id, save.user_id, save.email) == ("s1", "u_1", "ana@example.test")
        assert save.to_text() == "[1] click: User clicked Save on Projects — " + save.canonical_url
        assert (later.actions[0].index, later.conversation_id) == (2, "c-7")
        assert later.actions[0].conversation_id == "c-7"
        assert (anonymous.session_id, anonymous.user_id, anonymous.email) == ("s2", None, None)
    for got in there.both:
        until(lambda got=got: len(got) == 1)
        assert got[0].actions[0].title == "Elsewhere"
    here.close()
    there.close()
    server.post(first, action("s1", "Bye"))  # a sync client looks whether to stop when something comes
    server.post(second, action("s1", "Bye"))
    assert warnings.said == []


class Load:
    """Posts single actions one after the other, each until it is answered."""

    def __init__(self, server: Server, product: str, pause_s: float = 0.01) -> None:
        self._server, self._product, self._pause = server, product, pause_s
        self.answered = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._server.http.base_url, timeout=30) as client:
            while not self._stop.is_set():
                event = action(f"s{self.answered % 3}")
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        answer = client.post(f"/v1/products/{self._product}/events", json={"events": [event]})
                        if answer.status_code == 200:
                            break
                    time.sleep(0.02)
                self.answered += 1
                time.sleep(self._pause)


def test_a_restart_makes_no_client_warn_and_loses_no_action(
    sqlite_url: str, tmp_path: Path, reading: Read, warnings: Warnings
) -> None:
    """Its supervisor keeps the socket; actions are posted all the while."""
    server = Supervised(sqlite_url, tmp_path, keep_alive_s="0.3")
    server.start()
    try:
        server.put(config("acme", triggers=[]))
        clients = reading(server, "acme")
        with Load(server, "acme") as load:
            until(lambda: load.answered > 20)
            server.stop()
            server.start()
            until(lambda: min(clients.connects) == 2)
            until(lambda so_far=load.answered: load.answered > so_far + 20)
        for got in clients.both:
            until(lambda got=got: len(set(numbers(got))) == load.answered)
            assert len(numbers(got)) == load.answered, "a clean restart sends nothing twice"
        assert warnings.said == []
    finally:
        server.stop()
        server.close()


def test_a_restart_in_place_makes_no_client_warn(
    sqlite_url: str, tmp_path: Path, reading: Read, warnings: Warnings
) -> None:
    """SIGUSR2: no supervisor is needed, and the process stays the same one. Twice, since the second is
    started by the first."""
    server = Server(sqlite_url, tmp_path)
    server.start()
    try:
        server.put(config("acme", triggers=[]))
        clients = reading(server, "acme")
        with Load(server, "acme") as load:
            for times in (2, 3):
                until(lambda so_far=load.answered: load.answered > so_far + 20)
                os.kill(server.pid, signal.SIGUSR2)
                until(lambda n=times: min(clients.connects) == n, 20)
        for got in clients.both:
            until(lambda got=got: len(set(numbers(got))) == load.answered)
        assert warnings.said == []
        server.stop()
    finally:
        server.close()


def test_a_crash_under_load_loses_nothing_for_clients_that_are_alike(
    postgres_url: str, tmp_path: Path, reading: Read, warnings: Warnings
) -> None:
    """Three sync and three async clients: one address, one token. Killed twice; the second time before the
    server was up for a minute, and while timers of a first trigger come due at its start. They may
    report the crash, since the connection broke; what was sent just before may come twice."""
    server = Supervised(postgres_url, tmp_path, keep_alive_s="0.3")
    server.start()
    try:
        timed = {"interaction_timeout_s": 1, "cooldown_period_s": 1}
        server.put(config("acme", session=timed, triggers=[trigger()]))
        clients = [reading(server, "acme") for _ in "123"]
        with Load(server, "acme", 0.03) as load:
            for times in (2, 3):
                until(lambda so_far=load.answered: load.answered > so_far + 20)
                server.kill()
                time.sleep(1)  # timers come due, and are made good before anybody listens
                server.start()
                until(lambda n=times: all(min(client.connects) >= n for client in clients))
        wanted = {(f"s{n % 3}", n // 3) for n in range(load.answered)}
        for got in (got for client in clients for got in client.both):
            until(lambda got=got: set(numbers(got)) >= wanted)
        assert all("connection lost" in said for said in warnings.said)
    finally:
        server.stop()
        server.close()


def test_a_connection_that_broke_goes_on_where_it_was_left(
    server: Server, reading: Read, warnings: Warnings
) -> None:
    """Nothing else than its address and its credentials say that it is the same client."""
    product = product_id()
    server.put(config(product, triggers=[]))
    path = f"/stream/{product}"
    with server.stream(path, wait=False) as frames:
        until(lambda: listeners(server) >= 1)
        server.post(product, action("s", "One"))
        assert "One" in frames.next().data
    server.post(product, action("s", "Two"))
    with server.stream(path, wait=False) as frames:
        assert "Two" in frames.next().data
        server.post(product, action("s", "Three"))
        assert "Three" in frames.next().data


def listeners(server: Server) -> int:
    lines = server.http.get("/metrics").text.splitlines()
    return int(
        float(next(line for line in lines if line.startswith("nudgeledger_feed_listeners ")).split()[1])
    )
