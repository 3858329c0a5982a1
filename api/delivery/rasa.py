"""The channel `rasa`: a text said in a conversation, by `trigger_intent` of Rasa's HTTP API. At most once.

The bot has an intent for it (`EXTERNAL_nudge`, unless the config names another) and a rule that says the
entity `body`. Rasa drops no second message under the same key. What it answers means:

    200            taken; `messages` in it: no channel of the conversation could push, so Rasa gave them back
    409, 429       refused before it looked: no model is loaded, or too much at once; later
    other 3xx 4xx  refused: the token (401), the conversation (403), the intent (404)
    5xx, no answer nobody knows whether it had spoken
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from api import secret
from api.delivery.calls import Answer, Calls
from api.delivery.port import Delivered, Message, Refused, Target, TryLater, Uncertain
from domain.config_around import Channels
from domain.config_around import Rasa as Settings
from domain.instants import SECOND

COLLECTED = "collected"  # the reference of a text that Rasa gave back, since no channel could push it
MOST_MESSAGES = 20  # that are handed on of what it gave back

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_MEANING: Mapping[int, str] = {
    400: "Rasa could not read the request",
    401: "Rasa refused the token",
    403: "the token may not speak in this conversation",
    404: "Rasa knows no such intent, or its HTTP API is not enabled",
    405: "Rasa's HTTP API is not enabled",
    409: "Rasa has no model loaded",
    429: "Rasa is asked too much at once",
}


class Said(NamedTuple):
    """Rasa took a text."""

    messages: tuple[Mapping[str, Any], ...] = ()  # given back instead of pushed; empty: pushed

    @property
    def reference(self) -> str | None:
        return COLLECTED if self.messages else None


class Rasa:
    name = "rasa"
    idempotent = False

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def target(self, settings: Channels) -> Target | None:
        rasa = settings.rasa
        return None if rasa is None else Target(rasa.url, rasa.timeout)

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        """Say the nudge's text in the conversation that its session is linked to."""
        assert settings.rasa is not None
        if message.conversation_id is None:
            raise Refused("the session is linked to no conversation")
        said = await self.say(
            settings.rasa,
            message.conversation_id,
            message.body,
            message.nudge_id,
            message.trigger_id,
            message.attempted_at,
        )
        return Delivered(said.reference)

    async def say(
        self, settings: Settings, conversation_id: str, text: str, nudge_id: str, trigger_id: str, now: int
    ) -> Said:
        """Have the bot say a text. Raises DeliveryError, and Unavailable for a token that is not set."""
        if conversation_id in (".", ".."):
            raise Refused("the conversation's id cannot stand in an address")
        query = {"output_channel": settings.output_channel, "include_events": "NONE"}
        token = secret.of(settings.token)
        if token is not None:
            query["token"] = token
        path = f"/conversations/{quote(conversation_id, safe='')}/trigger_intent"
        entities = {"nudge_id": nudge_id, "body": text, "trigger_id": trigger_id}
        body = orjson.dumps({"name": settings.intent, "entities": entities})
        url = f"{settings.url}{path}?{urlencode(query)}"
        return _said(await self._calls.post(url, body, _HEADERS, settings.timeout / SECOND), now)


def _said(answer: Answer, now: int) -> Said:
    status = answer.status
    if answer.ok:
        return Said(_given_back(answer.json()))
    if status in (409, 429):
        raise TryLater(_MEANING[status], status, answer.after(now))
    if 300 <= status < 500:
        raise Refused(_MEANING.get(status, f"Rasa answered {status}"), status)
    raise Uncertain(f"Rasa answered {status}, perhaps after it had spoken", status)


def _given_back(answer: object) -> tuple[Mapping[str, Any], ...]:
    messages = answer.get("messages") if isinstance(answer, dict) else None
    if not isinstance(messages, list):
        return ()
    return tuple(message for message in messages[:MOST_MESSAGES] if isinstance(message, dict))
