"""The channel `webhook`: every tool that takes signed JSON. At least once, with an idempotency key.

    X-Nudgeledger-Signature: t=<unix s>,v1=<hex HMAC-SHA256(secret, "<t>.<raw body>")>
    Idempotency-Key: <nudge_id>

2xx: taken (a JSON answer's `id` is kept as reference); 409: had it already; 408, 425, 429, 5xx: later; all
else: refused.
"""

from __future__ import annotations

import hashlib
import hmac
from importlib import metadata

import orjson

from api import secret
from api.delivery.calls import Answer, Calls
from api.delivery.port import Delivered, Message, Refused, Target, TryLater
from domain.config_around import Channels
from domain.instants import SECOND, text

LATER = frozenset({408, 425, 429})
LONGEST_REFERENCE = 200
USER_AGENT = f"nudgeledger/{metadata.version('nudgeledger')}"


class Webhook:
    name = "webhook"
    idempotent = True

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def target(self, settings: Channels) -> Target | None:
        hook = settings.webhook
        return None if hook is None else Target(hook.url, hook.timeout)

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        hook = settings.webhook
        assert hook is not None
        body = orjson.dumps(_body(message))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.nudge_id,
            "User-Agent": USER_AGENT,
        }
        key = secret.of(hook.secret)
        if key is not None:
            headers["X-Nudgeledger-Signature"] = signature(key, message.attempted_at // SECOND, body)
        answer = await self._calls.post(hook.url, body, headers, hook.timeout / SECOND)
        if answer.ok or answer.status == 409:
            return Delivered(reference(answer))
        raise failure(answer, message.attempted_at)


def signature(key: str, at_s: int, body: bytes) -> str:
    """What says that the body comes from us, and when it was sent."""
    digest = hmac.new(key.encode(), b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def failure(answer: Answer, now: int) -> Refused | TryLater:
    """What an answer that is no success means where the request may be repeated."""
    status = answer.status
    if status in LATER or status >= 500:
        return TryLater(f"the vendor answered {status}", status, answer.after(now))
    redirect = " (redirects are not followed)" if 300 <= status < 400 else ""
    return Refused(f"the vendor refused it: {status}{redirect}", status)


def reference(answer: Answer) -> str | None:
    """The `id` of a JSON answer, where it is one."""
    said = answer.json() if answer.ok else None
    named = said.get("id") if isinstance(said, dict) else None
    if isinstance(named, int) and not isinstance(named, bool):
        named = str(named)
    if not isinstance(named, str) or not named.isprintable():
        return None
    return named if 0 < len(named) <= LONGEST_REFERENCE else None


def _body(message: Message) -> dict[str, object]:
    return {
        "type": "nudge",
        "nudge_id": message.nudge_id,
        "product_id": message.product,
        "trigger_id": message.trigger_id,
        "session_id": message.session_id,
        "user_id": message.user_id,
        "conversation_id": message.conversation_id,
        "body": message.body,
        "tours": list(message.tours),
        "options": list(message.options),
        "target": message.target,
        "how_to": message.how_to,
        "reason": message.reason,
        "offered_at": text(message.offered_at),
        "expires_at": text(message.expires_at),
        "attempt": message.attempt,
    }
