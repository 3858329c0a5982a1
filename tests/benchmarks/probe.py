"""Users with open streams, in a process of their own: from sending a third save to reading its nudge.

`python -m tests.benchmarks.probe PORT STREAMS SECONDS RATE` opens the published stream of so many users; then
one after the other saves three times in a new session, RATE of them a second. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

from tests.benchmarks.configs import PROBE_TITLE, PRODUCT
from tests.benchmarks.load import Answers, action, connect, ordered_ids, post
from tests.benchmarks.report import percentiles

PATIENCE = 5.0  # seconds to wait for a nudge before it counts as lost
READY = b"retry: "


class Stream(asyncio.Protocol):
    """One user's open stream; hands out the nudges of the sessions that are waited for."""

    def __init__(self, waited: dict[str, asyncio.Future[float]]) -> None:
        self._buffer = b""
        self._waited = waited
        self.ready = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if READY in self._buffer and not self.ready.done():
            self.ready.set_result(None)
        *frames, self._buffer = self._buffer.split(b"\n\n")
        for frame in frames:
            lines = frame.splitlines()
            if b"event: proactive" not in lines:
                continue
            (payload,) = [line for line in lines if line.startswith(b"data: ")]
            waiting = self._waited.pop(json.loads(payload[6:])["session_id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the server closed the stream"))


async def listen(port: int, user: str, waited: dict[str, asyncio.Future[float]]) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: Stream(waited), "127.0.0.1", port)
    transport.write(
        f"GET /p/{PRODUCT}/proactive/stream/{user} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    await asyncio.wait_for(protocol.ready, PATIENCE)
    return transport


def saves(session: str, user: str, number: int, count: int) -> bytes:
    instant = f"{time.time():.6f}"
    ids = ordered_ids(number, count)
    return post([action(each, session, user, instant, PROBE_TITLE, "projects") for each in ids])


async def probe(
    answers: Answers, number: int, user: str, waited: dict[str, asyncio.Future[float]]
) -> tuple[float, float] | None:
    """(seconds to the answer, seconds to the nudge); None where it did not come in time."""
    session = f"{user}-{number}"
    await answers.ask(saves(session, user, number * 3, 2))
    nudge = waited[session] = asyncio.get_running_loop().create_future()
    third = saves(session, user, number * 3 + 2, 1)
    started = time.perf_counter()
    await answers.ask(third)
    answered = time.perf_counter() - started
    try:
        return answered, await asyncio.wait_for(nudge, PATIENCE) - started
    except TimeoutError:
        waited.pop(session, None)
        return None


async def main(port: int, streams: int, seconds: float, rate: float) -> None:
    waited: dict[str, asyncio.Future[float]] = {}
    # Never those of an earlier run: a nudge that still stands keeps its user busy.
    users = [f"probe-{os.getpid()}-{i}" for i in range(streams)]
    opened = [await listen(port, user, waited) for user in users]
    idle = [await connect(port) for _ in range(8)]
    found: list[tuple[float, float] | None] = []

    async def one(number: int) -> None:
        answers = idle.pop() if idle else await connect(port)
        found.append(await probe(answers, number, users[number % streams], waited))
        idle.append(answers)

    start = time.perf_counter()
    running: list[asyncio.Task[None]] = []
    for number in range(max(1, int(seconds * rate))):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        running.append(asyncio.create_task(one(number)))
    await asyncio.gather(*running)
    came = [each for each in found if each is not None]
    answered = percentiles([each[0] for each in came])
    print(
        json.dumps(
            percentiles([each[1] for each in came])
            | {"probes": len(found), "lost": len(found) - len(came)}
            | {f"answer_{name}": value for name, value in answered.items()}
        )
    )
    for transport in opened:
        transport.abort()
    for answers in idle:
        answers.close()


if __name__ == "__main__":
    a = sys.argv
    uvloop.run(main(int(a[1]), int(a[2]), float(a[3]), float(a[4])))
