"""Usertour's signed webhooks: at least once and in any order. A fake built from their documented form."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.vendors import usertour
from domain.errors import InvalidInput, NudgeledgerError, WrongSecret
from domain.instants import SECOND
from eventstore.engine import Ledger
from tests.api import inside
from tests.api.conftest import Launch
from tests.api.serving import SECRET, Server, command, config, fact, product_id, saves, trigger
from tests.conftest import Run
from tests.fakes.usertour import message, signature, signed

CHANNELS = {"usertour": {"secret": "env:NUDGELEDGER_VENDOR_SECRET"}}
OPTIONS = [{"id": "show", "label": "Show me", "user_tour_exists": True, "user_tour_id": "flow_1"}]


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def touring(server: Server) -> tuple[Server, str]:
    product = product_id()
    rules = config(product, triggers=[trigger(options=OPTIONS)], channels=CHANNELS)
    server.put(rules)
    return server, product


def send(server: Server, product: str, body: Any, secret: str = SECRET, at_s: int | None = None) -> Any:
    raw, headers = signed(body, secret, int(time.time()) if at_s is None else at_s)
    return server.http.post(f"/webhook/usertour/{product}", content=raw, headers=headers)


def tell(server: Server, product: str, *bodies: dict[str, Any]) -> list[str]:
    answers = [send(server, product, body) for body in bodies]
    assert [a.status_code for a in answers] == [200] * len(answers), [a.text for a in answers]
    return [a.json()["status"] for a in answers]


def tours(server: Server, product: str, session: str = "s") -> list[tuple[str, Any]]:
    listed = [e for e in server.events(product, session) if e["type"].startswith("tour_")]
    return [(e["type"], e["data"].get("outcome")) for e in listed]


# --- the signature -----------------------------------------------------------------------------------


def test_the_published_test_vector() -> None:
    raw = b'{"id":"whmsg_1","object":"webhookMessage"}'
    made = "153783454684e83f24a743b653fb3fb6c41dc90c0a54d122b2c207f4c93446a6"
    at = 1752652800
    assert signature("whsec_test", at, raw) == f"t={at},v1={made}"
    for now in (at, at + 300, at - 300):
        usertour.check("whsec_test", f"t={at},v1={made}", raw, now * SECOND)
        usertour.check("whsec_test", f"v1={'0' * 64}, t={at} , v1={made}", raw, now * SECOND)
    for now in (at + 301, at - 301):
        with pytest.raises(WrongSecret, match="old"):
            usertour.check("whsec_test", f"t={at},v1={made}", raw, now * SECOND)
    wrong = [
        None,
        "",
        made,
        f"t={at}",
        f"v1={made}",
        f"t={at + 1},v1={made}",
        f"t={at},v1=é",
        f"t=,v1={made}",
    ]
    for header in wrong:
        with pytest.raises(WrongSecret):
            usertour.check("whsec_test", header, raw, at * SECOND)
    with pytest.raises(WrongSecret):
        usertour.check("whsec_test", f"t={at},v1={made}", raw + b" ", at * SECOND)
    with pytest.raises(WrongSecret, match="names no channels"):
        usertour.check(None, f"t={at},v1={made}", raw, at * SECOND)
    with pytest.raises(WrongSecret, match="no time"):
        usertour.check("s", signature("s", "soon", raw), raw, at * SECOND)  # type: ignore[arg-type]


def test_forged_and_replayed_messages_are_refused(touring: tuple[Server, str]) -> None:
    server, product = touring
    server.post(product, *saves("s", count=1))
    body = message("flow_started", "u_1")
    assert send(server, product, body, secret="other").status_code == 401
    old = send(server, product, body, at_s=int(time.time()) - 400)
    assert (old.status_code, old.headers["content-type"]) == (401, "application/problem+json")
    assert server.http.post(f"/webhook/usertour/{product}", json=body).status_code == 401
    assert send(server, "no-such-product", body).status_code == 404
    unset = product_id()
    server.put(config(unset))
    assert send(server, unset, body).status_code == 401
    assert tours(server, product) == []


# --- the life of a tour ------------------------------------------------------------------------------


def test_a_tour_from_start_to_end(touring: tuple[Server, str]) -> None:
    server, product = touring
    server.post(product, *saves("s", count=1))
    assert tell(server, product, message("flow_started", "u_1")) == ["ok"]
    assert server.session(product, "s")["active_tour_id"] == "bulk-tour"
    told = tell(
        server,
        product,
        message("flow_step_seen", "u_1", flow_step_number=1),
        message("flow_step_completed", "u_1", flow_step_number=1),
        message("flow_completed", "u_1", flow_step_number=3, flow_step_progress=100),
        message("flow_ended", "u_1", flow_end_reason="end_from_program"),
    )
    assert told == ["ok", "ok", "ok", "over"]
    assert tours(server, product) == [
        ("tour_started", None),
        ("tour_step", None),
        ("tour_step", None),
        ("tour_ended", "completed"),
    ]
    started = next(e for e in server.events(product, "s") if e["type"] == "tour_started")
    assert (started["source"], started["data"]["registry_id"]) == ("usertour", "bulk-tour")
    assert started["data"]["tour_id"] == "flow_1"
    assert server.session(product, "s")["active_tour_id"] is None


def test_a_dismissed_tour_and_another_run_of_it(touring: tuple[Server, str]) -> None:
    server, product = touring
    server.post(product, *saves("s", count=1))
    tell(server, product, message("flow_started", "u_1", "one"), message("flow_ended", "u_1", "one"))
    assert tours(server, product)[-1] == ("tour_ended", "dismissed")
    assert tell(server, product, message("flow_started", "u_1", "two")) == ["ok"]
    assert server.session(product, "s")["active_tour_id"] == "bulk-tour"


def test_messages_that_come_again_change_nothing(touring: tuple[Server, str]) -> None:
    server, product = touring
    server.post(product, *saves("s", count=1))
    story = [message(c, "u_1") for c in ("flow_started", "flow_step_seen", "flow_ended")]
    assert tell(server, product, *story) == ["ok"] * 3
    assert tell(server, product, *story) == ["duplicate"] * 3
    assert len(tours(server, product)) == 3


@pytest.mark.parametrize("first", ["toast", "option"])
def test_a_tour_that_the_nudge_started_is_not_started_again(touring: tuple[Server, str], first: str) -> None:
    server, product = touring
    (decision,) = server.post(product, *saves("s"))["decisions"]
    if first == "toast":
        server.http.post(f"/p/{product}/tour/start", json={"user_id": "u_1", "tour_id": "bulk-tour"})
    else:
        where = f"/v1/products/{product}/nudges/{decision['nudge_id']}/options"
        server.http.post(where, json={"option_id": "show"})
    due = server.session(product, "s")["timeout_due_at"]
    assert tell(server, product, message("flow_started", "u_1")) == ["running"]
    assert server.session(product, "s")["timeout_due_at"] == due
    assert tell(server, product, message("flow_completed", "u_1")) == ["ok"]
    assert tours(server, product) == [("tour_started", None), ("tour_ended", "completed")]
    why = server.get(f"/v1/products/{product}/decisions/{decision['nudge_id']}")
    told = [step["text"] for step in why["trace"]]
    assert "Tour bulk-tour ended: completed (told by usertour)." in told


def test_users_without_a_session_other_topics_and_nonsense_are_answered_with_200(
    touring: tuple[Server, str],
) -> None:
    server, product = touring
    assert tell(server, product, message("flow_started", "nobody")) == ["no_session"]
    server.post(product, *saves("s", count=1))
    others = [
        message("page_viewed", "u_1"),
        message("checklist_started", "u_1"),
        {"id": "whmsg_2", "type": "content.published", "data": {"content": {"id": "c"}}},
        {"id": "whmsg_3", "type": "user.deleted", "data": None},
    ]
    assert tell(server, product, *others) == ["ignored"] * 4
    bad = message("flow_started", "u_1")
    bad["data"]["event"]["userId"] = {"deep": ["<script>"]}
    assert tell(server, product, bad, [], {}, "text") == ["rejected"] * 4
    raw = b"not json"
    headers = {"X-Usertour-Signature": signature(SECRET, int(time.time()), raw)}
    answer = server.http.post(f"/webhook/usertour/{product}", content=raw, headers=headers)
    assert answer.json() == {"status": "rejected"}
    assert tours(server, product) == []


CODES = ("flow_started", "flow_step_seen", "flow_step_completed", "flow_completed", "flow_ended")


def test_in_any_order_and_twice_an_ended_tour_runs_no_more(sqlite_ledger: Ledger, run: Run) -> None:
    """Law, over every order of a run's messages, each sent twice at once: afterwards no tour runs, what is
    recorded last of the outcome is the completion, and the ledger replays."""

    async def story() -> None:
        import asyncio

        async with inside.serving(sqlite_ledger) as service:
            await service.put_config("acme", config("acme"))
            for n, order in enumerate(
                itertools.permutations(("flow_started", "flow_completed", "flow_ended"))
            ):
                await inside.post(
                    service, "acme", fact("chat_message", f"s{n}", f"u{n}", role="user", text="?")
                )
                for code in order:
                    moved = usertour.parse(message(code, f"u{n}", f"run{n}"))
                    assert moved is not None
                    twice = (usertour.take(service, "acme", moved), usertour.take(service, "acme", moved))
                    told = [answer["status"] for answer in await asyncio.gather(*twice)]
                    assert told.count("ok") <= 1, (order, told)
                state = (await service.recorder.session("acme", f"s{n}")).state
                assert state.active_tour_id is None, order
                rows = [r for r in await inside.stored(sqlite_ledger, "acme") if r.stream == f"session-s{n}"]
                ends = [json.loads(r.data).get("outcome") for r in rows if r.type == "tour_ended"]
                assert ends[-1] == "completed" and len(ends) <= 2, order

    run(story())


def test_a_start_and_an_end_at_once(ledger: Ledger, run: Run) -> None:
    """In one group of the recorder: whichever is first, the tour does not run afterwards."""

    async def story() -> None:
        import asyncio

        async with inside.serving(ledger) as service:
            await service.put_config("acme", config("acme"))
            for n in range(6):
                await inside.post(
                    service, "acme", fact("chat_message", f"s{n}", f"u{n}", role="user", text="?")
                )
                codes = ("flow_ended", "flow_started") if n % 2 else ("flow_started", "flow_ended")
                moves = [usertour.parse(message(code, f"u{n}", f"run{n}")) for code in codes]
                await asyncio.gather(*(usertour.take(service, "acme", m) for m in moves if m is not None))
                assert (await service.recorder.session("acme", f"s{n}")).state.active_tour_id is None

    run(story())


def test_the_ledger_that_webhooks_leave_is_clean(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url, vendor_secret=SECRET)
    server.put(config("acme", channels=CHANNELS))
    server.post("acme", *saves("s"))
    tell(server, "acme", *[message(code, "u_1") for code in CODES], message("flow_started", "u_1"))
    server.stop()
    for arguments in (["replay"], ["rebuild", "--dry-run"]):
        done = command(*arguments, "--database-url", sqlite_url)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("would change 0 rows")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("id", "codeName", "userId", "sessionId", "contentId", "attributes", "createdAt")


@given(JSON | st.fixed_dictionaries({"type": JSON, "data": st.fixed_dictionaries({"event": JSON})}))
@example({"type": "x", "data": {"event": {"codeName": "flow_started"}}})
def test_nothing_that_is_sent_breaks_the_reading(body: Any) -> None:
    try:
        usertour.parse(body)
    except InvalidInput as error:
        assert isinstance(error, NudgeledgerError)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.sampled_from(CODES))
def test_nor_does_a_field_of_another_form(changes: dict[str, Any], code: str) -> None:
    body = message(code, "u_1")
    body["data"]["event"] |= changes | {"codeName": code}
    try:
        moved = usertour.parse(body)
    except InvalidInput:
        return
    assert moved is not None
    moved.event()
    assert 0 < len(moved.event_id) <= 200
