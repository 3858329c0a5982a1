"""A load of action batches over keep-alive connections, in a process of its own.

`python -m tests.benchmarks.load PORT CONNECTIONS SECONDS BATCH RATE [ordered|random]` first meets every
session once and says in a line of JSON how long that took; then it measures, and says in a second line what
it found.
RATE is requests a second over all connections, 0 for as fast as answers come; with a rate, durations count
from the instant at which a request was due, so that a server that stalls cannot hide it. Event ids are
UUIDv7s, as our own script makes them, or random UUIDs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from typing import cast

import uvloop

from tests.benchmarks.report import percentiles

PAGES = ("projects", "projects/list", "billing", "reports", "settings/team")
TITLES = ("Edit", "Save changes", "Cancel", "Open filter", "Sort by name", "Next page", "Export CSV")
HEAD = (
    "POST /v1/products/bench/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: %d\r\n\r\n"
)
SESSIONS = 20  # of each connection, in turn


def ordered_ids(number: int, count: int) -> list[str]:
    """UUIDv7s of this instant."""
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    noise = os.urandom(8 * count).hex()
    return [
        f"{stamp[:8]}-{stamp[8:]}-7{(number + i) % 4096:03x}-a{noise[at : at + 3]}-{noise[at + 3 : at + 15]}"
        for i, at in enumerate(range(0, 16 * count, 16))
    ]


def random_ids(number: int, count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def action(event_id: str, session: str, user: str, instant: str, title: str, page: str) -> str:
    """One action as it is posted."""
    return (
        f'{{"event_id":"{event_id}","type":"action","session_id":"{session}","user_id":"{user}",'
        f'"occurred_at":"{instant}","data":{{"type":"click","title":"{title}",'
        f'"raw_url":"https://app.example.com/{page}"}}}}'
    )


def post(events: list[str]) -> bytes:
    """A whole request."""
    body = f'{{"events":[{",".join(events)}]}}'.encode()
    return (HEAD % len(body)).encode() + body


def request(session: int, number: int, batch: int, ids: str = "ordered") -> bytes:
    instant = f"{time.time():.6f}"
    made = ordered_ids(number, batch) if ids == "ordered" else random_ids(number, batch)
    page = PAGES[(number // 20) % 5]
    name, user = f"s{session}", f"u{session}"
    titles = [TITLES[(number + i) % len(TITLES)] for i in range(batch)]
    return post(
        [action(each, name, user, instant, title, page) for each, title in zip(made, titles, strict=True)]
    )


class Answers(asyncio.Protocol):
    """One connection: a request is written, its answer awaited. Raises where an answer is not 200."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(rest) < length or self._answered is None:
            return
        self._buffer = b""
        if b" 200 " in head[:16]:
            self._answered.set_result(rest)
        else:
            self._answered.set_exception(RuntimeError(head.decode() + rest.decode()))

    async def ask(self, payload: bytes) -> bytes:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(payload)
        return await self._answered

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Answers:
    _, protocol = await asyncio.get_running_loop().create_connection(Answers, "127.0.0.1", port)
    return protocol


class Load:
    """All connections of one load, and how long their requests took, in seconds."""

    def __init__(self, connections: int, batch: int, rate: float, ids: str) -> None:
        self.connections, self.batch, self.ids = connections, batch, ids
        self.interval = connections / rate if rate else 0.0
        self.took: list[float] = []

    def _request(self, index: int, sent: int) -> bytes:
        session = index + self.connections * (sent % SESSIONS)
        return request(session, sent * self.batch, self.batch, self.ids)

    async def warm(self, answers: Answers, index: int) -> None:
        """Meet every session once: what the first contact costs is not what a running load costs."""
        for sent in range(SESSIONS):
            await answers.ask(self._request(index, sent))

    async def run(self, answers: Answers, index: int, end: float) -> int:
        """Ask until `end`; the number of requests."""
        sent = 0
        due = time.perf_counter() + self.interval * index / self.connections
        while True:
            if self.interval:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() >= end:
                return sent
            payload = self._request(index, SESSIONS + sent)
            started = due if self.interval else time.perf_counter()
            await answers.ask(payload)
            self.took.append(time.perf_counter() - started)
            sent += 1
            due += self.interval


async def main(port: int, connections: int, seconds: float, batch: int, rate: float, ids: str) -> None:
    load = Load(connections, batch, rate, ids)
    all_answers = [await connect(port) for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*[load.warm(answers, i) for i, answers in enumerate(all_answers)])
    print(json.dumps({"warm_s": time.perf_counter() - began, "sessions": connections * SESSIONS}), flush=True)
    start, cpu = time.perf_counter(), time.process_time()
    work = [load.run(answers, i, start + seconds) for i, answers in enumerate(all_answers)]
    sent = sum(await asyncio.gather(*work))
    elapsed = time.perf_counter() - start
    found = {
        "requests": sent,
        "seconds": elapsed,
        "actions_per_s": sent * batch / elapsed,
        "generator_cpu": (time.process_time() - cpu) / elapsed,
    }
    print(json.dumps(found | percentiles(load.took)))
    for answers in all_answers:
        answers.close()


if __name__ == "__main__":
    a = sys.argv
    uvloop.run(main(int(a[1]), int(a[2]), float(a[3]), int(a[4]), float(a[5]), (a[6:] or ["ordered"])[0]))
