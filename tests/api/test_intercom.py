"""Intercom: quick replies out, webhooks in, taps resolved, follow-ups. Against a fake that is built from the
documented API and checks what it is sent; the real one is a service that cannot be installed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.delivery.intercom import APART, LISTED, TOGETHER, as_html, form, option_uuid
from api.vendors import intercom as vendor
from api.vendors import notices
from domain.errors import InvalidInput, WrongSecret
from domain.instants import MINUTE
from eventstore.engine import Ledger
from tests.api import inside
from tests.api.conftest import Launch
from tests.api.inside import START, FakeClock
from tests.api.serving import SECRET, Server, command, config, fact, product_id, saves, trigger, until
from tests.conftest import Run
from tests.fakes.intercom import FakeIntercom, notification, part, running, signed

BODY = "Try bulk edit? <b>&</b>"
HTML = "<p>Try bulk edit? &lt;b&gt;&amp;&lt;/b&gt;</p>"
OPTIONS = [
    {"id": "show", "label": "Show me", "user_tour_exists": True, "user_tour_id": "flow_1"},
    {"id": "how", "label": "Tell me how"},
    {"id": "no", "label": "No thanks"},
]
FINAL = ("nudge_delivered", "delivery_failed", "delivery_unknown")


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def intercom() -> Iterator[FakeIntercom]:
    with running(FakeIntercom(SECRET)) as found:
        yield found


def rules(
    product: str, intercom: FakeIntercom, version: str = "Unstable", timeout_s: float = 5, **changes: Any
) -> dict[str, Any]:
    channel = {
        "token": "env:NUDGELEDGER_VENDOR_SECRET",
        "client_secret": "env:NUDGELEDGER_VENDOR_SECRET",
        "admin_id": "991267698",
        "url": intercom.url,
        "version": version,
        "timeout_s": timeout_s,
    }
    how = {"body": BODY, "channels": ["intercom"], "options": OPTIONS, "limits": {"per_session": 1}}
    return config(product, triggers=[trigger(**(how | changes))], channels={"intercom": channel})


def linked(server: Server, product: str, conversation: str = "c-1") -> None:
    server.post(product, fact("conversation_linked", "s", conversation_id=conversation, link="new"))


def offer(server: Server, product: str) -> str:
    (decision,) = server.post(product, *saves("s"))["decisions"]
    nudge_id: str = decision["nudge_id"]
    return nudge_id


def steps(server: Server, product: str, nudge: str) -> list[tuple[str, str]]:
    """(type, channel) of the nudge's deliveries."""
    listed = server.get(f"/v1/products/{product}/decisions/{nudge}")["delivery"]
    return [(row["type"], row["data"]["channel"]) for row in listed if "channel" in row["data"]]


def settled(server: Server, product: str, nudge: str) -> dict[str, Any]:
    """The last step of the channel itself, once it is final."""

    def final() -> dict[str, Any] | None:
        listed = server.get(f"/v1/products/{product}/decisions/{nudge}")["delivery"]
        mine = [row for row in listed if row["data"].get("channel") == "intercom"]
        over = mine and mine[-1]["type"] in FINAL and mine[-1]["data"].get("retry_at") is None
        return {"type": mine[-1]["type"], **mine[-1]["data"]} if over else None

    found: dict[str, Any] = until(final, 30)
    return found


@pytest.fixture
def offered(server: Server, intercom: FakeIntercom) -> tuple[Server, str, str]:
    """A server, a product, and a nudge that was delivered to conversation c-1."""
    product = product_id()
    server.put(rules(product, intercom))
    linked(server, product)
    nudge = offer(server, product)
    settled(server, product, nudge)
    return server, product, nudge


def send(server: Server, product: str, body: Any, secret: str = SECRET, path: str = "chatbot-webhook") -> Any:
    raw, headers = signed(body, secret)
    return server.http.post(f"/{path}/{product}", content=raw, headers=headers)


def tell(server: Server, product: str, body: Any) -> dict[str, int]:
    """What was counted of a webhook, without zeros."""
    answer = send(server, product, body)
    assert answer.status_code == 200, answer.text
    return {name: n for name, n in answer.json().items() if n and name != "status"}


def kinds(server: Server, product: str, session: str = "s") -> list[str]:
    dull = ("action", "nudge_offered", "nudge_withheld", "conversation_linked", "reply_generated")
    return [e["type"] for e in server.events(product, session) if e["type"] not in dull]


# --- out ---------------------------------------------------------------------------------------------


def test_one_quick_reply_with_question_and_options(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    server, product, nudge = offered
    ((path, headers, said),) = intercom.requests
    assert path == "/conversations/c-1/reply"
    assert headers["intercom-version"] == "Unstable"
    assert said == {
        "message_type": "quick_reply",
        "type": "admin",
        "admin_id": "991267698",
        "body": HTML,
        "reply_options": [
            {"text": option["label"], "uuid": option_uuid(nudge, str(option["id"]))} for option in OPTIONS
        ],
    }
    assert settled(server, product, nudge)["reference"] == intercom.said[-1]["id"]
    assert steps(server, product, nudge) == [
        ("delivery_attempted", "intercom"),
        ("nudge_delivered", "intercom"),
    ]


SPLIT = [
    ("delivery_attempted", "intercom"),
    ("delivery_attempted", "intercom_text"),
    ("nudge_delivered", "intercom_text"),
    ("nudge_delivered", "intercom"),
]


@pytest.mark.parametrize(
    ("version", "changes", "parts", "recorded"),
    [
        ("2.14", {}, [("comment", HTML), ("quick_reply", None)], SPLIT),
        ("Preview", {}, [("comment", HTML), ("quick_reply", None)], SPLIT),
        ("Unstable", {"refuses_body": True}, [("comment", HTML), ("quick_reply", None)], SPLIT),
        ("Unstable", {"drops_body": True}, [("quick_reply", None), ("comment", HTML)], SPLIT),
        (
            "2.13",
            {},
            [("comment", HTML.replace("</p>", "<br>• Show me<br>• Tell me how<br>• No thanks</p>"))],
            [SPLIT[0], SPLIT[3]],
        ),
    ],
)
def test_every_version_gets_question_and_options(
    sqlite_server: Server,
    intercom: FakeIntercom,
    version: str,
    changes: dict[str, Any],
    parts: list[tuple[str, str | None]],
    recorded: list[tuple[str, str]],
) -> None:
    product = product_id()
    for name, value in changes.items():
        setattr(intercom, name, value)
    sqlite_server.put(rules(product, intercom, version))
    linked(sqlite_server, product)
    nudge = offer(sqlite_server, product)
    assert settled(sqlite_server, product, nudge)["type"] == "nudge_delivered"
    assert [(p["part_type"], p["body"]) for p in intercom.said] == parts
    assert steps(sqlite_server, product, nudge) == recorded


def test_a_later_attempt_does_not_repeat_the_question(server: Server, intercom: FakeIntercom) -> None:
    """429 for the options, after the question was said: only the options are sent again."""
    product = product_id()
    server.put(rules(product, intercom, "2.16"))
    linked(server, product)
    intercom.fails = [(0, {}), (429, {"Retry-After": "1"}), (429, {})]
    nudge = offer(server, product)
    assert settled(server, product, nudge)["attempt"] == 3
    assert [p["part_type"] for p in intercom.said] == ["comment", "quick_reply"]
    assert len(intercom.requests) == 4
    assert steps(server, product, nudge).count(("delivery_attempted", "intercom_text")) == 1


@pytest.mark.parametrize(
    ("change", "kind", "status", "says"),
    [
        ({"token": "another"}, "delivery_failed", 401, "the token"),
        ({"may_reply": False}, "delivery_failed", 403, "may not reply"),
        ({"conversations": {}}, "delivery_failed", 404, "no such conversation"),
        ({"fails": [(500, {})], "after": True}, "delivery_unknown", None, "perhaps after"),
        ({"fails": [(503, {})]}, "delivery_unknown", None, "perhaps after"),
        ({"slow_s": 1.5}, "delivery_unknown", None, "no answer"),
    ],
)
def test_what_its_answers_mean(
    sqlite_server: Server, intercom: FakeIntercom, change: dict[str, Any], kind: str, status: Any, says: str
) -> None:
    """Refusals are final; where nobody knows it is the end as well: one request, whatever happens."""
    product = product_id()
    for name, value in change.items():
        setattr(intercom, name, value)
    sqlite_server.put(rules(product, intercom, timeout_s=0.6))
    linked(sqlite_server, product)
    nudge = offer(sqlite_server, product)
    found = settled(sqlite_server, product, nudge)
    assert (found["type"], found.get("status")) == (kind, status)
    assert says in found["error"]
    time.sleep(0.2)
    assert len(intercom.requests) == 1


def test_without_a_conversation_nothing_is_sent(server: Server, intercom: FakeIntercom) -> None:
    """None is opened in the user's name: the user said nothing."""
    product = product_id()
    server.put(rules(product, intercom))
    nudge = offer(server, product)
    assert settled(server, product, nudge)["error"] == "the session is linked to no conversation"
    assert intercom.requests == []
    why = server.get(f"/v1/products/{product}/decisions/{nudge}")
    assert "linked to no conversation" in next(
        c["text"] for c in why["causes"] if c["cause"] == "delivery_failed"
    )


def test_killed_while_intercom_is_asked(sqlite_url: str, launch: Launch, intercom: FakeIntercom) -> None:
    """kill -9 after Intercom took it and before it answered: afterwards nobody knows, and nothing is said
    again: not the question with its options, not the question alone, not what is said behind it."""
    server = launch(sqlite_url, vendor_secret=SECRET)
    intercom.conversations = {"together": [], "apart": [], "behind": []}
    versions = {"together": "Unstable", "apart": "2.14", "behind": "Unstable"}
    for name, version in versions.items():
        server.put(rules(name, intercom, version, timeout_s=2))
        linked(server, name, name)
    nudges = {"behind": offer(server, "behind")}
    settled(server, "behind", nudges["behind"])
    intercom.slow_s = 5.0
    nudges |= {name: offer(server, name) for name in ("together", "apart")}
    tapped = part("p1", None, tapped=option_uuid(nudges["behind"], "how"))
    assert tell(server, "behind", notification(tapped, conversation="behind")) == {"options": 1}
    until(lambda: [len(said) for said in intercom.conversations.values()] == [1, 1, 2], 30)
    server.kill()
    intercom.slow_s = 0.0
    server.start()
    for name in ("together", "apart"):
        found = settled(server, name, nudges[name])
        assert found["type"] == "delivery_unknown"
        assert found["error"] == "the service stopped during the attempt"
    for name, channel in (("apart", "intercom_text"), ("behind", "intercom_follow_up")):
        until(lambda n=name, c=channel: ("delivery_unknown", c) in steps(server, n, nudges[n]), 30)
    assert tell(server, "behind", notification(tapped, conversation="behind")) == {"duplicates": 1}
    again = part("p2", None, tapped=option_uuid(nudges["behind"], "how"))
    assert tell(server, "behind", notification(again, conversation="behind")) == {"options": 1}
    time.sleep(0.3)
    assert [len(said) for said in intercom.conversations.values()] == [1, 1, 2]
    assert len(intercom.requests) == 4
    server.stop()
    for arguments in (["replay"], ["rebuild", "--dry-run"]):
        done = command(*arguments, "--database-url", sqlite_url)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("would change 0 rows")


def test_a_follow_up_that_a_crash_prevented_is_said_after_the_start(
    sqlite_url: str, launch: Launch, intercom: FakeIntercom
) -> None:
    """Tapped, refused for now, killed while it waits; said once by the next start, and by no later one."""
    server = launch(sqlite_url, vendor_secret=SECRET)
    server.put(rules("acme", intercom))
    linked(server, "acme")
    nudge = offer(server, "acme")
    settled(server, "acme", nudge)
    intercom.fails = [(429, {"Retry-After": "30"})]
    tell(server, "acme", notification(part("p1", None, tapped=option_uuid(nudge, "how"))))
    until(lambda: ("delivery_failed", "intercom_follow_up") in steps(server, "acme", nudge))
    for _ in range(2):
        server.kill()
        server.start()
        until(lambda: ("nudge_delivered", "intercom_follow_up") in steps(server, "acme", nudge))
    assert [p["part_type"] for p in intercom.said] == ["quick_reply", "comment"]


# --- in: who may speak -------------------------------------------------------------------------------


def test_only_what_intercom_signed_is_believed(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    server, product, _ = offered
    body = notification(part("p1", "<p>Hello</p>"))
    assert send(server, product, body, secret="other").status_code == 401
    raw, headers = signed(body, SECRET)
    for changed in ({}, {"X-Hub-Signature": headers["X-Hub-Signature"][5:]}, {"X-Hub-Signature": "sha1=é"}):
        sent = {k: v.encode() for k, v in changed.items()}
        answer = server.http.post(f"/chatbot-webhook/{product}", content=raw, headers=sent)
        assert answer.status_code == 401
    answer = server.http.post(f"/chatbot-webhook/{product}", content=raw + b" ", headers=headers)
    assert answer.status_code == 401
    none = product_id()
    server.put(config(none))
    assert send(server, none, body).status_code == 401
    assert send(server, "no-such-product", body).status_code == 404
    assert kinds(server, product) == []
    for path in ("chatbot-webhook", "webhook/intercom"):
        assert server.http.head(f"/{path}/{product}").status_code == 200
        assert send(server, product, {"topic": "ping", "type": "notification_event"}, path=path).json() == {
            "status": "ignored"
        }


def test_admins_and_bots_are_not_heard(offered: tuple[Server, str, str]) -> None:
    """Our own parts come back as an admin's: hearing them would be a loop."""
    server, product, _ = offered
    own = [part(f"p-{author}", HTML, author) for author in ("admin", "bot", "team", "")]
    assert tell(server, product, notification(*own)) == {}
    assert send(server, product, notification(*own, topic="conversation.admin.replied")).json() == {
        "status": "ignored"
    }
    assert kinds(server, product) == []


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {},
        {"topic": 5},
        {"topic": "conversation.user.replied"},
        {"topic": "conversation.user.replied", "data": {"item": {"id": {"a": 1}}}},
        {"topic": "conversation.user.replied", "data": {"item": {"id": "x" * 201}}},
    ],
)
def test_bodies_of_another_form_are_noted_and_not_asked_for_again(
    sqlite_server: Server, intercom: FakeIntercom, body: Any
) -> None:
    product = product_id()
    sqlite_server.put(rules(product, intercom))
    assert send(sqlite_server, product, body).json() == {"status": "rejected"}


# --- in: taps ----------------------------------------------------------------------------------------


def test_a_tap_is_known_by_its_id_and_starts_the_tour(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    """Whatever its text says; told three times, at once and later, it is one click."""
    server, product, nudge = offered
    body = notification(part("p1", "<p>Something else</p>", tapped=option_uuid(nudge, "show")))
    threads = [threading.Thread(target=lambda: send(server, product, body)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tell(server, product, body) == {"duplicates": 1}
    assert kinds(server, product) == ["option_clicked", "tour_started"]
    assert server.session(product, "s")["active_tour_id"] == "bulk-tour"
    clicked = next(e for e in server.events(product, "s") if e["type"] == "option_clicked")
    assert clicked["data"] == {"option_id": "show", "nudge_id": nudge}
    assert (clicked["source"], clicked["correlation_id"]) == ("intercom", nudge)
    why = server.get(f"/v1/products/{product}/decisions/{nudge}")
    told = [step["text"] for step in why["trace"]]
    assert {"The user chose option show (told by intercom).", "Tour bulk-tour began."} <= set(told)
    assert f"Delivered by intercom at attempt 1; there it is {intercom.said[0]['id']}." in told
    assert len(intercom.said) == 1  # a tour needs no words


@pytest.mark.parametrize("tapped", ["no_thanks", "no", None, "00000000-0000-4000-8000-000000000000"])
def test_else_by_its_text(offered: tuple[Server, str, str], tapped: str | None) -> None:
    """A button that a host or the published builder named, and one of which no id is told."""
    server, product, _ = offered
    body = notification(part("p1", "<p>&nbsp;NO thanks </p>", tapped=tapped))
    assert tell(server, product, body) == {"options": 1}
    assert kinds(server, product) == ["option_clicked"]
    assert server.session(product, "s")["open_nudge_id"] is None


def test_an_option_is_chosen_by_text_once(offered: tuple[Server, str, str]) -> None:
    """Afterwards the same words are words; a button's id stays one."""
    server, product, nudge = offered
    assert tell(server, product, notification(part("p1", "No thanks"))) == {"options": 1}
    assert tell(server, product, notification(part("p2", "no thanks"))) == {"messages": 1}
    assert tell(server, product, notification(part("p1", "No thanks"))) == {"duplicates": 1}
    tapped = part("p3", "No thanks", tapped=option_uuid(nudge, "no"))
    assert tell(server, product, notification(tapped)) == {"options": 1}
    assert kinds(server, product) == ["option_clicked", "chat_message", "option_clicked"]


def test_the_text_of_a_nudge_that_never_went_to_intercom_is_no_tap(
    server: Server, intercom: FakeIntercom
) -> None:
    product = product_id()
    server.put(rules(product, intercom, channels=["toast"]))
    linked(server, product)
    offer(server, product)
    assert tell(server, product, notification(part("p1", "No thanks"))) == {"messages": 1}


# --- in: follow-ups ----------------------------------------------------------------------------------


def test_what_asks_for_it_is_followed_up_once(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    """A tap on an option without a tour, told twice, and a second tap: one comment, grounded in how_to."""
    server, product, nudge = offered
    for part_id in ("p1", "p1", "p2"):
        send(server, product, notification(part(part_id, None, tapped=option_uuid(nudge, "how"))))
    until(lambda: ("nudge_delivered", "intercom_follow_up") in steps(server, product, nudge))
    time.sleep(0.2)
    assert [(p["part_type"], p["body"]) for p in intercom.said[1:]] == [
        ("comment", "<p>1. Open the menu.</p>")
    ]


def test_a_question_to_an_open_nudge_is_followed_up_and_later_ones_are_not(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    """The bot says its piece once, and then leaves the conversation to people; a no is left alone."""
    server, product, _ = offered
    assert tell(server, product, notification(part("p1", "<p>How?</p>"))) == {"messages": 1}
    until(lambda: len(intercom.said) == 2)
    assert tell(server, product, notification(part("p2", "And why?"))) == {"messages": 1}
    time.sleep(0.2)
    assert len(intercom.said) == 2
    assert server.session(product, "s")["current_state"] == "proactive_assistance"


def test_no_is_taken_for_no(offered: tuple[Server, str, str], intercom: FakeIntercom) -> None:
    server, product, nudge = offered
    tell(server, product, notification(part("p1", None, tapped=option_uuid(nudge, "no"))))
    tell(server, product, notification(part("p2", "Thank you.")))
    time.sleep(0.3)
    assert len(intercom.said) == 1


def test_a_follow_up_that_is_refused_for_now_is_said_later_and_an_unsure_one_never(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    server, product, nudge = offered
    intercom.fails = [(429, {}), (500, {})]
    tell(server, product, notification(part("p1", None, tapped=option_uuid(nudge, "how"))))
    until(lambda: ("delivery_unknown", "intercom_follow_up") in steps(server, product, nudge))
    tell(server, product, notification(part("p2", None, tapped=option_uuid(nudge, "how"))))
    time.sleep(0.2)
    assert len(intercom.requests) == 3


# --- in: conversations -------------------------------------------------------------------------------


def test_words_go_to_the_session_of_the_conversation(offered: tuple[Server, str, str]) -> None:
    server, product, _ = offered
    body = notification(part("p1", "<p>Hi <b>there</b></p><p>A &amp; B</p>"), part("p2", "second"))
    assert tell(server, product, body) == {"messages": 2}
    said = [e for e in server.events(product, "s") if e["type"] == "chat_message"]
    assert [(e["data"]["text"], e["data"]["role"]) for e in said] == [
        ("Hi there\nA & B", "user"),
        ("second", "user"),
    ]
    assert {(e["data"]["conversation_id"], e["user_id"], e["source"]) for e in said} == {
        ("c-1", "u_1", "intercom")
    }


def test_a_new_conversation_of_a_known_contact_is_linked(server: Server, intercom: FakeIntercom) -> None:
    product = product_id()
    server.put(rules(product, intercom))
    server.post(product, *saves("s", count=1))
    source = {"body": "<p>I need help</p>", "author": {"type": "user", "id": "x"}}
    created = {"topic": "conversation.user.created", "conversation": "c-7", "external_id": "u_1"}
    assert tell(server, product, notification(**created, **source)) == {"messages": 1}
    now = server.session(product, "s")
    assert (now["conversation_id"], now["current_state"]) == ("c-7", "reactive_assistance")
    assert tell(server, product, notification(**created, **source)) == {"duplicates": 1}
    replied = notification(part("p2", "hello?"), conversation="c-7")  # whoever is the contact
    assert tell(server, product, replied) == {"messages": 1}
    elsewhere = notification(part("p3", "an older one"), conversation="c-3", external_id="u_1")
    assert tell(server, product, elsewhere) == {"messages": 1}
    assert server.session(product, "s")["conversation_id"] == "c-7"


def test_an_unknown_conversation_is_noted(sqlite_server: Server, intercom: FakeIntercom) -> None:
    product = product_id()
    sqlite_server.put(rules(product, intercom))
    body = notification(part("p1", "hello"), conversation="c-9", external_id="nobody")
    assert tell(sqlite_server, product, body) == {"unknown": 1}


def test_replies_before_the_beginning(server: Server, intercom: FakeIntercom) -> None:
    """Out of order: the reply comes before the notification of the conversation it is in."""
    product = product_id()
    server.put(rules(product, intercom))
    server.post(product, *saves("s", count=1))
    tell(server, product, notification(part("p2", "second"), conversation="c-7", external_id="u_1"))
    source = {"body": "first", "author": {"type": "user", "id": "x"}}
    created = notification(topic="conversation.user.created", conversation="c-7", external_id="u_1", **source)
    assert tell(server, product, created) == {"messages": 1}
    said = [e["data"]["text"] for e in server.events(product, "s") if e["type"] == "chat_message"]
    assert said == ["second", "first"]


def test_a_conversation_outlives_sessions(ledger: Ledger, run: Run) -> None:
    """What is said in it on the next day is said in the session of that day, which is linked to it then."""

    async def story() -> None:
        clock = FakeClock()
        async with inside.serving(ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            link = fact("conversation_linked", "monday", conversation_id="c-1", link="new")
            await inside.post(service, "acme", link)
            for minutes, wanted in ((20, "monday"), (24 * 60, "tuesday"), (24 * 60 + 5, "tuesday")):
                clock.instant = START + minutes * MINUTE
                await inside.post(service, "acme", fact("reaction", "tuesday", value="up"))
                notice = notices.parse(notification(part(f"p{minutes}", "hello")))
                assert notice is not None
                assert (await vendor.take(service, "acme", notice))["messages"] == 1
                (said,) = [
                    row
                    for row in await inside.stored(ledger, "acme")
                    if row.type == "chat_message" and row.event_id.endswith(f"/p{minutes}")
                ]
                assert said.stream == f"session-{wanted}"
            state = (await service.recorder.session("acme", "tuesday")).state
            assert state.conversation_id == "c-1"

    run(story())


def test_hosts_that_post_quick_replies_themselves_are_told_the_labels(
    server: Server, intercom: FakeIntercom
) -> None:
    product = product_id()
    server.put(rules(product, intercom, channels=["toast"]))
    asked = {"session_id": "s", "conversation_id": "c-1", "action_count": 3}
    assert server.http.post(f"/intercom/proactive/{product}", json=asked).json()["labels"] == []
    nudge = offer(server, product)
    answer = server.http.post(f"/intercom/proactive/{product}", json=asked).json()
    assert answer == {"labels": [o["label"] for o in OPTIONS], "nudge_id": nudge, "body": BODY}
    assert server.session(product, "s")["conversation_id"] == "c-1"
    assert server.http.post(f"/intercom/proactive/{product}", json={"session_id": "s"}).status_code == 400
    assert tell(server, product, notification(part("p1", "?", tapped="tell_me_how"))) == {"options": 1}


# --- parts -------------------------------------------------------------------------------------------


def test_which_version_takes_what() -> None:
    assert {v: form(v) for v in ("Unstable", "Preview", "2.14", "2.16", "3.0", "2.13", "2.9", "1.4")} == {
        "Unstable": TOGETHER,
        **dict.fromkeys(("Preview", "2.14", "2.16", "3.0"), APART),
        **dict.fromkeys(("2.13", "2.9", "1.4"), LISTED),
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>Yes</p>", "Yes"),
        ("<p>a</p>\n<p>b<br>c</p>", "a\nb\nc"),
        ("<ul><li>one</li><li>two &lt;3</li></ul>", "one\ntwo <3"),
        ("<p>x<script>alert(1)</script></p>", "x"),
        ("plain a < b and <i>", "plain a < b and <i>"),
        ("", ""),
        ("<p></p>", ""),
    ],
)
def test_bodies_as_text(body: str, text: str) -> None:
    assert notices.plain(body) == text


@given(st.text(max_size=200))
def test_what_we_say_is_read_as_it_was_said(text: str) -> None:
    """Law: nothing in a text is markup, and only white space is lost on the way."""
    lines = (" ".join(line.split()) for line in text.replace("\0", "").splitlines())
    read = notices.plain(as_html(text.replace("\0", "")))
    assert " ".join(read.split()) == " ".join("\n".join(lines).split())


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_two_options_share_a_button(nudge: str, option: str, other: str, more: str) -> None:
    assert (option_uuid(nudge, option) == option_uuid(other, more)) == ((nudge, option) == (other, more))


@pytest.mark.parametrize("given_", [None, "", "sha1=", "sha256=abc"])
def test_signatures_that_are_none(given_: str | None) -> None:
    with pytest.raises(WrongSecret):
        notices.check("secret", given_, b"{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from((notices.CREATED, notices.REPLIED)), JSON, JSON, JSON, JSON)
@example(notices.CREATED, 1, None, [], {"type": "user"})
def test_nothing_that_is_sent_breaks_the_reading(
    topic: str, conversation: Any, source: Any, contacts: Any, author: Any
) -> None:
    listed = [source, contacts, part("p", "x") | {"author": author}, part("q", "y") | {"body": source}]
    item = {"id": conversation, "source": source, "contacts": contacts}
    item["conversation_parts"] = {"conversation_parts": listed}
    try:
        found = notices.parse({"topic": topic, "data": {"item": item}})
    except InvalidInput:
        return
    assert found is not None
    assert all(0 < len(said.event_id) <= 200 and said.text for said in found.said)
    assert json.dumps(found)


def test_an_answer_comes_fast_while_intercom_is_slow(
    offered: tuple[Server, str, str], intercom: FakeIntercom
) -> None:
    """Recorded first; what is to be said for it is said behind."""
    server, product, nudge = offered
    intercom.slow_s = 1.5
    tell(server, product, notification(part("p1", None, tapped=option_uuid(nudge, "how"))))
    assert ("nudge_delivered", "intercom_follow_up") not in steps(server, product, nudge)
    until(lambda: ("nudge_delivered", "intercom_follow_up") in steps(server, product, nudge))
