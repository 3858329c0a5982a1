"""The native API, request by request."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.api.serving import Server, action, config, fact, product_id, saves, trigger, until

RECEIPT = {"accepted", "duplicates", "conflicting", "rejected", "last_position", "decisions"}
SESSION = {
    "session_id",
    "user_id",
    "version",
    "at",
    "current_state",
    "cooldown_active",
    "cooldown_until",
    "last_interaction_at",
    "timeout_due_at",
    "visual_guidance_active",
    "active_tour_id",
    "conversation_id",
    "open_nudge_id",
    "config_revision",
}
DECISION = {
    "decision_id",
    "nudge_id",
    "outcome",
    "trigger_id",
    "session_id",
    "user_id",
    "at",
    "position",
    "reason",
    "summary",
}
EXPLANATION = DECISION | {
    "config_revision",
    "engine_version_then",
    "engine_version_now",
    "reproduced",
    "state",
    "read",
    "criteria",
    "gates",
    "blocked_by",
    "would_fire_if",
    "other_triggers",
    "tours",
    "delivery",
    "responses",
}


def test_a_post_answers_with_what_was_stored_and_decided(server: Server, product: str) -> None:
    receipt = server.post(product, *saves("s"))
    assert receipt.keys() == RECEIPT
    assert (receipt["accepted"], receipt["duplicates"], receipt["conflicting"]) == (3, 0, 0)
    assert receipt["rejected"] == []
    (decision,) = receipt["decisions"]
    assert decision.keys() == DECISION
    assert (decision["outcome"], decision["reason"], decision["trigger_id"]) == ("offered", "ok", "saves")
    assert decision["nudge_id"] == decision["decision_id"]
    assert (decision["session_id"], decision["user_id"]) == ("s", "u_1")
    assert decision["position"] <= receipt["last_position"]


def test_the_same_request_again_gives_the_same_positions_and_decisions(server: Server, product: str) -> None:
    batch = saves("s")
    first = server.post(product, *batch)
    again = server.post(product, *batch)
    assert (again["accepted"], again["duplicates"], again["conflicting"]) == (0, 3, 0)
    assert again["decisions"] == first["decisions"]
    stored = [e for e in server.events(product, "s") if e["origin"] == "outside"]
    assert len(stored) == 3
    assert again["last_position"] == max(e["position"] for e in stored)
    assert server.post(product, *batch)["last_position"] == again["last_position"]


def test_a_request_that_partly_exists_appends_the_rest(server: Server, product: str) -> None:
    batch = saves("s")
    server.post(product, batch[0])
    receipt = server.post(product, *batch)
    assert (receipt["accepted"], receipt["duplicates"]) == (2, 1)
    assert [d["outcome"] for d in receipt["decisions"]] == ["offered"]
    stored = [e["event_id"] for e in server.events(product, "s") if e["origin"] == "outside"]
    assert stored == [e["event_id"] for e in batch]


def test_an_id_twice_in_one_request_is_stored_once(server: Server, product: str) -> None:
    one = action("s")
    receipt = server.post(product, one, one, {**one, "session_id": "elsewhere"})
    assert (receipt["accepted"], receipt["duplicates"], receipt["conflicting"]) == (1, 2, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"type": "click", "title": "Other"}},
        {"data": {"type": "click", "title": "Save changes", "raw_url": "https://app.example/other"}},
        {"session_id": "other"},
        {"user_id": "u_2"},
        {"type": "reaction", "data": {"value": "+1"}},
    ],
    ids=["title", "sealed address", "session", "user", "type"],
)
def test_other_content_under_a_known_id_changes_nothing_and_counts_as_conflicting(
    server: Server, product: str, change: dict[str, object]
) -> None:
    one = action("s")
    server.post(product, one)
    before = server.events(product, "s")
    receipt = server.post(product, one | change)
    assert (receipt["accepted"], receipt["duplicates"], receipt["conflicting"]) == (0, 1, 1)
    assert server.events(product, "s") == before
    assert server.post(product, one)["conflicting"] == 0


def test_one_bad_event_refuses_an_atomic_request_whole(server: Server, product: str) -> None:
    bad = action("s", type="no_such_type")
    answer = server.http.post(f"/v1/products/{product}/events", json={"events": [action("s"), bad]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert [e["path"] for e in problem["errors"]] == ["events[1].type"]
    assert server.http.get(f"/v1/products/{product}/sessions/s").status_code == 404


def test_a_request_that_is_not_atomic_keeps_its_good_events(server: Server, product: str) -> None:
    bad = action("s", type="no_such_type")
    receipt = server.post(product, action("s"), bad, action("s"), atomic=False)
    assert receipt["accepted"] == 2
    (rejected,) = receipt["rejected"]
    assert rejected.keys() == {"index", "path", "detail"}
    assert (rejected["index"], rejected["path"]) == (1, "events[1].type")
    assert server.session(product, "s")["version"] == 2


def test_events_without_an_id_get_one(server: Server, product: str) -> None:
    made = {k: v for k, v in action("s").items() if k != "event_id"}
    server.post(product, made, made)
    ids = {e["event_id"] for e in server.events(product, "s")}
    assert len(ids) == 2
    assert all(len(i) == 36 and i[14] == "7" for i in ids)


def test_a_request_may_name_several_sessions_and_a_user_without_one(server: Server, product: str) -> None:
    identified = {k: v for k, v in fact("user_identified", "x", "u_9").items() if k != "session_id"}
    receipt = server.post(product, *saves("s1", "u_1"), *saves("s2", "u_2"), identified)
    assert receipt["accepted"] == 7
    assert sorted(d["session_id"] for d in receipt["decisions"]) == ["s1", "s2"]


def test_a_session_is_told_now_as_of_a_version_and_as_of_an_instant(server: Server, product: str) -> None:
    server.post(product, action("s"), action("s"))
    server.post(product, action("s"))
    now = server.session(product, "s")
    assert now.keys() == SESSION
    assert now["current_state"] == "proactive_assistance"
    assert now["open_nudge_id"] is not None
    assert now["timeout_due_at"] is not None
    assert now["version"] == 4
    before = server.session(product, "s", version=3)
    assert before.keys() == SESSION
    assert (before["version"], before["current_state"], before["open_nudge_id"]) == (3, "thinking", None)
    first = server.events(product, "s")[0]["at"]
    then = server.session(product, "s", at=first)
    assert (then["version"], then["at"], then["current_state"]) == (2, first, "thinking")
    early = server.http.get(f"/v1/products/{product}/sessions/s", params={"at": "2001-01-01T00:00:00Z"})
    assert early.status_code == 404


def test_a_chat_message_moves_the_session_and_a_tour_is_told(server: Server, product: str) -> None:
    server.post(product, fact("chat_message", "s", role="user", text="hello", conversation_id="c_1"))
    state = server.session(product, "s")
    assert state["current_state"] == "reactive_assistance"
    server.post(product, fact("tour_started", "s", tour_id="flow_1"))
    state = server.session(product, "s")
    assert (state["visual_guidance_active"], state["active_tour_id"]) == (True, "bulk-tour")


def test_events_of_a_session_are_paged_by_version(server: Server, product: str) -> None:
    server.post(product, *[action("s", f"Open {n}") for n in range(5)])
    path = f"/v1/products/{product}/sessions/s/events"
    first = server.get(path, limit=2)
    assert first.keys() == {"events", "next"}
    assert [e["version"] for e in first["events"]] == [1, 2]
    second = server.get(path, limit=2, after=first["next"])
    third = server.get(path, limit=2, after=second["next"])
    assert [e["version"] for e in [*second["events"], *third["events"]]] == [3, 4, 5]
    assert third["next"] is None
    assert server.get(path, after=5) == {"events": [], "next": None}
    one = first["events"][0]
    assert one["data"]["title"] == "Open 0"
    assert one["user_id"] == "u_1"


def test_decisions_are_listed_newest_first_in_pages_and_by_filter(server: Server, product: str) -> None:
    for n in range(5):
        server.post(product, *saves(f"s{n}", f"u{n}"))
    path = f"/v1/products/{product}/decisions"
    first = server.get(path, limit=2)
    assert first.keys() == {"decisions", "next"}
    assert [d["session_id"] for d in first["decisions"]] == ["s4", "s3"]
    second = server.get(path, limit=2, after=first["next"])
    third = server.get(path, limit=2, after=second["next"])
    assert [d["session_id"] for d in [*second["decisions"], *third["decisions"]]] == ["s2", "s1", "s0"]
    assert third["next"] is None
    assert [d["user_id"] for d in server.get(path, user_id="u3")["decisions"]] == ["u3"]
    assert [d["session_id"] for d in server.get(path, session_id="s1")["decisions"]] == ["s1"]
    assert len(server.get(path, trigger_id="saves", outcome="offered")["decisions"]) == 5
    assert server.get(path, outcome="withheld")["decisions"] == []
    middle = first["decisions"][1]["at"]
    assert [d["session_id"] for d in server.get(path, **{"from": middle})["decisions"]] == ["s4", "s3"]
    assert [d["session_id"] for d in server.get(path, to=middle)["decisions"]] == ["s2", "s1", "s0"]
    refused = server.http.get(path, params={"outcome": "silent"})
    assert refused.status_code == 422


def test_a_decision_is_explained_as_it_was_recorded_and_reproduced(server: Server, product: str) -> None:
    batch = saves("s")
    (decision,) = server.post(product, *batch)["decisions"]
    told = server.get(f"/v1/products/{product}/decisions/{decision['decision_id']}")
    assert told.keys() >= EXPLANATION
    assert {name: told[name] for name in DECISION} == decision
    assert told["reproduced"] is True
    assert told["engine_version_then"] == told["engine_version_now"]
    assert told["config_revision"].startswith("r1-")
    assert told["state"].items() >= {"current_state": "thinking", "cooldown_active": False}.items()
    assert told["read"]["session-s"] == 3
    criteria = told["criteria"]
    leaf = criteria["conditions"][0] if "conditions" in criteria else criteria
    assert (leaf["type"], leaf["verdict"], leaf["observed"], leaf["required"]) == ("count", True, 3, ">= 3")
    assert sorted(leaf["evidence"]) == sorted(e["event_id"] for e in batch)
    assert all(g.keys() == {"gate", "open", "reason"} and g["open"] for g in told["gates"])
    assert told["blocked_by"] is None
    assert [t["id"] for t in told["tours"]] == ["bulk-tour"]


def test_what_followed_an_offer_is_told_with_it(server: Server, product: str) -> None:
    (decision,) = server.post(product, *saves("s"))["decisions"]
    nudge = decision["nudge_id"]
    server.post(product, fact("nudge_shown", "s", nudge_id=nudge, tab_id="t"))
    server.post(product, fact("option_clicked", "s", nudge_id=nudge, option_id="yes"))
    told = server.get(f"/v1/products/{product}/decisions/{nudge}")
    assert [r["type"] for r in told["responses"]] == ["nudge_shown", "option_clicked"]
    assert [d["type"] for d in told["delivery"]] == ["nudge_closed"]
    assert told["reproduced"] is True


def test_a_closed_gate_is_recorded_once_and_explained(server: Server, product: str) -> None:
    server.post(product, *saves("s"))
    receipt = server.post(product, *saves("s"))
    (held,) = receipt["decisions"]
    assert (held["outcome"], held["reason"], held["nudge_id"]) == (
        "withheld",
        "state_proactive_assistance",
        None,
    )
    assert server.post(product, action("s"))["decisions"] == []
    told = server.get(f"/v1/products/{product}/decisions/{held['decision_id']}")
    assert told["blocked_by"] == "state_proactive_assistance"
    assert told["reproduced"] is True


def test_unknown_things_are_404_and_say_what(server: Server, product: str) -> None:
    for path in ("sessions/none", "sessions/none/events", "decisions/none"):
        answer = server.http.get(f"/v1/products/{product}/{path}")
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json().keys() >= {"type", "title", "status", "detail"}


def test_two_products_with_the_same_session_and_ids_never_touch(server: Server, product: str) -> None:
    other = product_id()
    server.put(config(other))
    batch = saves("s")
    assert server.post(product, *batch)["accepted"] == 3
    assert server.post(other, *batch)["accepted"] == 3
    server.post(other, fact("chat_message", "s", role="user", text="hi"))
    assert server.session(product, "s")["version"] == 4
    (decision,) = server.get(f"/v1/products/{product}/decisions")["decisions"]
    answer = server.http.get(f"/v1/products/{other}/decisions/{decision['decision_id']}")
    assert answer.status_code == 404


def test_a_config_is_put_read_and_listed(server: Server) -> None:
    product = product_id()
    first = server.put(config(product))
    assert first.keys() == {"product_id", "revision", "activated"}
    assert first["activated"] is True
    assert first["revision"].startswith("r1-")
    assert len(first["revision"]) == len("r1-") + 12
    again = server.put(config(product))
    assert again == first | {"activated": False}
    second = server.put(config(product, timezone="Europe/Berlin"))
    assert second["revision"].startswith("r2-")
    current = server.get(f"/v1/products/{product}/config")
    assert current["revision"] == second["revision"]
    assert current["config"] == config(product, timezone="Europe/Berlin")
    listed = server.get(f"/v1/products/{product}/config/revisions")["revisions"]
    assert [r["revision"] for r in listed] == [second["revision"], first["revision"]]


def test_a_config_as_json_is_the_config_as_yaml(server: Server) -> None:
    product = product_id()
    revision = server.put(config(product))["revision"]
    answer = server.http.put(f"/v1/products/{product}/config", json=config(product))
    assert answer.json() == {"product_id": product, "revision": revision, "activated": False}


def test_a_new_config_holds_for_the_next_event(server: Server, product: str) -> None:
    server.post(product, action("s"))
    server.put(config(product, triggers=[trigger("quick", criteria={"type": "action_count", "at_least": 2})]))
    (decision,) = server.post(product, action("s"))["decisions"]
    assert decision["trigger_id"] == "quick"


def test_a_deadline_keeps_the_timings_it_started_with(server: Server, product: str) -> None:
    server.post(product, *saves("s"))
    before = server.session(product, "s")["timeout_due_at"]
    server.put(config(product, session={"interaction_timeout_s": 1, "cooldown_period_s": 1}))
    assert server.session(product, "s")["timeout_due_at"] == before


def test_a_session_times_out_by_itself_at_its_due_instant(server: Server) -> None:
    product = product_id()
    server.put(config(product, session={"interaction_timeout_s": 0.3, "cooldown_period_s": 0.3}))
    server.post(product, *saves("s"))
    due = server.session(product, "s")["timeout_due_at"]
    events = until(lambda: [e for e in server.events(product, "s") if e["type"] == "interaction_timed_out"])
    assert [e["at"] for e in events] == [due]
    state = server.session(product, "s")
    assert state["current_state"] == "thinking"


def test_health_readiness_and_figures(server: Server) -> None:
    assert server.get("/healthz") == {"status": "ok"}
    assert server.get("/readyz") == {"status": "ok"}
    answer = server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "nudgeledger_events_total" in answer.text


def test_the_documentation_is_sound(sqlite_server: Server) -> None:
    """Every route is in openapi.json with its body and its errors, and /docs shows it, offline too."""
    spec = sqlite_server.get("/openapi.json")
    paths = spec["paths"]
    for path, method in {
        "/v1/products/{product}/events": "post",
        "/v1/products/{product}/config": "put",
        "/webhook/{product_id}": "post",
        "/tour/start": "post",
        "/tour/step": "post",
        "/tour/end": "post",
    }.items():
        assert paths[path][method]["requestBody"]["required"] is True, path
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            errors = operation["responses"]
            assert "HTTPValidationError" not in str(errors), (method, path)
            assert "application/problem+json" in errors["4XX"]["content"], (method, path)
    stream = paths["/v1/products/{product}/nudges/stream"]["get"]["responses"]["200"]
    assert "text/event-stream" in stream["content"]
    page = sqlite_server.http.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert address.startswith("/"), address
        assert sqlite_server.http.get(address).status_code == 200, address


def test_a_connection_may_be_reused(server: Server, product: str) -> None:
    """A refusal leaves the connection in order for the next request."""
    with httpx.Client(base_url=server.http.base_url) as client:
        for _ in range(3):
            assert client.post(f"/v1/products/{product}/events", content=b"{").status_code == 422
            assert client.get(f"/v1/products/{product}/config").status_code == 200
