"""Who somebody turned out to be, as PostHog's SDKs and webhooks tell it: posthog-node for real, else by hand.

What comes late keeps its user: SDKs send `$identify` at once, and what was clicked before it seconds later.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Server

NEWER = "2026-11-20T09:25:20.000Z"
ALIAS = """
const { PostHog } = require("posthog-node");
const client = new PostHog("phc", { host: process.argv[1] });
client.alias({ distinctId: "anon", alias: "u_1" });
client.capture({ distinctId: "u_1", event: "project created" });
client.shutdown();
"""


def click(event_id: str, user: str, **changes: Any) -> dict[str, Any]:
    properties = {"distinct_id": user, "$session_id": "s", "$event_type": "click", "$el_text": "Save"}
    return {"event": "$autocapture", "uuid": event_id, "properties": properties, **changes}


def identify(user: str, before: str) -> dict[str, Any]:
    return click(
        "i",
        user,
        event="$identify",
        properties={"distinct_id": user, "$session_id": "s", "$anon_distinct_id": before},
    )


def send(server: Server, product: str, *events: dict[str, Any]) -> None:
    answer = server.http.post(f"/p/{product}/batch/", json={"api_key": product, "batch": list(events)})
    assert answer.status_code == 200, answer.text


def flat(user: str, name: str = "$autocapture", at: str = NEWER) -> dict[str, str]:
    return {"event": name, "event_type": "click", "distinct_id": user, "session_id": "s", "timestamp": at}


def owners(server: Server, product: str) -> list[str | None]:
    found = server.events(product, "s")
    return [e["user_id"] for e in found if e["origin"] == "outside" and e["type"] == "action"]


@pytest.mark.parametrize("together", [True, False])
def test_a_click_that_comes_after_the_identification_is_the_user_s(
    server: Server, product: str, together: bool
) -> None:
    late = [identify("u_1", "anon"), click("c-2", "anon")]
    send(server, product, click("c-1", "anon"))
    for batch in [late] if together else [[event] for event in late]:
        send(server, product, *batch)
    send(server, product, *late)  # and again: the answer was lost
    assert server.session(product, "s")["user_id"] == "u_1"
    assert owners(server, product) == ["anon", "u_1"]


def test_another_user_s_click_is_not_taken_for_a_late_one(server: Server, product: str) -> None:
    send(server, product, identify("u_1", "anon"), click("c-1", "u_1"))
    send(server, product, click("c-2", "u_2"))
    assert server.session(product, "s")["user_id"] == "u_2"


def test_the_flat_webhook_does_not_say_who_the_user_was(server: Server, product: str) -> None:
    bodies = [
        flat("anon", at="2026-11-20T09:25:01Z"),
        flat("u_1", "$identify"),
        flat("anon", at="2026-11-20T09:25:02Z"),
    ]
    for body in bodies * 2:
        assert server.http.post(f"/webhook/{product}", json=body).status_code == 200
    (said,) = (e["data"] for e in server.events(product, "s") if e["type"] == "user_identified")
    assert said["previous_id"] == "anon"
    assert server.session(product, "s")["user_id"] == "u_1"
    assert owners(server, product) == ["anon", "u_1"]


def test_what_a_server_says_goes_to_the_session_that_the_person_is_in(
    server: Server, product: str, clients: Path
) -> None:
    """posthog-node, which knows no session: an alias of an anonymous visitor, then a custom event."""
    send(server, product, click("c-1", "anon"))
    host = f"{server.http.base_url}/p/{product}"
    subprocess.run(["node", "-e", ALIAS, host], cwd=clients, check=True, timeout=60, capture_output=True)
    outside = [e for e in server.events(product, "s") if e["origin"] == "outside"]
    assert [e["type"] for e in outside] == ["action", "user_identified", "action"]
    assert outside[1]["data"]["previous_id"] == "anon"
    assert server.session(product, "s")["user_id"] == "u_1"


def test_half_of_an_emoji_in_a_webhook_costs_no_event(server: Server, product: str) -> None:
    """PostHog cuts texts, and may cut between the halves of a surrogate pair."""
    body = json.dumps(flat("u_1") | {"button_or_link_text": "@"}).replace("@", "Save \\ud83d")
    answer = server.http.post(f"/webhook/{product}", content=body)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
