"""A fake of Intercom's REST API, as far as this service calls it, and of the webhooks that it sends.

Built from the documented API: `POST /conversations/{id}/reply` with a Bearer token and `Intercom-Version`;
quick replies from 2.14 on, their `uuid` a UUID (Unstable takes any text); a body needed for comments only;
errors as `error.list`; a tap as a comment of the user whose metadata names the uuid. Webhooks are signed with
HMAC-SHA1 over the body. Whether a quick reply keeps a body is not documented: tests say so.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

from tests.fakes.answering import answering

Part = dict[str, Any]


class FakeIntercom:
    """One workspace. Tests set how it behaves."""

    def __init__(self, token: str = "tok", admin_id: str = "991267698") -> None:
        self.token, self.admin_id = token, admin_id
        self.conversations: dict[str, list[Part]] = {"c-1": []}
        self.refuses_body = False  # on quick replies
        self.drops_body = False  # of quick replies
        self.may_reply = True
        self.fails: list[
            tuple[int, dict[str, str]]
        ] = []  # status and headers of the next answers; 0: as usual
        self.after = False  # whether those answers come after the reply was taken
        self.slow_s = 0.0  # after it was taken, before the answer
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.server: ThreadingHTTPServer | None = None
        self._ids = itertools.count(9001)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def said(self) -> list[Part]:
        return self.conversations["c-1"]

    def answer(self, path: str, headers: dict[str, str], raw: bytes) -> tuple[int, Any, dict[str, str]]:
        said = json.loads(raw)
        self.requests.append((path, headers, said))
        failing, extra = self.fails.pop(0) if self.fails else (0, {})
        if failing and not self.after:
            return *_error(failing, "rate_limit_exceeded" if failing == 429 else "server_error"), extra
        if headers.get("authorization") != f"Bearer {self.token}":
            return *_error(401, "unauthorized"), {}
        if not self.may_reply:
            return *_error(403, "forbidden"), {}
        parts = path.split("/")
        if len(parts) != 4 or (parts[1], parts[3]) != ("conversations", "reply"):
            return *_error(404, "not_found"), {}
        if parts[2] not in self.conversations:
            return *_error(404, "not_found"), {}
        fault = self._fault(said, headers.get("intercom-version", "2.11"))
        if fault is not None:
            return *_error(400, "parameter_invalid", fault), {}
        quick = said["message_type"] == "quick_reply"
        part: Part = {
            "type": "conversation_part",
            "id": str(next(self._ids)),
            "part_type": said["message_type"],
            "body": None if quick and self.drops_body else said.get("body"),
            "author": {"type": "admin", "id": said["admin_id"]},
        }
        if quick:
            part["metadata"] = {"quick_reply_options": said["reply_options"]}
        self.conversations[parts[2]].append(part)
        time.sleep(self.slow_s)
        if failing:
            return *_error(failing, "server_error"), extra
        listed = {"type": "conversation_part.list", "conversation_parts": self.conversations[parts[2]]}
        return 200, {"type": "conversation", "id": parts[2], "conversation_parts": listed}, {}

    def _fault(self, said: dict[str, Any], version: str) -> str | None:
        """The field that is wrong."""
        if said.get("type") != "admin" or said.get("admin_id") != self.admin_id:
            return "admin_id"
        if said.get("message_type") == "comment":
            return None if said.get("body") else "body"
        knows = version in ("Unstable", "Preview") or version in ("2.14", "2.15", "2.16")
        if said.get("message_type") != "quick_reply" or not knows:
            return "message_type"
        options = said.get("reply_options")
        if not isinstance(options, list) or not 0 < len(options) <= 3:
            return "reply_options"
        for option in options:
            if version != "Unstable" and str(uuid.UUID(option["uuid"])) != option["uuid"]:
                return "reply_options"
        return "body" if self.refuses_body and "body" in said else None


def _error(status: int, code: str, field: str | None = None) -> tuple[int, dict[str, Any]]:
    fault = {"code": code, "message": "It did not work", "field": field}
    return status, {"type": "error.list", "request_id": "req-1", "errors": [fault]}


@contextmanager
def running(intercom: FakeIntercom) -> Iterator[FakeIntercom]:
    with answering(intercom.answer) as intercom.server:
        yield intercom


# --- webhooks ----------------------------------------------------------------------------------------


def part(
    part_id: str, body: str | None, author: str = "user", tapped: str | None = None, **more: Any
) -> Part:
    """A part of a conversation; `tapped`: the uuid of the quick reply that it is."""
    found: Part = {
        "type": "conversation_part",
        "id": part_id,
        "part_type": "comment",
        "body": body,
        "author": {"type": author, "id": "6762f0dd1bb69f9f2193bb83"},
    }
    if tapped is not None:
        found["metadata"] = {"quick_reply_uuid": tapped}
    return found | more


def notification(
    *parts: Part,
    conversation: str = "c-1",
    topic: str = "conversation.user.replied",
    external_id: str | None = None,
    **source: Any,
) -> dict[str, Any]:
    """A webhook's body."""
    contact = {"type": "contact", "id": "6762f0dd1bb69f9f2193bb83", "external_id": external_id}
    return {
        "type": "notification_event",
        "id": "notif_1",
        "app_id": "app1",
        "topic": topic,
        "created_at": 1795166660,
        "delivery_attempts": 1,
        "data": {
            "type": "notification_event_data",
            "item": {
                "type": "conversation",
                "id": conversation,
                "source": {"type": "conversation", "id": "s-1", **source},
                "contacts": {"type": "contact.list", "contacts": [contact]},
                "conversation_parts": {
                    "type": "conversation_part.list",
                    "conversation_parts": list(parts),
                    "total_count": len(parts),
                },
            },
        },
    }


def signed(body: Any, secret: str) -> tuple[bytes, dict[str, str]]:
    """The bytes and headers of a webhook."""
    raw = json.dumps(body).encode()
    made = hmac.new(secret.encode(), raw, hashlib.sha1).hexdigest()
    return raw, {
        "X-Hub-Signature": f"sha1={made}",
        "Content-Type": "application/json",
        "User-Agent": "intercom-parrot-service-client/1.0",
    }
