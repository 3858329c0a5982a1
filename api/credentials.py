"""A product's secrets: made here, shown once, kept as hashes (but for the one that signs browser tokens)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from eventstore import schema


class Secrets(NamedTuple):
    """As they are told, once."""

    server_key: str
    webhook_secret: str
    token_secret: str


def make(webhook_secret: str | None = None) -> Secrets:
    """New ones; a webhook secret that somebody uses already is kept."""
    key, hook, token = (secrets.token_urlsafe(32) for _ in range(3))
    return Secrets(key, webhook_secret or hook, token)


def hashed(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


async def add(conn: AsyncConnection, product: str, made: Secrets) -> bool:
    """Keep a new product's secrets; False where it has some. Inside a transaction."""
    table = schema.products
    if await conn.scalar(sa.select(table.c.product).where(table.c.product == product)) is not None:
        return False
    await conn.execute(sa.insert(table).values(product=product, **_kept(made)))
    return True


async def renew(conn: AsyncConnection, product: str, made: Secrets, token_secret: str) -> None:
    """Other server key and webhook secret for a product; browser tokens stay good."""
    table = schema.products
    values = _kept(made) | {"token_secret": token_secret}
    await conn.execute(sa.update(table).where(table.c.product == product).values(values))


def owner_token(token_secret: str) -> str:
    """What proves that somebody registered the product: nothing more has to be kept for it."""
    return hmac.new(token_secret.encode(), b"nudgeledger owner", hashlib.sha256).hexdigest()


def _kept(made: Secrets) -> dict[str, str]:
    return {
        "server_key_hash": hashed(made.server_key),
        "webhook_secret_hash": hashed(made.webhook_secret),
        "token_secret": made.token_secret,
    }
