"""What happens, as it happens: decisions as they fall, sessions as they move."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from httpx_sse import ServerSentEvent

from api import watching
from api.service import Service
from api.watching import Watcher
from domain.instants import SECOND
from eventstore.engine import Ledger, open_ledger
from tests.api.conftest import Launch
from tests.api.inside import FakeClock, post, serving
from tests.api.serving import Frames, Server, action, config, fact, product_id, saves, trigger, until
from tests.conftest import Run

MANY = trigger(criteria={"type": "action_count", "at_least": 1}, cooldown_s=600)


def data(event: ServerSentEvent) -> Any:
    return json.loads(event.data)


def following(frames: Frames, kind: str) -> ServerSentEvent:
    """The next event of that kind; those of the other kind are passed over."""
    while (event := frames.next()).event != kind:
        pass
    return event


def _keep_alive(frames: Frames) -> None:
    """Read up to a sign of life: whoever gets one has joined."""
    for line in frames._lines:
        if line.startswith(":"):
            return


def live(server: Server, product: str, **more: Any) -> Any:
    return server.stream(f"/v1/products/{product}/live", wait=False, **more)


# --- over HTTP ----------------------------------------------------------------------------------------


def test_decisions_come_as_they_fall_and_sessions_as_they_move(server: Server, product: str) -> None:
    with live(server, product) as frames:
        assert frames.response.headers["content-type"].startswith("text/event-stream")
        frames.quiet()
        server.post(product, action("s"))
        moved = data(frames.next())
        assert moved == {
            "session_id": "s",
            "user_id": "u_1",
            "version": 1,
            "at": server.events(product, "s")[0]["at"],
            "current_state": "thinking",
        }
        (decision,) = server.post(product, *saves("s"))["decisions"]
        event = following(frames, "decision")
        assert (event.id, data(event)) == (str(decision["position"]), decision)
        moved = following(frames, "session")
        assert (data(moved)["version"], data(moved)["current_state"]) == (5, "proactive_assistance")


def test_a_timeout_is_told_when_it_falls_due(server: Server) -> None:
    product = product_id()
    server.put(config(product, session={"interaction_timeout_s": 0.3, "cooldown_period_s": 60}))
    with live(server, product) as frames:
        frames.quiet()
        server.post(product, fact("chat_message", "s", role="user", text="hello"))
        assert data(frames.next())["current_state"] == "reactive_assistance"
        assert data(frames.next())["current_state"] == "thinking"


def test_who_comes_back_is_sent_the_decisions_that_were_missed(server: Server) -> None:
    product = product_id()
    server.put(config(product, triggers=[MANY]))
    first, second, third = [
        server.post(product, action(f"s{n}", user=f"u{n}"))["decisions"][0] for n in range(3)
    ]
    with live(server, product, last=str(first["position"])) as frames:
        events = [following(frames, "decision") for _ in range(2)]
        assert [data(event) for event in events] == [second, third]
        assert [event.id for event in events] == [str(second["position"]), str(third["position"])]
        fourth = server.post(product, action("s4", user="u4"))["decisions"][0]
        assert data(following(frames, "decision")) == fourth
    with live(server, product, last_event_id=str(third["position"])) as frames:  # as EventSource cannot
        assert data(following(frames, "decision")) == fourth
    for n, nonsense in enumerate(("x", "²"), 5):
        with live(server, product, last=nonsense) as frames:
            _keep_alive(frames)
            (decision,) = server.post(product, action(f"s{n}", user=f"u{n}"))["decisions"]
            assert data(following(frames, "decision")) == decision  # none that was missed came before it


def test_a_product_is_told_nothing_of_another(server: Server, product: str) -> None:
    with live(server, product) as frames:
        frames.quiet()
        other = product_id()
        server.put(config(other))
        server.post(other, *saves("s"))
        frames.quiet()


def test_what_another_server_wrote_is_told_too(postgres_url: str, launch: Launch) -> None:
    one, other = launch(postgres_url, keep_alive_s="0.5"), launch(postgres_url, keep_alive_s="0.5")
    one.put(config("acme", session={"interaction_timeout_s": 60, "cooldown_period_s": 1}, triggers=[MANY]))
    until(lambda: other.http.get("/v1/products/acme/config").status_code == 200)
    with live(other, "acme") as frames:
        frames.quiet()
        (offered,) = one.post("acme", action("s"))["decisions"]
        assert data(following(frames, "decision")) == offered
        moved = data(following(frames, "session"))
        assert (moved["session_id"], moved["current_state"]) == ("s", "proactive_assistance")
        (withheld,) = one.post("acme", action("s"))["decisions"]
        assert withheld["outcome"] == "withheld"
        assert data(following(frames, "decision")) == withheld
        assert data(following(frames, "session"))["version"] == moved["version"] + 2


# --- in process ---------------------------------------------------------------------------------------


async def _join(service: Service, last: int | None = None, product: str = "acme") -> Watcher:
    watcher = Watcher(product)
    await service.watching.listen(watcher, last)
    return watcher


def _told(watcher: Watcher) -> list[tuple[str, Any] | None]:
    """What waits for the watcher; None: the end."""
    found: list[tuple[str, Any] | None] = []
    while not watcher.frames.empty():
        raw = watcher.frames.get_nowait()
        if raw is None:
            found.append(None)
            continue
        lines = dict(line.split(": ", 1) for line in raw.decode().strip().split("\n"))
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def _decided(watcher: Watcher) -> list[int]:
    return [said[1]["position"] for said in _told(watcher) if said is not None and said[0] == "decision"]


def test_nothing_is_made_while_nobody_watches(sqlite_ledger: Ledger, run: Run, monkeypatch: Any) -> None:
    def made(*given: Any) -> bytes:
        raise AssertionError("a frame was made")

    monkeypatch.setattr(watching, "frame", made)

    async def scenario() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            await service.put_config("other", config("other"))
            left = await _join(service)
            service.watching.leave(left)
            await _join(service, product="other")
            await post(service, "acme", *saves("s"))
            assert not service.watching._moved
            assert len(service.watching) == 1

    run(scenario())


def test_a_watcher_that_does_not_read_is_cut_off_and_others_are_not(
    sqlite_ledger: Ledger, run: Run, monkeypatch: Any
) -> None:
    monkeypatch.setattr(watching, "QUEUE", 3)

    async def scenario() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[MANY]))
            slow, quick = await _join(service), await _join(service)
            sent: list[int] = []
            for n in range(5):
                await post(service, "acme", action(f"s{n}", user=f"u{n}"))
                sent += _decided(quick)
            assert len(sent) == 5
            assert slow.lost
            assert _told(slow) == [None]
            assert not quick.lost

    run(scenario())


def test_who_missed_much_is_sent_it_in_portions(sqlite_ledger: Ledger, run: Run, monkeypatch: Any) -> None:
    """A portion ends the stream, so that nothing waits without end; the client comes back for more."""
    monkeypatch.setattr(watching, "RESUMED", 2)

    async def scenario() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[MANY]))
            for n in range(5):
                await post(service, "acme", action(f"s{n}", user=f"u{n}"))
            last, portions, ended = 0, [], []
            for _ in range(3):
                watcher = await _join(service, last)
                said = _told(watcher)
                assert watcher.lost == (said[-1] is None)
                ended.append(watcher.lost)
                portions.append([item[1]["position"] for item in said if item is not None])
                last = portions[-1][-1]
            assert [len(portion) for portion in portions] == [2, 2, 1]
            assert ended == [True, True, False]
            assert portions[0][-1] < portions[1][0] < portions[1][-1] < portions[2][0]

    run(scenario())


def test_a_decision_that_falls_while_another_is_resumed_comes_once_and_in_order(
    ledger_url: str, run: Run, monkeypatch: Any
) -> None:
    async def scenario() -> None:
        ledger = open_ledger(ledger_url)
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[MANY]))
            (missed,) = (await post(service, "acme", action("s0", user="u0"))).decisions
            read = watching.recent.decisions
            fallen: list[int] = []

            async def slowly(*given: Any) -> Any:
                """One falls before the question to the ledger, one between its answer and its use."""
                fallen.append(await _fall(service, "before"))
                found = await read(*given)
                fallen.append(await _fall(service, "after"))
                return found

            monkeypatch.setattr(watching.recent, "decisions", slowly)
            watcher = await _join(service, missed["position"] - 1)
            fallen.append(await _fall(service, "later"))
            assert _decided(watcher) == [missed["position"], *fallen]
        await ledger.close()

    run(scenario())


async def _fall(service: Service, name: str) -> int:
    receipt = await post(service, "acme", action(name, user=name))
    position: int = receipt.decisions[0]["position"]
    return position


def test_under_load_a_session_is_told_as_it_is_not_as_it_was(
    sqlite_ledger: Ledger, run: Run, monkeypatch: Any
) -> None:
    monkeypatch.setattr(watching, "TELL_S", 0.05)
    monkeypatch.setattr(watching, "MOVED", 3)

    async def scenario() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            watcher = await _join(service)
            for _ in range(40):
                await post(service, "acme", action("s", "other"))
            await asyncio.sleep(0.2)
            versions = [said[1]["version"] for said in _told(watcher) if said is not None]
            assert versions == sorted(set(versions))
            assert versions[-1] == 40
            assert len(versions) < 40
            service.watching._telling = True  # so that all of these wait for one telling
            for name in ("s0", "s1", "s2", "s0", "s3"):
                await post(service, "acme", action(name, "other"))
            await service.watching._tell()
            names = [said[1]["session_id"] for said in _told(watcher) if said is not None]
            assert names == ["s2", "s0", "s3"]  # those that moved last

    run(scenario())


def test_streams_end_with_the_service(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            watcher = await _join(service)
        assert _told(watcher) == [None]
        assert _told(await _join(service)) == [None]

    run(scenario())


def test_a_session_that_was_only_looked_at_is_not_told(sqlite_ledger: Ledger, run: Run) -> None:
    """A config put computes due instants anew; that stores nothing and moves nothing."""

    async def scenario() -> None:
        clock = FakeClock()
        async with serving(sqlite_ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            await post(service, "acme", action("s"))
            watcher = await _join(service)
            clock.instant += SECOND
            await service.put_config("acme", config("acme", triggers=[]))
            await service._rearm("acme")
            await asyncio.sleep(0.05)
            assert _told(watcher) == []

    run(scenario())
