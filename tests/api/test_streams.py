"""Nudges on the wire, over real connections."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests.api.conftest import Launch
from tests.api.serving import Server, action, config, fact, product_id, saves, trigger, until

ONCE = [trigger(limits={"per_session": 1})]
NUDGE = {"nudge_id", "trigger_id", "body", "session_id", "tours", "options", "expires_at"}


def raw_stream(server: Server, path: str, small: bool = False) -> socket.socket:
    conn = socket.socket()
    if small:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    conn.settimeout(10)
    conn.connect(("127.0.0.1", server.port))
    conn.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".encode())
    return conn


def read_until(conn: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        more = conn.recv(4096)
        assert more, found
        found += more
    return found


def data(event: ServerSentEvent) -> Any:
    return json.loads(event.data)


def test_the_bytes_on_the_wire(server: Server, product: str) -> None:
    """Status, headers, the retry line first, a frame of id, event and data, a bare comment to keep alive."""
    with raw_stream(server, f"/v1/products/{product}/nudges/stream?user_id=u_1&tab_id=t") as conn:
        head = read_until(conn, b"retry: 3000\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream" in head.lower()
        assert b"cache-control: no-store" in head.lower()
        quiet_time = read_until(conn, b"keep-alive\n")
        assert b": keep-alive\n" in quiet_time
        assert b"\n\n" not in quiet_time.replace(b"\r\n", b"")
        (decision,) = server.post(product, *saves("s"))["decisions"]
        frame = read_until(conn, b"\n\n")
        lines = frame.replace(b"\r\n", b"\n").split(b"\n")
        assert b"id: %d" % decision["position"] in lines
        assert b"event: proactive" in lines
        (payload,) = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
        assert payload.keys() == NUDGE
        assert payload["nudge_id"] == decision["nudge_id"]
        assert payload["tours"] == [
            {"id": "bulk-tour", "flow_id": "flow_1", "label": payload["tours"][0]["label"]}
        ]
        assert payload["options"][0]["id"] == "yes"


def test_the_published_client_reads_no_empty_event(server: Server, product: str) -> None:
    """Keep-alives and the retry line are nothing to httpx-sse."""
    with server.legacy(product, "u_1") as frames:
        time.sleep(1.2)  # two keep-alives
        (decision,) = server.post(product, *saves("s"))["decisions"]
        event = frames.next()
        assert (event.event, event.id) == ("proactive", str(decision["position"]))
        assert data(event)["nudge_id"] == decision["nudge_id"]


def test_who_resumes_gets_what_is_still_open_and_nothing_else(server: Server) -> None:
    product = product_id()
    server.put(
        config(product, session={"interaction_timeout_s": 0.2, "cooldown_period_s": 0.1}, triggers=ONCE)
    )
    (first,) = server.post(product, *saves("s"))["decisions"]
    until(lambda: server.session(product, "s")["current_state"] == "thinking")
    with server.native(product, "u_1", last=str(first["position"] - 1)) as frames:
        event = frames.next()
        assert (event.id, data(event)["nudge_id"]) == (str(first["position"]), first["nudge_id"])
    server.post(product, fact("nudge_dismissed", "s", nudge_id=first["nudge_id"]))
    with server.native(product, "u_1", last=str(first["position"] - 1)) as frames:
        frames.quiet()
    with server.native(product, "u_1", last="²; not a number") as frames:
        frames.quiet()


def test_a_nudge_waits_for_a_connection_until_its_session_times_out(server: Server) -> None:
    product = product_id()
    rules = config(product, session={"interaction_timeout_s": 1.5, "cooldown_period_s": 0.1}, triggers=ONCE)
    server.put(rules)
    (waiting,) = server.post(product, *saves("s"))["decisions"]
    for open_stream in (server.native, server.legacy):
        with open_stream(product, "u_1") as frames:
            assert data(frames.next())["nudge_id"] == waiting["nudge_id"]
    until(lambda: server.session(product, "s")["current_state"] == "thinking")
    for open_stream in (server.native, server.legacy):
        with open_stream(product, "u_1") as frames:
            frames.quiet()


def test_the_first_tab_that_shows_a_nudge_closes_it_in_the_others(server: Server, product: str) -> None:
    with server.native(product, "u_1", tab="a") as a, server.native(product, "u_1", tab="b") as b:
        (decision,) = server.post(product, *saves("s"))["decisions"]
        nudge = decision["nudge_id"]
        assert data(a.next())["nudge_id"] == data(b.next())["nudge_id"] == nudge
        server.post(product, fact("nudge_shown", "s", nudge_id=nudge, tab_id="a"))
        server.post(product, fact("nudge_shown", "s", nudge_id=nudge, tab_id="b"))
        closed = b.next()
        assert closed.event == "nudge_closed"
        assert data(closed)["nudge_id"] == nudge
        with server.native(product, "u_1", tab="c") as c:  # shown: nobody else needs it
            c.quiet()
        a.quiet()  # it was not told to close its own


@pytest.mark.parametrize(
    ("kind", "extra", "reason"),
    [
        ("option_clicked", {"option_id": "yes"}, "answered"),
        ("tour_started", {"tour_id": "bulk-tour"}, "answered"),
        ("chat_message", {"role": "user", "text": "how?"}, "answered"),
        ("nudge_dismissed", {"by": "user"}, "dismissed"),
    ],
)
def test_what_ends_an_offer_closes_it_on_every_stream(
    server: Server, product: str, kind: str, extra: dict[str, str], reason: str
) -> None:
    with server.native(product, "u_1") as frames:
        (decision,) = server.post(product, *saves("s"))["decisions"]
        frames.next()
        if kind == "nudge_dismissed":
            extra = extra | {"nudge_id": decision["nudge_id"]}
        server.post(product, fact(kind, "s", **extra))
        closed = frames.next()
        assert closed.event == "nudge_closed"
        assert data(closed) == {"nudge_id": decision["nudge_id"], "reason": reason}


def test_a_newer_offer_to_the_user_closes_the_older(server: Server) -> None:
    product = product_id()
    server.put(
        config(
            product,
            session={"interaction_timeout_s": 0.2, "cooldown_period_s": 0.1},
            triggers=[trigger(cooldown_s=0.1)],
        )
    )
    with server.native(product, "u_1") as frames:
        (first,) = server.post(product, *saves("s1"))["decisions"]
        frames.next()
        until(lambda: server.session(product, "s1")["current_state"] == "thinking")
        (second,) = server.post(product, *saves("s2"))["decisions"]
        assert second["outcome"] == "offered"
        told = {event.event: data(event)["nudge_id"] for event in (frames.next(), frames.next())}
        assert told == {"nudge_closed": first["nudge_id"], "proactive": second["nudge_id"]}


def test_a_legacy_nudge_goes_to_the_newest_connection_and_to_the_next_when_that_drops(
    server: Server, product: str
) -> None:
    with server.legacy(product, "u_1") as older:
        with server.legacy(product, "u_1") as newer:
            (decision,) = server.post(product, *saves("s"))["decisions"]
            assert data(newer.next())["nudge_id"] == decision["nudge_id"]
            with server.legacy(product, "u_1") as newest:  # the nudge is on a screen already
                newest.quiet()
        assert data(older.next())["nudge_id"] == decision["nudge_id"]


def test_a_legacy_nudge_that_was_seen_stays_where_it_is(server: Server, product: str) -> None:
    with server.legacy(product, "u_1") as older:
        with server.legacy(product, "u_1") as newer:
            (decision,) = server.post(product, *saves("s"))["decisions"]
            newer.next()
            server.post(product, fact("nudge_shown", "s", nudge_id=decision["nudge_id"]))
        until(lambda: server.streams() == 1)
        older.quiet()


def test_a_user_gets_no_other_users_nudges_and_no_other_products(server: Server, product: str) -> None:
    other = product_id()
    server.put(config(other))
    with server.native(product, "u_2") as stranger, server.native(other, "u_1") as elsewhere:
        server.post(product, *saves("s", "u_1"))
        stranger.quiet()
        elsewhere.quiet()


def test_a_stream_needs_a_user(sqlite_server: Server, product: str) -> None:
    answer = sqlite_server.http.get(f"/v1/products/{product}/nudges/stream")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "user_id"
    long = sqlite_server.http.get(f"/v1/products/{product}/nudges/stream", params={"user_id": "x" * 201})
    assert long.status_code == 422


def test_a_connection_that_ends_is_forgotten(server: Server, product: str) -> None:
    before = server.streams()
    for _ in range(5):
        with server.native(product, "u_1"):
            pass
    until(lambda: server.streams() == before)


def test_a_client_that_never_reads_is_cut_off_and_others_are_served(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url, stalled_s="1")
    rules = [
        trigger(
            "big",
            cooldown_s=0.001,
            criteria={"type": "action_count", "at_least": 1},
            tours=[],
            limits={"per_session": 1},
            target="x" * 10_000,
        )
    ]
    server.put(
        config("acme", session={"interaction_timeout_s": 0.001, "cooldown_period_s": 0.001}, triggers=rules)
    )
    sleeper = raw_stream(server, "/v1/products/acme/nudges/stream?user_id=u_1&tab_id=asleep", small=True)
    until(lambda: server.streams() == 1)
    before = _memory(server.pid)
    with server.native("acme", "u_1", tab="awake") as awake:
        for n in range(1500):
            for decision in server.post("acme", action(f"s{n}"))["decisions"]:
                while (
                    decision["outcome"] == "offered"
                    and data(awake.next())["nudge_id"] != decision["nudge_id"]
                ):
                    pass
            if n % 50 == 0 and server.streams() == 1:
                break
        until(lambda: server.streams() == 1)
        assert _memory(server.pid) - before < 60_000_000
    sleeper.settimeout(10)
    assert server.post("acme", action("after", user="u_2"))["accepted"] == 1
    sleeper.close()


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_the_server_ends_its_streams_when_it_stops(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url)
    server.put(config("acme"))
    with server.native("acme", "u_1") as frames:
        started = time.monotonic()
        assert server.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 3
        with pytest.raises((StopIteration, httpx.TransportError)):
            frames.next()
    assert "Traceback" not in server.log.read_text()
