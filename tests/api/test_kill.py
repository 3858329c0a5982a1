"""Power cuts and long stops: what was answered is there, nothing is there twice, timers come back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

import httpx
import pytest

from domain import instants
from domain.instants import SECOND
from eventstore.engine import open_ledger
from tests.api.conftest import Launch
from tests.api.inside import stored
from tests.api.serving import action, command, config, fact, trigger, until
from tests.conftest import Run


@pytest.fixture
def ledger_url(one_url: str) -> str:
    return one_url


def test_a_kill_in_the_middle_of_a_load_loses_nothing_that_was_answered(
    ledger_url: str, launch: Launch, run: Run
) -> None:
    server = launch(ledger_url)
    server.put(config("acme", session={"interaction_timeout_s": 30, "cooldown_period_s": 1}))
    answered: list[str] = []
    batches: list[list[dict[str, object]]] = []
    stop = threading.Event()

    def load(worker: int) -> None:
        with httpx.Client(base_url=server.http.base_url) as client:
            n = 0
            while not stop.is_set():
                n += 1
                session = f"s{worker}-{n % 7}"
                batch = [action(session, user=f"u{worker}") for _ in range(4)]
                batches.append(batch)
                try:
                    answer = client.post("/v1/products/acme/events", json={"events": batch})
                except httpx.TransportError:
                    return
                assert answer.status_code == 200
                answered.extend(str(e["event_id"]) for e in batch)

    workers = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(0.8)
    server.kill()
    stop.set()
    for worker in workers:
        worker.join()
    assert len(answered) > 50

    again = launch(ledger_url)
    rows = run(_stored(ledger_url))
    kept = {r.event_id for r in rows if r.origin == "outside"}
    assert set(answered) <= kept
    for batch in batches[-20:]:  # clients that were not told repeat
        again.post("acme", *batch)
    rows = run(_stored(ledger_url))
    counted = Counter(r.event_id for r in rows if r.origin == "outside")
    assert set(counted.values()) == {1}
    assert {str(e["event_id"]) for b in batches[-20:] for e in b} <= counted.keys()
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.stream] = max(newest.get(row.stream, 0), row.version)
    sessions = [name for name in newest if name.startswith("session-")]
    assert sessions
    for stream in sessions[:7]:
        assert again.session("acme", stream.removeprefix("session-"))["version"] >= newest[stream]
    again.stop()
    replayed = command("replay", "--database-url", ledger_url)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


async def _stored(url: str) -> list[object]:
    ledger = open_ledger(url)
    try:
        return await stored(ledger, "acme")  # type: ignore[return-value]
    finally:
        await ledger.close()


RULES = config(
    "acme",
    session={"interaction_timeout_s": 1, "cooldown_period_s": 1},
    triggers=[
        trigger(
            "dwell",
            limits={"per_session": 1},
            criteria={
                "type": "user_page_dwell",
                "dwell_threshold_seconds": 1,
                "user_page_dwell_max_actions": 5,
            },
        )
    ],
)


def test_what_came_due_while_the_service_was_down_takes_effect_at_its_own_instant(
    ledger_url: str, launch: Launch
) -> None:
    server = launch(ledger_url)
    server.put(RULES)
    server.post("acme", fact("chat_message", "chat", "u_chat", role="user", text="hi"))
    due = server.session("acme", "chat")["timeout_due_at"]
    server.post(
        "acme",
        action(
            "dwelling",
            "Projects",
            "u_dwell",
            data={"type": "pageview", "title": "Projects", "raw_url": "https://app.example/projects"},
        ),
    )
    server.kill()
    time.sleep(6.6)
    again = launch(ledger_url)
    timeout = until(lambda: [e for e in again.events("acme", "chat") if e["type"] == "interaction_timed_out"])
    assert [e["at"] for e in timeout] == [due]
    assert instants.parse(timeout[0]["recorded_at"]) - instants.parse(due) > 5 * SECOND
    (decision,) = until(lambda: again.get("/v1/products/acme/decisions", session_id="dwelling")["decisions"])
    assert (decision["outcome"], decision["reason"]) == ("withheld", "missed")
    told = again.get(f"/v1/products/acme/decisions/{decision['decision_id']}")
    assert told["reproduced"] is True
    assert instants.parse(told["noticed_at"]) - instants.parse(told["at"]) > 5 * SECOND
    kinds = [e["type"] for e in again.events("acme", "dwelling")]
    assert "nudge_offered" not in kinds
    again.stop()
    assert command("replay", "--database-url", ledger_url).returncode == 0


def test_an_offer_noticed_in_time_after_a_short_stop_is_made(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url)
    server.put(RULES)
    server.post(
        "acme",
        action(
            "s",
            "Projects",
            data={"type": "pageview", "title": "Projects", "raw_url": "https://app.example/projects"},
        ),
    )
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(server.pid, signal.SIGCONT)
    *_, decision = until(lambda: server.get("/v1/products/acme/decisions")["decisions"])
    assert decision["outcome"] == "offered"
