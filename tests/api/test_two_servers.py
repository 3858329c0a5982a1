"""Two services on one PostgreSQL database."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Container

import httpx
import pytest

from eventstore.engine import open_ledger
from tests.api.conftest import Launch
from tests.api.inside import post, serving, stored
from tests.api.serving import Server, action, command, config, fact, saves, trigger, until
from tests.conftest import Run

Pair = tuple[Server, Server]


@pytest.fixture
def pair(postgres_url: str, launch: Launch) -> Pair:
    return launch(postgres_url, keep_alive_s="0.5"), launch(postgres_url, keep_alive_s="0.5")


async def _stored(url: str) -> list[object]:
    ledger = open_ledger(url)
    try:
        return await stored(ledger, "acme")  # type: ignore[return-value]
    finally:
        await ledger.close()


def test_two_servers_never_both_spend_the_last_nudge_of_a_budget(
    pair: Pair, postgres_url: str, run: Run
) -> None:
    once = trigger(
        limits={"per_user": {"times": 1, "per": "day"}}, criteria={"type": "action_count", "at_least": 1}
    )
    pair[0].put(config("acme", triggers=[once]))
    until(lambda: pair[1].http.get("/v1/products/acme/config").status_code == 200)
    rounds = 25
    for n in range(rounds):
        gate = threading.Barrier(2)

        def post(server: Server, session: str, user: str, gate: threading.Barrier = gate) -> None:
            with httpx.Client(base_url=server.http.base_url, timeout=20) as client:
                client.get("/healthz")
                gate.wait()
                answer = client.post(
                    "/v1/products/acme/events", json={"events": [action(session, user=user)]}
                )
                assert answer.status_code == 200, answer.text

        threads = [
            threading.Thread(target=post, args=(server, f"s{n}-{i}", f"user{n}"))
            for i, server in enumerate(pair)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = run(_stored(postgres_url))
    spent = Counter(r.stream for r in rows if r.type == "budget_spent")
    assert spent == {f"user-user{n}": 1 for n in range(rounds)}
    assert sum(r.type == "nudge_offered" for r in rows) == rounds
    assert sum(r.type == "action" for r in rows) == 2 * rounds
    positions = [r.position for r in rows]
    assert positions == sorted(positions)
    assert command("replay", "--database-url", postgres_url).returncode == 0


def test_a_nudge_decided_on_one_server_reaches_a_stream_on_the_other(pair: Pair) -> None:
    here, there = pair
    here.put(config("acme"))
    until(lambda: there.http.get("/v1/products/acme/config").status_code == 200)
    with there.native("acme", "u_1") as frames:
        (decision,) = here.post("acme", *saves("s"))["decisions"]
        event = frames.next()
        assert (event.event, event.id) == ("proactive", str(decision["position"]))
        here.post("acme", fact("nudge_dismissed", "s", nudge_id=decision["nudge_id"]))
        assert frames.next().event == "nudge_closed"
        frames.quiet()  # each once


def test_sessions_and_configs_may_be_written_through_either_server(pair: Pair) -> None:
    here, there = pair
    here.put(config("acme"))
    until(lambda: there.http.get("/v1/products/acme/config").status_code == 200)
    for n in range(6):
        pair[n % 2].post("acme", action("s", "Open"))
    for server in pair:
        until(lambda server=server: server.session("acme", "s")["version"] == 6)
    second = there.put(config("acme", timezone="Europe/Berlin"))["revision"]
    until(lambda: here.get("/v1/products/acme/config")["revision"] == second)
    assert here.get("/v1/products/acme/config/revisions")["revisions"][0]["revision"] == second
    third = here.put(config("acme"))["revision"]
    assert third.startswith("r3-")
    until(lambda: there.get("/v1/products/acme/config")["revision"] == third)
    receipt = there.post("acme", *saves("t", "u_2"))
    assert [d["outcome"] for d in receipt["decisions"]] == ["offered"]


def test_the_timers_of_a_server_that_died_are_taken_over(pair: Pair) -> None:
    here, there = pair
    here.put(config("acme", session={"interaction_timeout_s": 1, "cooldown_period_s": 1},
                    triggers=[trigger(limits={"per_session": 1})]))  # fmt: skip
    here.post("acme", *saves("s"))
    due = here.session("acme", "s")["timeout_due_at"]
    here.kill()
    started = time.monotonic()
    ended = until(
        lambda: [e for e in there.events("acme", "s") if e["type"] == "interaction_timed_out"], within_s=12
    )
    print(f"taken over after {time.monotonic() - started:.1f} s")
    assert [e["at"] for e in ended] == [due]


def test_what_another_server_wrote_right_behind_a_commit_is_not_overlaid_by_it(
    postgres_url: str, run: Run
) -> None:
    """The other's event is read together with those before the commit; the cache must not keep the older."""

    async def story() -> None:
        ledgers = open_ledger(postgres_url), open_ledger(postgres_url)
        async with serving(ledgers[0]) as one, serving(ledgers[1]) as other:
            await one.put_config("acme", config("acme"))
            await post(one, "acme", action("s"))
            real = one.recorder.catch_up

            async def catch_up(own: Container[int] = ()) -> None:
                await post(other, "acme", action("s"))
                await real(own)

            await one.follower.stop()  # it would take the next event in at once
            await post(other, "acme", action("s2"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(one.recorder, "catch_up", catch_up)
                await post(one, "acme", action("s"))
            await post(one, "acme", action("s"))
            rows = [row for row in await stored(ledgers[0], "acme") if row.stream == "session-s"]
            assert sum(row.type == "action" for row in rows) == 4
        for ledger in ledgers:
            await ledger.close()

    run(story())
