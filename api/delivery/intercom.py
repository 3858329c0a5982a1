"""The channel `intercom`: a text with quick replies, by an admin in the linked conversation. At most once.

Intercom drops no second message under the same key. A session that is linked to no conversation is not
delivered to: Intercom can open one only with a message of the user's own, and the user said nothing.

How the question and its options are put depends on the API's version:

    Unstable           one quick reply that holds both; where Intercom refuses its text, as below
    2.14 on, Preview   the text as a comment first, then quick replies without one
    before 2.14        a comment that lists the options: these versions know no quick replies

The text as a comment is recorded as `intercom_text`, so that a later attempt does not repeat it. What
Intercom answers means:

    2xx            taken
    429            refused before it looked: too much at once; later
    other 3xx 4xx  refused: the token (401), its rights (403), the conversation (404)
    5xx, no answer nobody knows whether it was said
"""

from __future__ import annotations

import contextlib
import html
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from api import secret
from api.delivery.calls import Answer, Calls
from api.delivery.parts import INTERCOM_TEXT, Parts
from api.delivery.port import Delivered, DeliveryError, Message, Refused, Target, TryLater, Uncertain
from domain import events
from domain.config_around import Channels
from domain.config_around import Intercom as Settings
from domain.instants import SECOND
from domain.nudge import DELIVERED

MOST_OPTIONS: Final = 3
TOGETHER, APART, LISTED = "together", "apart", "listed"

_NAMESPACE: Final = uuid.UUID("5b7f4c1e-6f0d-5c0a-9f43-0f7d6f2b9a11")  # ours alone
_LONGEST_ID = 200
_NUMBERED = re.compile(r"(\d+)\.(\d+)")
_FIRST = (2, 14)  # the first version with quick replies
_MALFORMED = (400, 422)
_MEANING: Mapping[int, str] = {
    400: "Intercom could not read the request: perhaps its API version knows no quick replies",
    401: "Intercom refused the token",
    403: "the token may not reply to conversations",
    404: "Intercom knows no such conversation",
    422: "Intercom could not read the request: perhaps its API version knows no quick replies",
    429: "Intercom is asked too much at once",
}


class Part(NamedTuple):
    """What Intercom made of a reply."""

    id: str | None  # None: its answer names none
    silent: bool = False  # it dropped the text


class Intercom:
    name = "intercom"
    idempotent = False

    def __init__(self, calls: Calls, parts: Parts) -> None:
        self._calls, self._parts = calls, parts

    def target(self, settings: Channels) -> Target | None:
        intercom = settings.intercom
        return None if intercom is None else Target(intercom.url, 2 * intercom.timeout)

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        """Say the nudge's text, and offer its options, in the conversation that its session is linked to."""
        intercom = settings.intercom
        assert intercom is not None
        conversation_id, now = message.conversation_id, message.attempted_at
        if conversation_id is None:
            raise Refused("the session is linked to no conversation")
        options = message.options[:MOST_OPTIONS]
        how = form(intercom.version) if options else LISTED
        if how == LISTED:
            text = "\n".join((message.body, *(f"• {option['label']}" for option in options)))
            return Delivered((await self.comment(intercom, conversation_id, text, now)).id)
        replies = [
            {"text": str(each["label"]), "uuid": option_uuid(message.nudge_id, str(each["id"]))}
            for each in options
        ]
        before = await self._parts.standing(message.product, message.nudge_id, INTERCOM_TEXT)
        if how == TOGETHER and before.attempt == 0:
            try:
                part = await self._quick(intercom, conversation_id, now, replies, message.body)
            except Refused as refused:
                if refused.status not in _MALFORMED:
                    raise
            else:
                if part.silent:  # the options stand there without their question
                    with contextlib.suppress(DeliveryError):
                        await self._text(message, intercom, conversation_id)
                return Delivered(part.id)
        if before.status != DELIVERED:
            await self._text(message, intercom, conversation_id)
        return Delivered((await self._quick(intercom, conversation_id, now, replies)).id)

    async def comment(self, settings: Settings, conversation_id: str, text: str, now: int) -> Part:
        """Say a text. Raises DeliveryError, and Unavailable for a token that is not set."""
        said = {"message_type": "comment", "type": "admin", "body": as_html(text)}
        return await self._reply(settings, conversation_id, said, now)

    async def _quick(
        self,
        settings: Settings,
        conversation_id: str,
        now: int,
        replies: Sequence[Mapping[str, str]],
        text: str | None = None,
    ) -> Part:
        said: dict[str, Any] = {
            "message_type": "quick_reply",
            "type": "admin",
            "reply_options": list(replies),
        }
        if text is not None:
            said["body"] = as_html(text)
        part = await self._reply(settings, conversation_id, said, now)
        return part if text is not None else part._replace(silent=False)

    async def _text(self, message: Message, settings: Settings, conversation_id: str) -> None:
        """The question as a comment, at most once over all attempts. Raises DeliveryError."""
        product, nudge_id = message.product, message.nudge_id
        begun = await self._parts.begin(product, nudge_id, INTERCOM_TEXT, settings.timeout)
        if not isinstance(begun.event, events.DeliveryAttempted):
            raise Uncertain("nobody knows whether the question was said: it is not said twice")
        await self._parts.carry(
            product,
            nudge_id,
            begun.event,
            settings.timeout,
            lambda: self.comment(settings, conversation_id, message.body, message.attempted_at),
            lambda part: part.id,
        )

    async def _reply(self, settings: Settings, conversation_id: str, said: dict[str, Any], now: int) -> Part:
        if conversation_id in (".", ".."):
            raise Refused("the conversation's id cannot stand in an address")
        headers = {
            "Authorization": f"Bearer {secret.of(settings.token)}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Intercom-Version": settings.version,
        }
        url = f"{settings.url}/conversations/{quote(conversation_id, safe='')}/reply"
        body = orjson.dumps(said | {"admin_id": settings.admin_id})
        return _part(await self._calls.post(url, body, headers, settings.timeout / SECOND), now)


def form(version: str) -> str:
    """How a version of the API takes a question with options."""
    numbered = _NUMBERED.fullmatch(version)
    if numbered is None:
        return TOGETHER if version.casefold() == "unstable" else APART
    return APART if (int(numbered[1]), int(numbered[2])) >= _FIRST else LISTED


def option_uuid(nudge_id: str, option_id: str) -> str:
    """The id of an option's button: the same whenever it is asked for, and no other option's."""
    return str(uuid.uuid5(_NAMESPACE, f"{nudge_id}\0{option_id}"))


def as_html(text: str) -> str:
    """A text as Intercom's bodies hold it, so that nothing in it is markup."""
    return f"<p>{'<br>'.join(html.escape(text, quote=False).splitlines())}</p>"


def _part(answer: Answer, now: int) -> Part:
    status = answer.status
    if answer.ok:
        return _made(answer.json())
    if status == 429:
        raise TryLater(_MEANING[status], status, answer.after(now))
    if 300 <= status < 500:
        raise Refused(_MEANING.get(status, f"Intercom answered {status}"), status)
    raise Uncertain(f"Intercom answered {status}, perhaps after it had said it", status)


def _made(answer: object) -> Part:
    """The newest part of the conversation that was answered."""
    parts = answer.get("conversation_parts") if isinstance(answer, dict) else None
    listed = parts.get("conversation_parts") if isinstance(parts, dict) else None
    newest = listed[-1] if isinstance(listed, list) and listed else None
    if not isinstance(newest, dict):
        return Part(None)
    named = newest.get("id")
    known = isinstance(named, str) and 0 < len(named) <= _LONGEST_ID and named.isprintable()
    silent = newest.get("part_type") == "quick_reply" and "body" in newest and not newest["body"]
    return Part(named if known else None, silent)
