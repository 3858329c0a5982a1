"""What existing hosts call: tours, the product of a request, PostHog's webhook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Launch
from tests.api.serving import Server, action, config, product_id, saves

RECORDED = Path(__file__).parents[1] / "data" / "posthog" / "flat.jsonl"


def tour(server: Server, product: str, call: str, **body: Any) -> Any:
    return server.http.post(f"/p/{product}/tour/{call}", json={"user_id": "u_1"} | body)


def test_a_tour_runs_through_by_flow_id(server: Server, product: str) -> None:
    server.post(product, action("s"))
    started = tour(server, product, "start", tour_id="flow_1")
    assert started.status_code == 200
    assert started.json() == {"status": "ok", "flow_id": "flow_1", "tour_id": "bulk-tour"}
    assert server.session(product, "s")["active_tour_id"] == "bulk-tour"
    assert tour(server, product, "step", step=2).json() == {"status": "ok"}
    assert tour(server, product, "end", outcome="completed").json() == {"status": "ok"}
    assert server.session(product, "s")["active_tour_id"] is None
    kinds = [e["type"] for e in server.events(product, "s")]
    assert kinds == ["action", "tour_started", "tour_step", "tour_ended"]


def test_a_tour_is_found_by_registry_id_too(server: Server, product: str) -> None:
    server.post(product, action("s"))
    started = tour(server, product, "start", tour_id="bulk-tour").json()
    assert started == {"status": "ok", "flow_id": "flow_1", "tour_id": "bulk-tour"}


def test_a_tour_start_answers_the_open_offer_in_the_session_that_has_it(server: Server, product: str) -> None:
    server.post(product, *saves("offered"))
    server.post(product, action("newer"))
    tour(server, product, "start", tour_id="bulk-tour")
    state = server.session(product, "offered")
    assert (state["active_tour_id"], state["open_nudge_id"]) == ("bulk-tour", None)
    assert server.session(product, "newer")["active_tour_id"] is None


def test_tours_of_users_without_a_session_say_so(server: Server, product: str) -> None:
    for step in ("step", "end"):
        assert tour(server, product, step, user_id="nobody").json() == {"status": "no_session"}
    assert tour(server, product, "start", user_id="nobody", tour_id="flow_1").json()["status"] == "no_session"


@pytest.mark.parametrize(
    ("step", "body", "status"),
    [
        ("start", {}, 400),
        ("start", {"tour_id": "no-such-tour"}, 404),
        ("start", {"tour_id": "flow_1", "user_id": ""}, 400),
        ("start", {"tour_id": "flow_1", "user_id": None}, 400),
        ("start", {"tour_id": "flow_1", "user_id": "a\nb"}, 400),
        ("start", {"tour_id": 7}, 400),
        ("step", {"step": {"deep": 1}}, 422),
        ("step", {"step": "x" * 501}, 422),
        ("end", {"outcome": "maybe"}, 400),
        ("end", {"session_id": 7}, 400),
    ],
)
def test_bad_tour_calls_are_refused(
    sqlite_server: Server, product: str, step: str, body: dict[str, Any], status: int
) -> None:
    sqlite_server.post(product, action("s"))
    answer = tour(sqlite_server, product, step, **body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert sqlite_server.session(product, "s")["version"] == 1


def test_the_prefix_works_for_every_path(sqlite_server: Server, product: str) -> None:
    assert sqlite_server.http.get(f"/p/{product}/healthz").status_code == 200
    assert sqlite_server.http.get(f"/p/{product}/v1/products/{product}/config").status_code == 200
    assert sqlite_server.http.get(f"/p/{product}").status_code == 404


def test_the_product_of_a_request_is_found_in_order(sqlite_url: str, launch: Launch) -> None:
    """Mount, query, origin, default, only one, else 400."""
    server = launch(sqlite_url)

    def asked(query: str = "", mount: str = "", origin: str | None = None) -> Any:
        headers = {"origin": origin} if origin else {}
        body = {"user_id": "u", "tour_id": "mine"}
        return server.http.post(f"{mount}/tour/start{query}", json=body, headers=headers)

    def put(name: str, flow: str, **more: Any) -> None:
        server.put(config(name, tours=[{"id": "mine", "user_tour_id": flow}], triggers=[], **more))

    none = asked()
    assert none.status_code in (400, 404)
    put("one", "flow-one")
    assert asked().json()["flow_id"] == "flow-one"  # the only one
    put("two", "flow-two", origins=["https://two.example"])
    put("three", "flow-three")
    several = asked()
    assert several.status_code == 400
    assert several.json()["errors"][0]["path"] == "product_id"
    assert asked(origin="https://unknown.example").status_code == 400
    assert asked(origin="https://two.example").json()["flow_id"] == "flow-two"
    assert asked("?product_id=one", origin="https://two.example").json()["flow_id"] == "flow-one"
    assert asked("?product_id=one", "/p/three", "https://two.example").json()["flow_id"] == "flow-three"
    server.stop()
    again = launch(sqlite_url, default_product="three")
    server = again
    assert asked().json()["flow_id"] == "flow-three"
    assert asked(origin="https://two.example").json()["flow_id"] == "flow-two"


def test_posthogs_recorded_bodies_are_taken_once_however_often_they_come(server: Server) -> None:
    product = product_id()
    server.put(config(product))
    bodies = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    first = [server.http.post(f"/webhook/{product}", json=body) for body in bodies]
    assert {a.status_code for a in first} == {200}
    answers = [a.json() for a in first]
    assert all(a.keys() == {"accepted", "duplicates", "merged", "ignored", "rejected"} for a in answers)
    taken = sum(a["accepted"] for a in answers)
    assert taken > 15
    before = server.http.get("/metrics").text
    again = [server.http.post(f"/webhook/{product}", json=body).json() for body in bodies]
    assert sum(a["accepted"] for a in again) == 0
    known = sum(a["duplicates"] + a["merged"] for a in answers)
    assert sum(a["duplicates"] + a["merged"] for a in again) == taken + known
    assert [a["ignored"] for a in again] == [a["ignored"] for a in answers]
    assert _outside(before) == _outside(server.http.get("/metrics").text)


def _outside(metrics: str) -> str:
    return next(line for line in metrics.splitlines() if 'events_total{origin="outside"}' in line)


def test_a_webhook_body_that_cannot_be_read_is_noted_and_refused(server: Server, product: str) -> None:
    answer = server.http.post(f"/webhook/{product}", json={"event": "$pageview", "timestamp": "never"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_browsers_of_other_origins_may_call(sqlite_server: Server, product: str) -> None:
    headers = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = sqlite_server.http.options(f"/v1/products/{product}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in ("*", "https://app.example")
