"""Webhooks as Usertour's server sends them, built from its documented behaviour: `whmsg_` ids, topics
`event.tracked.<codeName>`, and a signature over time and body. What sends them is a server of theirs, which
cannot be installed here."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from typing import Any

_ids = itertools.count(1)


def message(
    code: str, user: str, run: str = "cs1", flow: str = "flow_1", **attributes: Any
) -> dict[str, Any]:
    """One tracked event of a flow; `run`: the content session."""
    number = next(_ids)
    at = "2026-11-20T09:00:00.000Z"
    return {
        "id": f"whmsg_{number:032x}",
        "object": "webhookMessage",
        "type": f"event.tracked.{code}",
        "createdAt": at,
        "environmentId": "env1",
        "data": {
            "event": {
                "id": f"ev{number}-{run}",
                "object": "event",
                "codeName": code,
                "eventDefinitionId": "d1",
                "createdAt": at,
                "userId": user,
                "companyId": None,
                "sessionId": run,
                "contentId": flow,
                "versionId": "v1",
                "attributes": {"flow_id": flow, "flow_name": "Edit tour", **attributes},
            }
        },
    }


def signature(secret: str, at_s: int, raw: bytes) -> str:
    made = hmac.new(secret.encode(), f"{at_s}.".encode() + raw, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={made}"


def signed(body: Any, secret: str, at_s: int) -> tuple[bytes, dict[str, str]]:
    """The bytes and headers of a webhook."""
    raw = json.dumps(body).encode()
    return raw, {"X-Usertour-Signature": signature(secret, at_s, raw), "Content-Type": "application/json"}
