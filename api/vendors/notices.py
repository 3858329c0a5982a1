"""Intercom's webhooks: the signature, and what people said in a conversation. Pure."""

from __future__ import annotations

import hashlib
import hmac
from html.parser import HTMLParser
from typing import Any, Final, NamedTuple

from api.ingest.fields import MAX_ID
from domain.errors import Fault, InvalidInput, WrongSecret
from domain.instants import SECOND

SOURCE: Final = "intercom"
CREATED, REPLIED = "conversation.user.created", "conversation.user.replied"
PERSONS: Final = frozenset({"user", "lead", "contact"})  # all others are admins and bots: perhaps ourselves
MOST_PARTS: Final = 50  # of one notification
MOST_TEXT: Final = 20_000  # characters of a message
NO_TEXT: Final = "(no text)"  # an attachment alone

_BLOCKS = frozenset({"p", "div", "li", "ul", "ol", "h1", "h2", "h3", "pre", "blockquote", "tr", "table"})
_HIDDEN = frozenset({"script", "style"})


class Said(NamedTuple):
    """One message of a person."""

    event_id: str  # the same however often and by whichever notification it is told
    text: str
    option: str | None  # uuid of the quick reply that was tapped, where Intercom says it
    at: int | None  # µs


class Notice(NamedTuple):
    """What one notification tells of a conversation."""

    conversation_id: str
    new: bool  # it began with this
    external_id: str | None  # of its contact: the host's user id
    said: tuple[Said, ...]


def check(secret: str | None, given: str | None, raw: bytes) -> None:
    """Raises WrongSecret unless the header is `sha1=` and the HMAC-SHA1 of the body."""
    if secret is None:
        raise WrongSecret("the config names no channels.intercom.client_secret: no webhook is believed")
    wanted = f"sha1={hmac.new(secret.encode(), raw, hashlib.sha1).hexdigest()}"
    if not hmac.compare_digest((given or "").strip().encode("utf-8", "replace"), wanted.encode()):
        raise WrongSecret("x-hub-signature is missing or is not this body's")


def parse(body: object) -> Notice | None:
    """What a notification says; None where it is of no interest: a test, an admin's reply, another topic.

    Raises InvalidInput for what is no notification.
    """
    topic = _dict(body).get("topic")
    if not isinstance(topic, str):
        raise InvalidInput([Fault("topic", "is required and must be text")])
    if topic not in (CREATED, REPLIED):
        return None
    item = _dict(_dict(_dict(body).get("data")).get("item"))
    conversation_id = _id(item.get("id"))
    if conversation_id is None:
        raise InvalidInput([Fault("data.item.id", f"must be an id of 1 to {MAX_ID} characters")])
    parts = _list(_dict(item.get("conversation_parts")).get("conversation_parts"))
    messages = [p for p in parts[:MOST_PARTS] if _dict(p).get("part_type", "comment") == "comment"]
    if topic == CREATED:
        messages.insert(0, item.get("source"))
    said = [found for part in messages if (found := _said(_dict(part), conversation_id)) is not None]
    return Notice(conversation_id, topic == CREATED, _contact(item), tuple(said))


def plain(body: str) -> str:
    """The text of a body, which is HTML in some versions of the API and plain text in others."""
    body = body.strip()
    if not (body.startswith("<") and body.endswith(">")):
        return body[:MOST_TEXT]
    reader = _Text()
    reader.feed(body[: 2 * MOST_TEXT])
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.found).splitlines())
    return "\n".join(line for line in lines if line)[:MOST_TEXT]


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "br" or tag in _BLOCKS:
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def _said(part: dict[str, Any], conversation_id: str) -> Said | None:
    author, part_id = _dict(part.get("author")), _id(part.get("id"))
    if author.get("type") not in PERSONS or part_id is None:
        return None
    body, at = part.get("body"), part.get("created_at")
    text = plain(body) if isinstance(body, str) else ""
    named = f"intercom/{conversation_id}/{part_id}"
    if len(named) > MAX_ID:
        named = f"intercom/{hashlib.sha256(named.encode()).hexdigest()}"
    tapped = _id(_dict(part.get("metadata")).get("quick_reply_uuid"))
    instant = at * SECOND if isinstance(at, int) and not isinstance(at, bool) and 0 < at < 10**11 else None
    return Said(named, text or NO_TEXT, tapped, instant)


def _contact(item: dict[str, Any]) -> str | None:
    """The host's id of the one person in the conversation; None where several are, or none is known."""
    listed = _list(_dict(item.get("contacts")).get("contacts"))
    named = {_id(_dict(contact).get("external_id")) for contact in listed[:2]}
    return named.pop() if len(named) == 1 else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable() else None
