"""What Inkeep hosts call, as their front ends call it.

The widget itself draws only what the host hands it, so the calls are made here as the published recipe makes
them: context before it mounts, guidance beside it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.serving import Server, config, fact, product_id, saves, trigger, until

FRAME = {"type", "session_id", "message", "target", "tour_id", "reason", "created_at"}
OFFER = FRAME - {"type"} | {"id", "user_id", "email"}
SAVE = {"type": "save", "title": "Save changes"}


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def inkeep(server: Server) -> tuple[Server, str]:
    product = product_id()
    row = trigger(target="[data-guide='bulk']", limits={"per_session": 1})
    tours = [{"id": "bulk-tour", "user_tour_id": "flow_1"}]
    server.put(config(product, triggers=[row], tours=tours))
    return server, product


def post(server: Server, product: str, path: str, body: Any) -> Any:
    return server.http.post(f"/p/{product}{path}", json=body)


def test_actions_bring_an_offer_that_the_chat_accepts(inkeep: tuple[Server, str]) -> None:
    """The recipe from end to end: guidance stream, actions, offer, accepted, guidance, tour."""
    server, product = inkeep
    with server.stream(f"/p/{product}/guidance/stream/ik", wait=False) as frames:
        ready = frames.next()
        assert ready.event == "ready"
        assert json.loads(ready.data).keys() == FRAME
        first = post(server, product, "/demo/actions", {"session_id": "ik", "actions": [SAVE]}).json()
        assert first == {"stored": 1, "pending_offer": False, "offer": None}
        body = {"session_id": "ik", "user_id": "u_9", "email": "ana@example.com", "actions": [SAVE, SAVE]}
        second = post(server, product, "/demo/actions", body).json()
        assert (second["stored"], second["pending_offer"]) == (2, True)
        offer = second["offer"]
        assert offer.keys() == OFFER
        assert (offer["email"], offer["user_id"], offer["session_id"]) == ("ana@example.com", "u_9", "ik")
        assert (offer["target"], offer["tour_id"]) == ("[data-guide='bulk']", "bulk-tour")
        told = frames.next()
        assert told.event == "guidance_offer"
        said = json.loads(told.data)
        assert said.keys() == FRAME
        assert said["message"] == offer["message"] == "Try bulk edit?"
        assert said["reason"] == server.get(f"/v1/products/{product}/decisions/{offer['id']}")["summary"]

        other = post(server, product, "/inkeep/reply", {"session_id": "ik", "offer_id": "another"})
        assert other.status_code == 409
        accepted = post(
            server, product, "/inkeep/reply", {"session_id": "ik", "offer_id": offer["id"]}
        ).json()
        assert accepted["accepted"] is True
        assert accepted["guidance"].keys() == FRAME
        start = frames.next()
        assert start.event == "guidance_start"
        assert json.loads(start.data)["tour_id"] == "bulk-tour"
    again = post(server, product, "/inkeep/reply", {"session_id": "ik"})
    assert again.status_code == 404
    listed = [
        e["type"] for e in server.events(product, "ik") if e["type"] not in ("action", "nudge_withheld")
    ]
    assert listed == ["user_identified", "nudge_offered", "chat_message", "tour_started"]
    assert server.session(product, "ik")["active_tour_id"] == "bulk-tour"
    polled = post(server, product, "/demo/actions", {"session_id": "ik", "actions": []}).json()
    assert polled == {"stored": 0, "pending_offer": False, "offer": None}


def test_the_same_address_is_said_once(inkeep: tuple[Server, str]) -> None:
    server, product = inkeep
    body = {"session_id": "m", "user_id": "u_1", "email": "a@b.example", "actions": [SAVE]}
    assert [post(server, product, "/demo/actions", body).json()["stored"] for _ in range(2)] == [1, 1]
    assert [e["type"] for e in server.events(product, "m")].count("user_identified") == 1


def test_context_of_a_session(inkeep: tuple[Server, str]) -> None:
    server, product = inkeep
    unknown = server.get(f"/p/{product}/context/nobody%2Fhere")
    assert unknown == {"context": "", "has_activity": False, "session_id": "nobody/here"}
    server.post(product, *saves("ik"))
    known = server.get(f"/p/{product}/context/ik")
    assert known["has_activity"] is True
    assert "Save changes" in known["context"]
    assert server.http.get(f"/v1/products/{product}/sessions/nobody%2Fhere").status_code == 404


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"session_id": "x", "actions": [{"type": "save"}, SAVE]}, ["actions[0].title"]),
        ({"session_id": "x", "actions": [7, {"type": 1, "title": ""}]}, ["actions[0]", "actions[1].type"]),
        ({"session_id": "x", "actions": [{**SAVE, "timestamp_start": 1e12}]}, ["actions[0].timestamp_start"]),
        ({"session_id": "x", "actions": "no"}, ["actions"]),
        ({"session_id": "x"}, ["actions"]),
        ({"session_id": "x", "actions": [SAVE], "email": 5}, ["email"]),
    ],
)
def test_bad_actions_are_refused_whole_with_their_paths(
    inkeep: tuple[Server, str], body: dict[str, Any], paths: list[str]
) -> None:
    server, product = inkeep
    answer = post(server, product, "/demo/actions", body)
    assert answer.status_code == 422, answer.text
    assert {error["path"] for error in answer.json()["errors"]} >= set(paths)
    assert server.http.get(f"/v1/products/{product}/sessions/x").status_code == 404


def test_what_names_no_session_is_refused(inkeep: tuple[Server, str]) -> None:
    server, product = inkeep
    for path in ("/demo/actions", "/inkeep/reply"):
        assert post(server, product, path, {"actions": [SAVE]}).status_code == 400
        assert post(server, product, path, {"session_id": "a\x07", "actions": [SAVE]}).status_code == 400
        assert post(server, product, path, ["no object"]).status_code == 422
    assert post(server, product, "/inkeep/reply", {"session_id": "never seen"}).status_code == 404
    assert server.http.get(f"/p/{product}/guidance/stream/{'x' * 201}").status_code == 400


def test_one_visible_toast_beside_other_streams(inkeep: tuple[Server, str]) -> None:
    """Where a nudge stream of the user listens, guidance shows no offer; when that drops, the newest of the
    session's guidance streams does."""
    server, product = inkeep
    path = f"/p/{product}/guidance/stream/ik"
    with (
        server.stream(path, wait=False) as older,
        server.stream(path, wait=False) as newer,
    ):
        assert older.next().event == newer.next().event == "ready"
        with server.legacy(product, "u_1") as toast:
            (decision,) = server.post(product, *saves("ik"))["decisions"]
            assert json.loads(toast.next().data)["nudge_id"] == decision["nudge_id"]
            assert newer.next().event == "heartbeat"
        assert _next(newer) == "guidance_offer"
        with server.legacy(product, "u_1") as late:
            late.quiet()  # on a screen already
        assert older.next().event == "heartbeat"
    with server.legacy(product, "u_1") as after:
        assert json.loads(after.next().data)["nudge_id"] == decision["nudge_id"]
    until(lambda: server.get(f"/v1/products/{product}/decisions/{decision['nudge_id']}")["delivery"])


def test_who_connects_late_or_again_is_told_what_is_still_on(inkeep: tuple[Server, str]) -> None:
    server, product = inkeep
    (decision,) = server.post(product, *saves("ik", user=None))["decisions"]
    with server.stream(f"/p/{product}/guidance/stream/ik", wait=False) as frames:
        assert frames.next().event == "ready"
        offer = frames.next()
        assert (offer.event, offer.id) == ("guidance_offer", str(decision["position"]))
    post(server, product, "/inkeep/reply", {"session_id": "ik"})
    with server.stream(f"/p/{product}/guidance/stream/ik", wait=False, last=offer.id) as frames:
        assert frames.next().event == "ready"
        assert frames.next().event == "guidance_start"
    with server.stream(f"/p/{product}/guidance/stream/ik", wait=False) as frames:
        assert frames.next().event == "ready"
        assert frames.next().event == "heartbeat"


def test_a_nudge_put_away_is_no_open_offer(inkeep: tuple[Server, str]) -> None:
    server, product = inkeep
    (decision,) = server.post(product, *saves("ik"))["decisions"]
    server.post(product, fact("nudge_dismissed", "ik", nudge_id=decision["nudge_id"]))
    assert post(server, product, "/inkeep/reply", {"session_id": "ik"}).status_code == 404


IDS = st.sampled_from(["ik", "", "\x00", "\ud800", "a" * 300, "u_1", "..", "☃", "no\nline"])
NAMES = IDS.filter(lambda name: name != "☃")  # a refusal's path names keys, and repeats no value
VALUES = st.recursive(
    IDS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "session_id",
    "user_id",
    "email",
    "actions",
    "offer_id",
    "sender_id",
    "body",
    "trigger_id",
    "option_id",
)
BODIES = st.dictionaries(st.sampled_from((*KEYS, "text", "event_id", "product_id")), VALUES, max_size=6)
PATHS = ("/demo/actions", "/inkeep/reply", "/proactive/inject", "/v1/products/{}/nudges/n1/options")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), body=BODIES | VALUES)
def test_whatever_is_sent_is_answered_clearly(sqlite_server: Server, path: str, body: Any) -> None:
    """Never a 500, and a refusal is a problem that repeats nothing of what was sent."""
    sent = json.dumps(body)
    where = path.format("hostile") if "{}" in path else f"/p/hostile{path}"
    server = sqlite_server
    if server.http.get("/v1/products/hostile/config").status_code != 200:
        server.put(config("hostile"))
    answer = server.http.post(where, content=sent)
    assert answer.status_code in (200, 400, 404, 409, 422), (answer.status_code, sent, answer.text)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert "☃" not in answer.text


def _next(frames: Any) -> str:
    for _ in range(10):
        kind: str = frames.next().event
        if kind != "heartbeat":
            return kind
    raise AssertionError("nothing but heartbeats")
