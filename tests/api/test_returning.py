"""Clients of the feed that come back without saying where they were: after a break, a stop, a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from api.feed import returning
from api.feed.feed import Feed
from api.feed.listening import Listener
from api.feed.shaping import Shaper
from api.service import Service
from domain.instants import SECOND
from eventstore import subscription
from eventstore.engine import Ledger
from tests.api.inside import FakeClock, post, serving
from tests.api.serving import action, config
from tests.conftest import Run

TICK_S = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "EVERY_S", TICK_S)


async def opened(feed: Feed, face: str = "f", **more: Any) -> Listener:
    listener = Listener("acme", face=face, **more)
    await feed.place(listener)
    await feed.listen(listener, None)
    return listener


async def read(listener: Listener, count: int) -> list[str]:
    """The titles of so many frames."""
    found: list[str] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            frame = await listener.frames.get()
            assert frame is not None
            found.append(orjson.loads(frame.removeprefix(b"data: "))["actions"][0]["title"])
    return found


async def crashed(service: Service, feed: Feed) -> Feed:
    """The feed of the next process on the same ledger; this one's says nothing more."""
    await asyncio.sleep(5 * TICK_S)
    for task in (feed._returning._task, *feed._tasks.values()):
        assert task is not None
        task.cancel()
    after = Feed(service.recorder, service.settings, service.directory)
    await after.start()
    return after


def test_a_crash_loses_nothing_though_others_recorded_before_the_next_start(ledger: Ledger, run: Run) -> None:
    """What timers, deliveries or other servers record meanwhile says nothing of what clients have had."""
    clock = FakeClock()

    async def check() -> None:
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            quick, slow = await opened(service.feed), await opened(service.feed)
            await post(service, "acme", action("s", "One"), action("t", "Two"))
            assert await read(quick, 2) == ["One", "Two"]
            assert await read(slow, 1) == ["One"]
            clock.instant += 30 * SECOND
            await post(service, "acme", action("s", "Three"))
            feed = await crashed(service, service.feed)
            for _ in "12":  # nobody can say which of the two comes
                back = await opened(feed)
                assert await read(back, 2) == ["Two", "Three"]
            anew = await opened(feed)
            stranger = await opened(feed, "another")
            await post(service, "acme", action("s", "Four"))
            feed.moved("acme")
            assert await read(anew, 1) == await read(stranger, 1) == ["Four"]
            await feed.stop()

    run(check())


def test_a_client_that_is_not_back_yet_is_awaited_over_a_second_crash(ledger: Ledger, run: Run) -> None:
    async def check() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            for _ in "12":
                await opened(service.feed)
            await post(service, "acme", action("s", "One"))
            feed = await crashed(service, service.feed)
            assert await read(await opened(feed), 1) == ["One"]
            feed = await crashed(service, feed)
            for _ in "12":
                assert await read(await opened(feed), 1) == ["One"]
            await feed.stop()

    run(check())


def test_a_stop_notes_what_each_client_has_had_and_nothing_comes_twice(ledger: Ledger, run: Run) -> None:
    async def check() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            done, cut = await opened(service.feed, "done"), await opened(service.feed, "cut")
            await post(service, "acme", action("s", "One"), action("t", "Two"))
            assert await read(done, 2) == ["One", "Two"]
            assert await read(cut, 1) == ["One"]
            service.feed.close()
            await post(service, "acme", action("s", "Three"))  # as other processes do while this one ends
            await asyncio.sleep(TICK_S)
            for listener in (done, cut):
                service.feed.leave(listener)
            await service.feed.stop()
            feed = Feed(service.recorder, service.settings, service.directory)
            await feed.start()
            assert await read(await opened(feed, "done"), 1) == ["Three"]
            assert await read(await opened(feed, "cut"), 2) == ["Two", "Three"]
            await feed.stop()

    run(check())


def test_of_several_clients_with_one_face_each_gets_what_the_furthest_behind_lacks(
    sqlite_ledger: Ledger, run: Run
) -> None:
    clock = FakeClock()

    async def check() -> None:
        async with serving(sqlite_ledger, clock) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            ahead, behind = await opened(service.feed), await opened(service.feed)
            await post(service, "acme", action("s", "One"))
            assert await read(ahead, 1) == ["One"]
            service.feed.leave(ahead)
            service.feed.leave(behind)
            for _ in "12":
                assert await read(await opened(service.feed), 1) == ["One"]
            for listener in list(service.feed._returning._open):
                service.feed.leave(listener)
            clock.instant += returning.RETURN + SECOND
            async with asyncio.timeout(5), sqlite_ledger.reader() as conn:
                while await subscription.checkpoints(conn, "feed:"):  # till nobody is awaited any more
                    await conn.rollback()
                    await asyncio.sleep(TICK_S)
            await post(service, "acme", action("s", "Two"))
            await post(service, "acme", action("s", "Three"))
            late = await opened(service.feed)
            assert late.frames.empty()

    run(check())


def test_a_reader_whose_tail_failed_comes_back_to_another(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            first = await opened(service.feed, "first")
            page = Shaper.page

            async def fails(*_: Any) -> None:
                raise RuntimeError

            monkeypatch.setattr(Shaper, "page", fails)
            await post(service, "acme", action("s", "One"))
            async with asyncio.timeout(5):
                assert await first.frames.get() is None
            monkeypatch.setattr(Shaper, "page", page)
            second = await opened(service.feed, "second")  # before the first one's end was noticed
            service.feed.leave(first)
            await post(service, "acme", action("s", "Two"))
            assert await read(second, 1) == ["Two"]
            assert await read(await opened(service.feed, "first"), 2) == ["One", "Two"]

    run(check())
