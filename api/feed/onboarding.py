"""`POST /products`: a product is registered by whoever runs its analytics, and told its secrets, once.

The product's id follows from provider and project, so a second registration is recognised. It needs the
owner's token, and renews the secrets. Neither the address of a contact nor a name is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import sqlalchemy as sa

from api import credentials
from api.ingest import fields
from domain.errors import Fault, InvalidInput
from eventstore import schema
from eventstore.engine import Ledger
from projections.views import activity

PROVIDERS = ("posthog", "amplitude", "fullstory")
MOST = 320  # characters of a text; an e-mail address may have as many
_PLAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


class Exists(Exception):
    """It is registered already, and no owner's token came."""


class NotOwner(Exception):
    """The owner's token is not this product's."""


async def register(ledger: Ledger, body: dict[str, Any], base: str) -> dict[str, Any]:
    """The answer of a registration. `base`: this service's address. Raises InvalidInput, Exists, NotOwner."""
    faults: list[Fault] = []
    provider = fields.choice(body, "provider", "", faults, PROVIDERS, required=True) or ""
    project = fields.text(body, "provider_project_id", "", faults, 200)
    fields.text(body, "contact_email", "", faults, MOST)
    fields.optional_text(body, "name", "", faults, MOST)
    preset = fields.optional_text(body, "ingest_secret", "", faults, MOST)
    given = fields.optional_text(body, "owner_token", "", faults, MOST)
    if preset is not None and (len(preset) < 16 or not preset.isascii() or not preset.isprintable()):
        faults.append(Fault("ingest_secret", "must have at least 16 printable ASCII characters"))
    if faults:
        raise InvalidInput(faults)
    product = product_of(provider, project)
    made = credentials.make(preset)
    told: dict[str, str] = {"ingest_secret": made.webhook_secret, "mcp_key": made.server_key}
    async with ledger.transaction() as conn:
        if await credentials.add(conn, product, made):
            if await activity.newest_seq(conn, product):  # a config was put: somebody's, but nobody can say
                raise Exists  # whose; nothing of this transaction is kept
            told["owner_token"] = credentials.owner_token(made.token_secret)
        else:
            if given is None:
                raise Exists
            table = schema.products
            known = await conn.scalar(sa.select(table.c.token_secret).where(table.c.product == product))
            if known is None or not hmac.compare_digest(
                credentials.owner_token(known).encode(), given.encode()
            ):
                raise NotOwner
            await credentials.renew(conn, product, made, known)
    return {
        "product_id": product,
        "provider": provider,
        "provider_project_id": project,
        "credentials": told,
        "setup": _setup(provider, product, base),
    }


def product_of(provider: str, project: str) -> str:
    """The product's id: readable where the project's id allows it."""
    plain = f"{provider}-{project.strip().lower()}"
    if _PLAIN.match(plain) and project == project.strip().lower():
        return plain
    return f"{provider}-{hashlib.sha256(project.encode()).hexdigest()[:16]}"


def _setup(provider: str, product: str, base: str) -> dict[str, str | None]:
    posthog = provider == "posthog"
    return {
        "ingest_url": f"{base}/ingest/{product}",
        "ingest_auth": "x-posthog-secret: <ingest_secret>"
        if posthog
        else "Authorization: Bearer <ingest_secret>",
        "mcp_url": None,  # there is none: the same is read over `live_activity_url`
        "mcp_auth": "Authorization: Bearer <mcp_key>",
        "stream_url": f"{base}/stream/{product}",
        "live_activity_url": f"{base}/users/{product}/{{user_id}}/live-activity",
    }
