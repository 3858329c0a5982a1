"""Why, and why not: over HTTP and on the command line, on a real server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from domain.instants import SECOND, text
from tests.api.serving import Server, action, command, config, fact, product_id, saves, trigger, until

SHAPE = {
    *(
        "decision_id",
        "nudge_id",
        "outcome",
        "trigger_id",
        "session_id",
        "user_id",
        "at",
        "position",
        "reason",
    ),
    *(
        "summary",
        "config_revision",
        "engine_version_then",
        "engine_version_now",
        "reproduced",
        "state",
        "read",
    ),
    *("criteria", "gates", "blocked_by", "would_fire_if", "other_triggers", "tours", "delivery", "responses"),
    *("name", "noticed_at", "causes", "known_now", "trace"),
}
GATES = ["state", "session_cooldown", "tour_running", "user_busy", "min_gap", "limit", "quiet_hours"]
OWN_GATES = ["trigger_cooldown", "limit", "holdout"]


def why_not(
    server: Server, product: str, session: str = "s", name: str = "saves", **query: Any
) -> dict[str, Any]:
    return server.get(f"/v1/products/{product}/sessions/{session}/why-not", trigger_id=name, **query)


def why(server: Server, product: str, decision_id: str) -> dict[str, Any]:
    return server.get(f"/v1/products/{product}/decisions/{decision_id}")


def codes(told: dict[str, Any]) -> list[str]:
    return [cause["cause"] for cause in told["causes"]]


def now() -> str:
    return text(time.time_ns() // 1000)


def test_two_saves_of_three_say_so_and_what_would_have_fired_it(server: Server, product: str) -> None:
    server.post(product, *saves("s", count=2))
    told = why_not(server, product)
    assert told.keys() == SHAPE
    assert (told["outcome"], told["reason"], told["blocked_by"]) == (
        "silent",
        "criteria_unmet",
        "criteria_unmet",
    )
    assert (told["decision_id"], told["nudge_id"], told["position"], told["reproduced"]) == (None,) * 4
    assert (told["session_id"], told["user_id"], told["name"]) == ("s", "u_1", "Saves one by one")
    assert told["read"] == {"session-s": 2, "user-u_1": 0}
    leaf = told["criteria"]
    assert (leaf["verdict"], leaf["observed"], leaf["required"]) == (False, 2, ">= 3")
    assert "2" in leaf["text"]
    assert "2 of 3" in told["summary"]
    assert told["would_fire_if"][0].startswith("1 more")
    assert [gate["gate"] for gate in told["gates"]] == GATES + OWN_GATES
    assert all(gate["open"] for gate in told["gates"])
    assert (told["known_now"], told["trace"], told["causes"]) == (None, [], [])

    before = now()
    (decision,) = server.post(product, action("s"))["decisions"]
    again = why_not(server, product, at=before)
    assert (again["outcome"], again["criteria"]["observed"]) == ("silent", 2)
    assert "decision_nearby" in codes(again)
    assert again["known_now"] is None  # what came after that instant also happened after it
    assert why_not(server, product, at=decision["at"])["decision_id"] == decision["decision_id"]


def test_a_nudge_is_traced_from_its_request_to_its_goal(server: Server) -> None:
    product = product_id()
    server.put(config(product, triggers=[trigger(goal="edited")]))
    with server.native(product, "u_1") as stream:
        (decision,) = server.post(product, *saves("s"))["decisions"]
        nudge = decision["nudge_id"]
        assert json.loads(stream.next().data)["nudge_id"] == nudge
        until(lambda: why(server, product, nudge)["delivery"])  # it is recorded after it was sent
    server.post(product, fact("nudge_shown", "s", nudge_id=nudge, tab_id="tab-1"))
    server.post(product, fact("option_clicked", "s", nudge_id=nudge, option_id="yes"))
    server.post(product, fact("tour_started", "s", tour_id="flow_1"))
    server.post(product, fact("tour_ended", "s", tour_id="flow_1", outcome="completed"))
    server.post(product, fact("chat_message", "s", role="user", text="how?"))
    server.post(product, fact("goal_reached", "elsewhere", goal_id="edited"))
    told = why(server, product, nudge)
    assert [step["step"] for step in told["trace"]] == [
        *("request", "event", "evaluation", "gates", "offer", "delivery", "claimed", "shown", "answer"),
        *("tour", "tour", "chat", "goal"),
    ]
    request, event = told["trace"][:2]
    assert request["text"].startswith("A request from host brought 3 events")
    assert event["text"] == "Click “Save changes” on https://app.example/projects."
    assert told["trace"][-1]["session_id"] == "elsewhere"
    assert told["trace"][4]["event_id"] == nudge
    assert "how?" not in json.dumps(told)
    assert codes(told) == []
    assert (told["would_fire_if"], told["reproduced"]) == ([], True)


def test_an_offer_to_nobody_says_so_and_one_that_was_never_shown_too(server: Server, product: str) -> None:
    (lonely,) = server.post(product, *saves("s"))["decisions"]
    assert codes(why(server, product, lonely["nudge_id"])) == ["no_subscriber"]
    with server.native(product, "u_2") as stream:
        (sent,) = server.post(product, *saves("other", "u_2"))["decisions"]
        stream.next()
        told = until(lambda: (found := why(server, product, sent["nudge_id"]))["delivery"] and found)
        assert codes(told) == ["never_shown"]
        # The page of session s listens for another user than its events name.
        wrong = why(server, product, lonely["nudge_id"])
        assert "u_2" in next(c["text"] for c in wrong["causes"] if c["cause"] == "no_subscriber")


def test_a_page_that_listens_for_another_user_is_found_out(server: Server, product: str) -> None:
    with server.native(product, "somebody", session_id="s"):
        (decision,) = server.post(product, *saves("s"))["decisions"]
        (found,) = [
            c for c in why(server, product, decision["nudge_id"])["causes"] if c["cause"] == "user_mismatch"
        ]
        assert "somebody" in found["text"]


def test_a_tour_that_does_not_fit_the_page_says_so(server: Server) -> None:
    product = product_id()
    tours = [{"id": "bulk-tour", "page_contains": "/settings"}]
    server.put(config(product, tours=tours))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    told = why(server, product, decision["decision_id"])
    assert told["tours"] == [{"id": "bulk-tour", "offered": False, "reason": "page_mismatch"}]
    assert "page_mismatch" in codes(told)


def test_what_is_unknown_is_answered_and_what_is_wrong_refused(server: Server, product: str) -> None:
    server.post(product, *saves("s", count=1))
    assert why_not(server, product, name="no_such")["blocked_by"] == "unknown_trigger"
    path = f"/v1/products/{product}/sessions"
    for query, status in (
        ({"trigger_id": "saves", "at": "2999-01-01T00:00:00Z"}, 400),
        ({"trigger_id": "saves", "at": "yesterday"}, 422),
        ({}, 422),
    ):
        refused = server.http.get(f"{path}/s/why-not", params=query)
        assert refused.status_code == status, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["errors"][0]["path"] == ("trigger_id" if not query else "at")
    for missing in (
        f"{path}/none/why-not?trigger_id=saves",
        f"{path}/none/evaluation",
        f"{path}/s/evaluation?version=9",
    ):
        assert server.http.get(missing).status_code == 404
    assert server.http.get(f"{path}/s/evaluation", params={"version": 1, "at": now()}).status_code == 422
    spent = next(e for e in server.events(product, "s") if e["origin"] == "outside")
    assert server.http.get(f"/v1/products/{product}/decisions/{spent['event_id']}").status_code == 404
    assert server.http.get("/v1/products/no-such/sessions/s/why-not?trigger_id=saves").status_code == 404


def test_every_trigger_is_told_as_of_any_version(server: Server) -> None:
    product = product_id()
    server.put(config(product, triggers=[trigger(), trigger("second"), trigger("never", criteria=NEVER)]))
    server.post(product, *saves("s"))
    path = f"/v1/products/{product}/sessions/s/evaluation"
    expected = {
        1: (["silent", "silent", "silent"], "thinking"),
        3: (["offered", "withheld", "silent"], "thinking"),
        4: (["offered", "withheld", "silent"], "proactive_assistance"),
        5: (["offered", "withheld", "silent"], "proactive_assistance"),
    }
    for version, (outcomes, state) in expected.items():
        told = server.get(path, version=version)
        assert [t["outcome"] for t in told["triggers"]] == outcomes, version
        assert (told["version"], told["session"]["version"]) == (version, version)
        assert told["session"]["current_state"] == state
        assert len(told["window"]) == min(version, 3)
        assert told["window"][0].keys() == {"event_id", "occurred_at", "type", "title", "url"}
    second = told["triggers"][1]
    assert (second["blocked_by"], second["verdict"]) == ("outranked", True)
    assert [gate["gate"] for gate in told["triggers"][2]["gates"]] == GATES + OWN_GATES
    assert told["config_revision"].startswith("r1-")
    today = server.get(path)
    assert [t["blocked_by"] for t in today["triggers"]][:2] == ["state_proactive_assistance"] * 2


NEVER = {"type": "action_count", "at_least": 40}


def test_the_commands_tell_the_same_as_text_and_as_json(postgres_server: Server) -> None:
    server, product = postgres_server, product_id()
    server.put(config(product))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    server.post(product, *saves("quiet", "u_2", count=2))
    at = now()
    url = ["--database-url", server.database_url]
    told = command("why", decision["decision_id"], *url)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == decision["summary"]
    assert "  ✓ state" in lines
    assert "reproduced  yes" in lines
    assert any(line.endswith("All 10 gates were open.") for line in lines)
    as_json = json.loads(command("why", decision["decision_id"], "--json", "--product", product, *url).stdout)
    served = why(server, product, decision["decision_id"])
    assert {**as_json, "causes": 0} == {**served, "causes": 0}

    asked = ["why-not", "--trigger", "saves", "--at", at, "--product", product, *url]
    silent = command(*asked, "--session", "quiet")
    assert silent.returncode == 0, silent.stderr
    assert any(line.startswith("  ✗ ") for line in silent.stdout.splitlines())
    assert "Would have fired if" in silent.stdout
    over_http = why_not(server, product, "quiet", at=at)
    assert json.loads(command(*asked, "--session", "quiet", "--json").stdout) == over_http


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["why", "nothing"], "no decision 'nothing' in this ledger"),
        (["why-not", "--session", "none", "--trigger", "t"], "no session 'none' in this ledger"),
        (["why-not", "--session", "s", "--trigger", "t", "--at", "noon"], "--at: not RFC 3339"),
        (
            ["why-not", "--session", "s", "--trigger", "t", "--at", "2999-01-01T00:00:00Z"],
            "lies in the future",
        ),
        (["why", "nothing", "--product", "none"], "no product 'none'"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line_on_standard_error(
    sqlite_server: Server, arguments: list[str], said: str
) -> None:
    refused = command(*arguments, "--database-url", sqlite_server.database_url)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert said in line


def test_a_session_in_two_products_must_be_told_apart(sqlite_server: Server) -> None:
    first, second = product_id(), product_id()
    for product in (first, second):
        sqlite_server.put(config(product))
        sqlite_server.post(product, *saves(f"shared-{first}", count=1))
    asked = ["why-not", "--session", f"shared-{first}", "--trigger", "saves"]
    url = ["--database-url", sqlite_server.database_url]
    refused = command(*asked, *url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--product" in refused.stderr
    assert first in refused.stderr
    assert second in refused.stderr
    assert command(*asked, "--product", second, *url).returncode == 0


def test_late_events_are_told_and_what_would_be_said_now(server: Server, product: str) -> None:
    server.post(product, *saves("s", count=2))
    then = time.time_ns() // 1000
    late = action("s", occurred_at=text(then - SECOND))
    time.sleep(0.01)
    server.post(product, late)
    told = why_not(server, product, at=text(then))
    assert (told["criteria"]["observed"], told["outcome"]) == (2, "silent")
    known = told["known_now"]
    assert known["late_events"] == [late["event_id"]]
    assert (known["outcome"], known["verdict"], known["blocked_by"]) == ("offered", True, None)
    assert known["criteria"]["observed"] == 3
    assert known["summary"].startswith("Offered")
