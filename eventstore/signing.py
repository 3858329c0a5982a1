"""What leaves the ledger as proof is signed: Ed25519 over the RFC 8785 form, a key pair for each product.

A signature says that this ledger, and nobody else, gave the document out. It is worth as much as the place
where the public key, or the signed head itself, is kept apart from the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.ext.asyncio import AsyncConnection

from eventstore import statements
from eventstore.engine import Ledger

SIGNED = ("public_key", "signature")  # what signing adds; the signature covers all but itself


class Head(NamedTuple):
    """The place of a product's newest event."""

    product: str
    product_seq: int  # 0: it has none
    chain_hash: bytes
    recorded_at: int


async def key_of(ledger: Ledger, product: str, at: int) -> Ed25519PrivateKey:
    """The product's signing key, made where there is none. `at`: the instant of making."""
    async with ledger.reader() as conn:
        known = await _load(conn, product)
    if known is not None:
        return known
    async with ledger.transaction() as conn:
        known = await _load(conn, product)
        if known is not None:
            return known
        made = Ed25519PrivateKey.generate()
        await statements.execute(
            conn,
            "INSERT INTO signing_keys (product, private_key, public_key, created_at) "
            "VALUES ($1, $2, $3, $4::bigint)",
            product,
            made.private_bytes_raw(),
            made.public_key().public_bytes_raw(),
            at,
        )
    return made


async def _load(conn: AsyncConnection, product: str) -> Ed25519PrivateKey | None:
    rows = await statements.fetch(conn, "SELECT private_key FROM signing_keys WHERE product = $1", product)
    return Ed25519PrivateKey.from_private_bytes(bytes(rows[0][0])) if rows else None


async def public_key(conn: AsyncConnection, product: str) -> str | None:
    """In hexadecimal; None where nothing of the product was ever signed here."""
    rows = await statements.fetch(conn, "SELECT public_key FROM signing_keys WHERE product = $1", product)
    return bytes(rows[0][0]).hex() if rows else None


def sign(document: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The document with its public key and signature, both in hexadecimal."""
    whole = {**document, "public_key": key.public_key().public_bytes_raw().hex()}
    return {**whole, "signature": key.sign(rfc8785.dumps(whole)).hex()}


def holds(signed: Mapping[str, Any]) -> bool:
    """Whether a document is as it was signed, by the key that it names. Whose key that is, is not asked."""
    whole = {name: value for name, value in signed.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed["public_key"]))
        key.verify(bytes.fromhex(signed["signature"]), rfc8785.dumps(whole))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True
