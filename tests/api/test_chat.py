"""What chats ask for: the question into the chat, the follow-up behind it, replies.

Rasa needs Python 3.10 at most and cannot be installed: `tests/fakes/rasa.py` is a fake, built from its
documented API.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from api.delivery.calls import Calls
from api.delivery.parts import MOST_ATTEMPTS
from api.delivery.port import DeliveryError, Message, Refused, TryLater, Uncertain
from api.delivery.rasa import COLLECTED, Rasa
from domain.config_around import Channels
from domain.config_around import Rasa as Settings
from domain.errors import Unavailable
from domain.instants import SECOND
from tests.api.conftest import Launch
from tests.api.serving import Server, command, config, fact, free_port, product_id, saves, trigger, until
from tests.conftest import Run
from tests.fakes.rasa import FakeRasa, running

BODY = "Try bulk edit?"


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def rasa() -> Iterator[FakeRasa]:
    with running(FakeRasa()) as found:
        yield found


def rules(product: str, url: str | None, **changes: Any) -> dict[str, Any]:
    channels = {"channels": {"rasa": {"url": url, "timeout_s": 1}}} if url is not None else {}
    return config(product, triggers=[trigger(limits={"per_session": 1}, **changes)]) | channels


@pytest.fixture
def asking(server: Server, rasa: FakeRasa) -> tuple[Server, str, str]:
    """A server, a product whose chat is Rasa, and a nudge that is on."""
    product = product_id()
    server.put(rules(product, rasa.url))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    return server, product, decision["nudge_id"]


def inject(server: Server, product: str, **changes: Any) -> Any:
    body = {"sender_id": "chat-1", "body": "Say anything", "user_id": "u_1", "trigger_id": "saves"}
    wanted = {name: value for name, value in (body | changes).items() if value is not None}
    return server.http.post(f"/p/{product}/proactive/inject", json=wanted)


def kinds(server: Server, product: str) -> list[str]:
    return [e["type"] for e in server.events(product, "s") if e["type"] != "action"]


def steps(server: Server, product: str, nudge: str) -> list[tuple[str, str]]:
    """(type, channel) of the nudge's deliveries."""
    listed = server.get(f"/v1/products/{product}/decisions/{nudge}")["delivery"]
    return [(row["type"], row["data"]["channel"]) for row in listed if "channel" in row["data"]]


def test_the_recorded_question_and_then_the_follow_up(
    asking: tuple[Server, str, str], rasa: FakeRasa
) -> None:
    """Not the caller's words; 0.6 s later what helps, from the trigger's own how_to; all of it recorded."""
    server, product, nudge = asking
    answer = inject(server, product)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"status": "ok", "nudge_id": nudge, "session_id": "s", "sent": True}
    until(lambda: len(rasa.said) == 2)
    question, behind = rasa.said
    assert (question.conversation, question.body) == ("chat-1", BODY)
    assert (question.nudge_id, question.trigger_id) == (nudge, "saves")
    assert "Open the menu" in behind.body
    assert behind.at - question.at >= 0.6
    now = server.session(product, "s")
    assert (now["conversation_id"], now["open_nudge_id"]) == ("chat-1", None)
    assert now["current_state"] == "proactive_assistance"
    assert kinds(server, product)[:3] == ["nudge_offered", "conversation_linked", "chat_message"]
    asked = next(e for e in server.events(product, "s") if e["type"] == "chat_message")
    assert (asked["data"]["text"], asked["data"]["role"], asked["user_id"]) == (BODY, "user", "u_1")
    until(lambda: len(steps(server, product, nudge)) == 4)
    assert steps(server, product, nudge) == [
        ("delivery_attempted", "rasa"),
        ("nudge_delivered", "rasa"),
        ("delivery_attempted", "rasa_follow_up"),
        ("nudge_delivered", "rasa_follow_up"),
    ]


def test_asked_again_nothing_is_said_twice(asking: tuple[Server, str, str], rasa: FakeRasa) -> None:
    """Ten at once, and one later from another conversation."""
    server, product, _nudge = asking
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(inject(server, product).json())) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a["sent"] for a in answers) == [False] * 9 + [True]
    until(lambda: len(rasa.said) == 2)
    assert inject(server, product, sender_id="chat-2").json()["sent"] is False
    time.sleep(0.2)
    assert len(rasa.said) == 2
    assert kinds(server, product).count("chat_message") == 1


def test_what_is_missing_or_unknown(asking: tuple[Server, str, str], rasa: FakeRasa) -> None:
    server, product, _ = asking
    before = kinds(server, product)
    for changes in ({"sender_id": None}, {"body": None}, {"sender_id": ""}, {"body": " "}, {"body": 5}):
        assert inject(server, product, **changes).status_code == 400, changes
    assert inject(server, product, sender_id="x" * 300).status_code == 400
    for unknown in ({"user_id": "nobody"}, {"trigger_id": "another"}, {"user_id": None}):
        answer = inject(server, product, **unknown)
        assert answer.status_code == 404, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert kinds(server, product) == before
    assert rasa.said == []
    assert inject(server, product, trigger_id=None).status_code == 200  # the user's nudge, whichever


def test_a_chat_that_refuses_is_told_and_may_be_asked_again(
    asking: tuple[Server, str, str], rasa: FakeRasa
) -> None:
    """The user asked all the same: recorded once, in the session; every attempt beside the nudge."""
    server, product, nudge = asking
    rasa.intents.clear()
    refused = inject(server, product)
    assert refused.status_code == 502
    assert "intent" in refused.json()["detail"]
    rasa.intents.add("EXTERNAL_nudge")
    rasa.loaded = False
    assert "no model" in inject(server, product).json()["detail"]
    rasa.loaded = True
    assert inject(server, product).json()["sent"] is True
    until(lambda: len(rasa.said) == 2)
    assert kinds(server, product).count("chat_message") == 1
    assert [kind for kind, channel in steps(server, product, nudge) if channel == "rasa"] == [
        "delivery_attempted",
        "delivery_failed",
        "delivery_attempted",
        "delivery_failed",
        "delivery_attempted",
        "nudge_delivered",
    ]


def test_a_chat_that_refuses_for_ever_is_given_up(asking: tuple[Server, str, str], rasa: FakeRasa) -> None:
    server, product, _ = asking
    rasa.intents.clear()
    for _ in range(MOST_ATTEMPTS + 2):
        last = inject(server, product)
        assert last.status_code == 502
    assert rasa.requests == MOST_ATTEMPTS
    assert "given up" in last.json()["detail"]


@pytest.mark.parametrize("how", ["error", "slow"])
def test_a_chat_of_which_nobody_knows_is_not_asked_twice(
    asking: tuple[Server, str, str], rasa: FakeRasa, how: str
) -> None:
    server, product, nudge = asking
    if how == "error":
        rasa.fails = [500]
    else:
        rasa.slow_s = 1.5
    for _ in range(2):
        answer = inject(server, product)
        assert answer.status_code == 502
        assert "twice" in answer.json()["detail"]
    time.sleep(0.8)
    assert len(rasa.said) == 1
    assert steps(server, product, nudge) == [("delivery_attempted", "rasa"), ("delivery_unknown", "rasa")]


def test_without_a_chat_the_answer_says_so_and_the_wish_is_recorded(server: Server) -> None:
    product = product_id()
    server.put(rules(product, None))
    server.post(product, *saves("s"))
    for _ in range(2):
        answer = inject(server, product)
        assert answer.status_code == 502
        assert "channels.rasa" in answer.json()["detail"]
    assert kinds(server, product).count("chat_message") == 1


def test_a_chat_that_cannot_push_gives_its_messages_back(
    asking: tuple[Server, str, str], rasa: FakeRasa
) -> None:
    server, product, nudge = asking
    rasa.live = False
    assert inject(server, product).json()["messages"] == [{"recipient_id": "chat-1", "text": BODY}]
    until(lambda: len(rasa.said) == 2)
    delivered = server.get(f"/v1/products/{product}/decisions/{nudge}")["delivery"]
    assert COLLECTED in [row["data"].get("reference") for row in delivered]


def test_killed_while_the_chat_is_asked(sqlite_url: str, launch: Launch, rasa: FakeRasa) -> None:
    """kill -9 during the call, for a user and of a nudge that goes to Rasa by itself: afterwards nobody
    knows, the ledger says so, and nothing is said again."""
    server = launch(sqlite_url)
    asked, itself = product_id(), product_id()
    server.put(rules(asked, rasa.url))
    server.put(rules(itself, rasa.url, channels=["rasa"]))
    server.post(itself, fact("conversation_linked", "s", conversation_id="chat-9", link="new"))
    again = product_id()  # where the user asks for what had failed by itself
    server.put(rules(again, rasa.url, channels=["toast", "rasa"]))
    (failed,) = server.post(again, *saves("s"))["decisions"]
    until(lambda: ("delivery_failed", "rasa") in steps(server, again, failed["nudge_id"]))
    assert inject(server, again, sender_id="chat-0").json()["sent"] is True
    until(lambda: len(rasa.said) == 2)
    rasa.said.clear()
    rasa.requests, rasa.slow_s = 0, 1.0
    nudges = {p: server.post(p, *saves("s"))["decisions"][0]["nudge_id"] for p in (asked, itself)}
    thread = threading.Thread(target=lambda: _quietly(lambda: inject(server, asked)))
    thread.start()
    until(lambda: rasa.requests == 2)
    server.kill()
    thread.join()
    server.start()
    for product, nudge in nudges.items():
        until(lambda p=product, n=nudge: ("delivery_unknown", "rasa") in steps(server, p, n), 12)
        assert inject(server, product, sender_id="chat-9").status_code == 502
    assert sorted(text.conversation for text in rasa.said) == ["chat-1", "chat-9"]
    server.stop()
    anew = command("rebuild", "--database-url", sqlite_url)
    assert "changed 0 rows" in anew.stdout, anew.stdout + anew.stderr


def test_killed_between_the_question_and_the_follow_up(
    sqlite_url: str, launch: Launch, rasa: FakeRasa
) -> None:
    """The next start says it, once."""
    server, product = launch(sqlite_url), product_id()
    server.put(rules(product, rasa.url))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    assert inject(server, product).json()["sent"] is True
    server.kill()
    assert len(rasa.said) == 1
    server.start()
    until(lambda: ("nudge_delivered", "rasa_follow_up") in steps(server, product, decision["nudge_id"]))
    assert inject(server, product).json()["sent"] is False
    server.stop()
    assert [(text.conversation, "Open the menu" in text.body) for text in rasa.said] == [
        ("chat-1", False),
        ("chat-1", True),
    ]


def test_a_trigger_whose_channel_is_rasa(server: Server, rasa: FakeRasa) -> None:
    """Delivered by itself into the linked conversation; opening the chat then says it no second time."""
    product = product_id()
    server.put(rules(product, rasa.url, channels=["toast", "rasa"]))
    server.post(product, fact("conversation_linked", "s", conversation_id="chat-9", link="new"))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    until(lambda: len(rasa.said) == 1)
    assert (rasa.said[0].conversation, rasa.said[0].body) == ("chat-9", BODY)
    until(lambda: ("nudge_delivered", "rasa") in steps(server, product, decision["nudge_id"]))
    assert inject(server, product, sender_id="chat-9").json()["sent"] is False
    until(lambda: len(rasa.said) == 2)
    assert "Open the menu" in rasa.said[1].body, (
        "the user opened the chat: the follow-up is said all the same"
    )


# --- replies -----------------------------------------------------------------------------------------


def test_a_reply_is_recorded_and_knows_the_name(server: Server, product: str) -> None:
    server.post(product, fact("user_identified", "s", traits={"name": " Ana  Gomez "}), *saves("s", count=2))
    answer = server.get(f"/p/{product}/reply/u_1", query="How do I do it?")
    assert answer.keys() == {"reply", "name", "has_activity"}
    assert (answer["name"], answer["has_activity"]) == ("Ana Gomez", True)
    assert answer["reply"]
    asked = [e for e in server.events(product, "s") if e["type"] == "chat_message"]
    assert [(e["data"]["text"], e["data"]["role"]) for e in asked] == [("How do I do it?", "user")]
    assert server.session(product, "s")["current_state"] == "reactive_assistance"


def test_the_same_words_within_two_seconds_are_one_message(server: Server, product: str) -> None:
    server.post(product, *saves("s", count=1))
    first = server.get(f"/p/{product}/reply/u_1", query="help")
    assert server.get(f"/p/{product}/reply/u_1", query="help") == first
    assert server.get(f"/p/{product}/reply/u_1", query=" help ") == first
    server.get(f"/p/{product}/reply/u_1", query="other")
    assert kinds(server, product).count("chat_message") == 2
    time.sleep(2.1)
    server.get(f"/p/{product}/reply/u_1", query="help")
    assert kinds(server, product).count("chat_message") == 3


def test_a_reply_to_nobody_and_to_nothing(server: Server, product: str) -> None:
    for query in ({}, {"query": ""}, {"query": "  "}, {"query": "x" * 5_000}):
        assert server.http.get(f"/p/{product}/reply/u_1", params=query).status_code == 400
    unknown = server.get(f"/p/{product}/reply/nobody", query="hello")
    assert (unknown["name"], unknown["has_activity"]) == ("", False)
    assert unknown["reply"]
    assert server.http.get("/p/no-such/reply/u_1", params={"query": "x"}).status_code == 404


# --- the channel -------------------------------------------------------------------------------------


def message(**changes: Any) -> Message:
    found = Message(
        "acme", "n1", "t1", "s", "u", "chat 1/ä", "Hi?", (), (), None, None, "why", 1, 2, 1, 1 * SECOND
    )
    return found._replace(**changes)


def deliver(run: Run, settings: Settings, **changes: Any) -> Any:
    async def once() -> Any:
        calls = Calls()
        try:
            return await Rasa(calls).deliver(message(**changes), Channels(rasa=settings))
        finally:
            await calls.stop()

    return run(once())


def test_what_rasa_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RASA_TOKEN", "t&k=?")
    with running(FakeRasa("t&k=?")) as rasa:
        assert deliver(run, Settings(rasa.url, token="env:RASA_TOKEN")).reference is None
        assert [(text.conversation, text.body) for text in rasa.said] == [("chat 1/ä", "Hi?")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"token": "secret"}, Refused),
        ({"intents": set()}, Refused),
        ({"loaded": False}, TryLater),
        ({"fails": [500]}, Uncertain),
        ({"fails": [503]}, Uncertain),
        ({"fails": [429]}, TryLater),
        ({"fails": [302]}, Refused),
        ({"slow_s": 0.5}, Uncertain),
    ],
)
def test_what_its_answers_mean(
    run: Run, rasa: FakeRasa, change: dict[str, Any], error: type[DeliveryError]
) -> None:
    for name, value in change.items():
        setattr(rasa, name, value)
    with pytest.raises(error) as raised:
        deliver(run, Settings(rasa.url, timeout=SECOND // 5))
    assert "Hi?" not in raised.value.error


def test_what_never_leaves_this_machine(run: Run, rasa: FakeRasa) -> None:
    with pytest.raises(TryLater):
        deliver(run, Settings(f"http://127.0.0.1:{free_port()}"))
    for conversation in (None, ".", ".."):
        with pytest.raises(Refused):
            deliver(run, Settings(rasa.url), conversation_id=conversation)
    with pytest.raises(Unavailable):
        deliver(run, Settings(rasa.url, token="env:SURELY_NOT_SET_ANYWHERE"))
    assert rasa.requests == 0


def _quietly(work: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017 (the server goes away)
        work()
