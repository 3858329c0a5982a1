"""The feed from the inside: frames from rows, resuming, tour triggers, slow readers, refused frames."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.delivery import calls
from api.feed import knowledge, pusher
from api.feed.listening import MOST, QUEUE, Listener
from api.feed.shaping import Frame, Shaper
from api.ingest import native
from api.jobs import NoteJob
from api.service import Service
from domain import config_parse, events
from domain.instants import HOUR
from eventstore import statements
from eventstore.engine import Ledger, open_ledger
from migrations import run as migrations
from projections.views import activity
from tests.api.inside import START, FakeClock, serving
from tests.api.serving import Server, action, config, fact, product_id, trigger, until
from tests.conftest import Run
from tests.wire.test_autoplay_stream import listeners


def frame_of(found: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(found.data)
    return data


# --- over HTTP ---------------------------------------------------------------------------------------


def test_frames_carry_no_ids_unless_asked_and_a_reader_resumes_by_them(server: Server) -> None:
    product = product_id()
    server.put(config(product, triggers=[]))
    path = f"/stream/{product}"
    with server.stream(path, wait=False, resume="1") as frames:
        until(lambda: listeners(server) >= 1)
        server.post(product, action("s", "One"))
        first = frames.next()
    assert (first.event, int(first.id) > 0) == ("message", True)
    server.post(product, action("s", "Two"), action("other", "Other", user="u_2"))
    with server.stream(path, wait=False, resume="1", last=first.id) as frames:
        assert frame_of(frames.next())["actions"][0]["title"] == "Two"
        assert frame_of(frames.next())["session_id"] == "other"
    with server.stream(path, wait=False, resume="1", after="0", user_id="u_2") as frames:
        assert frame_of(frames.next())["actions"][0]["title"] == "Other"
        frames.quiet()
    with server.stream(path, wait=False, resume="1", after="0", session_id="s") as frames:
        assert [frame_of(frames.next())["actions"][0]["index"] for _ in "12"] == [0, 1]
        frames.quiet()
    with server.stream(path, wait=False, user_id="nobody") as frames:
        until(lambda: listeners(server) >= 1)
        server.post(product, action("s", "Three"))
        frames.quiet()


def test_a_tour_that_is_to_start_is_told_once_in_a_nameless_frame_of_four_keys(server: Server) -> None:
    product = product_id()
    chips = [{"id": "show", "label": "Show me", "user_tour_exists": True, "user_tour_id": "flow_chip"}]
    server.put(config(product, triggers=[trigger(options=chips)]))
    server.post(product, action("s"))
    with server.stream(f"/stream/{product}", wait=False, session_id="s") as frames:
        until(lambda: listeners(server) >= 1)
        body = {"user_id": "u_1", "tour_id": "bulk-tour", "product_id": product}
        for _ in "12":
            assert server.http.post("/tour/start", json=body).json()["flow_id"] == "flow_1"
        server.post(product, fact("option_clicked", "s", option_id="show"))
        server.post(product, fact("option_clicked", "s", option_id="no such option"))
        server.post(product, action("s", "After"))
        told = [frames.next() for _ in "123"]
    assert [t.event for t in told] == ["message"] * 3, "named frames never come to a page's onmessage"
    wanted = {"type": "usertour_trigger", "product_id": product, "session_id": "s"}
    assert [frame_of(t) for t in told[:2]] == [wanted | {"flow_id": flow} for flow in ("flow_1", "flow_chip")]
    assert frame_of(told[2])["actions"][0]["title"] == "After"


def test_live_activity_linking_and_the_knowledge_base(server: Server) -> None:
    product = product_id()
    server.put(config(product))
    server.post(product, *(action("a", f"A{n}") for n in range(3)))
    server.post(product, *(action("b", f"B{n}") for n in range(3)))
    found = server.get(f"/users/{product}/u_1/live-activity", limit=4)["actions"]
    assert [(a["title"], a["session_id"], a["index"]) for a in found] == [
        ("A2", "a", 2),
        ("B0", "b", 0),
        ("B1", "b", 1),
        ("B2", "b", 2),
    ]
    assert len(found[0]) == 12
    assert server.get(f"/users/{product}/nobody/live-activity")["actions"] == []
    link = {"product_id": product, "session_id": "a", "conversation_id": "c1"}
    for conversation in ("c1", "c1", "c2", "c1"):
        linked = server.http.post("/sessions/link", json=link | {"conversation_id": conversation})
        assert linked.status_code == 200
    kinds = [e["type"] for e in server.events(product, "a")]
    assert kinds.count("conversation_linked") == 3, "the same again changes nothing"
    assert server.session(product, "a")["conversation_id"] == "c1"
    (result,) = server.get(f"/knowledge-base/{product}", query="open the menu")["results"]
    assert (result["title"], result["steps"]) == ("Saves one by one", ["Open the menu."])
    assert server.get(f"/knowledge-base/{product}", query="nothing alike")["results"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/stream/nobody", None, 404),
        ("GET", "/stream/{p}?after=-1&resume=1", None, 422),
        ("GET", "/stream/{p}?session_id=" + "x" * 300, None, 422),
        ("GET", "/users/{p}/u/live-activity?limit=0", None, 422),
        ("GET", "/knowledge-base/{p}?query=", None, 400),
        ("POST", "/sessions/link", {"product_id": "{p}", "session_id": "a\u0001"}, 422),
        ("POST", "/sessions/link", [], 422),
        ("POST", "/products", {"provider": "posthog"}, 422),
        ("POST", "/products", {"provider": ["posthog"], "provider_project_id": 3, "contact_email": {}}, 422),
    ],
)
def test_what_is_wrong_is_refused(
    sqlite_server: Server, product: str, method: str, path: str, body: Any, status: int
) -> None:
    answer = sqlite_server.http.request(method, path.replace("{p}", product), json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_page_registers_a_product(sqlite_server: Server) -> None:
    body = {"provider": "posthog", "provider_project_id": "1", "contact_email": "a@b.test"}
    answer = sqlite_server.http.post("/products", json=body, headers={"origin": "https://evil.test"})
    assert answer.status_code == 403


# --- from rows to frames -----------------------------------------------------------------------------


async def post(service: Service, *given: dict[str, Any]) -> None:
    batch = native.parse_batch({"events": list(given)}, service.clock.now())
    await service.record("acme", batch)


async def frames(service: Service, limit: int = 2_000) -> list[Frame]:
    shaper, found, after = service.feed.shaper("acme"), [], 0
    async with service.ledger.reader() as conn:
        while (page := await shaper.page(conn, after, limit)) is not None:
            found += page.frames
            after = page.seq
    return found


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=5), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_frames_are_the_same_however_the_ledger_is_cut_into_pages(
    batches: Sequence[Sequence[str]], limit: int
) -> None:
    """A law: pages never cut a batch, and every action has its number in its session."""

    async def check(ledger: Ledger) -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            for sessions in batches:
                await post(service, *(action(session) for session in sessions))
            whole = await frames(service)
            for session in "ab":
                acted = [a for f in whole if f.session_id == session for a in orjson.loads(f.body)["actions"]]
                assert [a["index"] for a in acted] == list(range(len(acted)))
            assert [f.seq for f in whole] == sorted(f.seq for f in whole)
            most = max(len(sessions) for sessions in batches)
            assert await frames(service, max(limit, most + 2)) == whole

    in_new_ledger(check)


def in_new_ledger(check: Any) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            ledger = open_ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
            await migrations.upgrade(ledger)
            try:
                await check(ledger)
            finally:
                await ledger.close()

    asyncio.run(run())


def test_a_summary_is_told_and_of_an_erased_person_nothing_is_left(ledger: Ledger, run: Run) -> None:
    async def check() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            await post(service, fact("user_identified", "s", email="ana@example.test"), action("s", "Save"))
            summary = events.SummaryGenerated(1, 2, "The user saved.")
            await service.recorder.submit(NoteJob("acme", "n1", session_id="s", event=summary, key="1"))
            made = [orjson.loads(f.body) for f in await frames(service)]
            assert [m["type"] for m in made] == ["actions", "summary"]
            assert (made[0]["email"], made[1]["summary"], made[1]["replaces"]) == (
                "ana@example.test",
                "The user saved.",
                1,
            )
            assert made[0]["actions"][0]["raw_url"] == "https://app.example/projects"
            async with ledger.transaction() as conn:
                await statements.execute(conn, "DELETE FROM data_keys WHERE product = $1", "acme")
            erased = [orjson.loads(f.body) for f in await frames(service)]
            assert (erased[0]["email"], erased[0]["actions"][0]["raw_url"], erased[1]["summary"]) == ("",) * 3
            assert erased[0]["actions"][0]["title"] == "Save"

    run(check())


# --- readers and endpoints ---------------------------------------------------------------------------


def test_a_reader_that_is_too_far_behind_is_cut_off_by_number_and_by_bytes() -> None:
    def sent(count: int, size: int) -> Listener:
        listener, body = Listener("acme"), b"x" * size
        for seq in range(1, count + 1):
            listener.take(Frame(seq, seq, 0, True, "s", "u", body))
        return listener

    async def check() -> None:
        for size, most in ((10, QUEUE), (MOST // 4, 4)):
            listener = sent(most + 1, size)
            assert listener.lost
            assert listener.frames.get_nowait() is None
            assert listener.served() == 0, "nothing of it was read"
            slow = sent(most - 1, size)
            await slow.frames.get()
            assert (slow.lost, slow.served()) == (False, 1)

    asyncio.run(check())


def test_a_frame_that_is_refused_for_an_hour_is_left_out_and_recorded(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    taken: list[str] = []
    refused = 0

    async def answer(_: calls.Calls, url: str, body: bytes, *__: Any) -> calls.Answer:
        nonlocal refused
        title = orjson.loads(body)["actions"][0]["title"]
        if title == "Poison":
            refused += 1
            clock.instant += HOUR // 3
            return calls.Answer(422, {}, b"")
        taken.append(title)
        return calls.Answer(200, {}, b"")

    monkeypatch.setattr(calls.Calls, "post", answer)
    monkeypatch.setattr(pusher.backoff, "delay", lambda *_: 1)

    async def check() -> None:
        async with serving(sqlite_ledger, clock) as service:
            named = {"push": {"url": "http://127.0.0.1:9/x"}}
            await service.put_config("acme", config("acme", triggers=[], channels=named))
            for title in ("One", "Poison", "Two"):
                await post(service, action("s", title))
            async with asyncio.timeout(10):
                while taken != ["One", "Two"]:
                    await asyncio.sleep(0.01)
            async with service.ledger.reader() as conn:
                rows = await statements.fetch(
                    conn, "SELECT data FROM events WHERE type = 'delivery_failed' AND stream = 'product'"
                )
            (noted,) = [orjson.loads(row[0]) for row in rows]
            assert (noted["channel"], noted["status"], noted["attempt"]) == ("push", 422, refused)
            assert "Poison" not in json.dumps(noted)
            assert service.feed.pushing.pushers["acme"].skipped == 1
            await service.put_config("acme", config("acme", triggers=[]))
            await asyncio.sleep(0.01)
            assert service.feed.pushing.pushers == {}, "no endpoint is named any more"

    run(check())


def test_nothing_is_read_while_nobody_listens(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("the ledger was read for nobody")

    async def check() -> None:
        async with serving(sqlite_ledger, FakeClock(START)) as service:
            await service.put_config("acme", config("acme", triggers=[]))
            monkeypatch.setattr(Shaper, "page", never)
            await post(service, action("s"))
            await asyncio.sleep(0.05)
            assert (service.feed.listeners, service.feed.sent) == (0, 0)
            async with service.ledger.reader() as conn:
                assert await activity.newest_seq(conn, "acme") > 0

    run(check())


def test_the_knowledge_base_ranks_by_words_and_is_deterministic() -> None:
    raw = config(
        "acme",
        triggers=[
            trigger("a", how_to="1. Open Reports. 2. Press Export.") | {"name": "Export a report"},
            trigger("b", how_to="1. Open Settings.\n2. Choose Invite.") | {"name": "Invite people"},
        ],
        section_playbook={"billing": "Change the plan under Settings."},
    )
    parsed = config_parse.parse(raw)
    found = knowledge.search(parsed, "How do I EXPORT my reports?", 3)
    assert [f.title for f in found] == ["Export a report"]
    assert found[0].steps == ("Open Reports.", "Press Export.")
    assert [f.title for f in knowledge.search(parsed, "settings", 5)] == ["billing", "Invite people"]
    assert knowledge.search(parsed, "settings", 1) == knowledge.search(parsed, "settings", 5)[:1]
    assert knowledge.search(parsed, "?!", 5) == []
