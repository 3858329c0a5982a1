"""Data keys, one a person, and the cipher that seals personal fields under them.

AES-256-GCM. What is sealed is bound to its product and event, so it cannot be moved to another row.
Without its key a sealed field is noise, for ever: deleting the key is how a person is erased.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import errors
from eventstore import statements

_NONCE = 12  # bytes
_KEY = 32  # bytes


class DataKey(NamedTuple):
    key_id: str  # opaque: says nothing of the person
    key: bytes


async def ensure_keys(
    conn: AsyncConnection, product: str, persons: Iterable[str], *, at: int = 0
) -> dict[str, DataKey]:
    """Each person's key, made where there is none. Inside a transaction. `at`: the instant of making."""
    wanted = list(dict.fromkeys(persons))
    rows = await statements.fetch_by_list(
        conn,
        "SELECT person, key_id, key FROM data_keys WHERE product = $1 "
        "AND person IN (SELECT value FROM json_each($2))",
        "SELECT person, key_id, key FROM data_keys WHERE product = $1 AND person = ANY($2::text[])",
        product,
        wanted,
    )
    found = {person: DataKey(key_id, bytes(key)) for person, key_id, key in rows}
    for person in wanted:
        if person not in found:
            made = found[person] = DataKey(os.urandom(16).hex(), os.urandom(_KEY))
            await statements.execute(
                conn,
                "INSERT INTO data_keys (key_id, product, person, key, created_at) "
                "VALUES ($1, $2, $3, $4, $5::bigint)",
                made.key_id,
                product,
                person,
                made.key,
                at,
            )
    return found


async def load_keys(conn: AsyncConnection, key_ids: Iterable[str]) -> dict[str, bytes]:
    """The keys that still exist, by id; one that is missing was erased."""
    wanted = list(dict.fromkeys(key_ids))
    if not wanted:
        return {}
    rows = await statements.fetch_by_list(
        conn,
        "SELECT key_id, key FROM data_keys WHERE key_id IN (SELECT value FROM json_each($1))",
        "SELECT key_id, key FROM data_keys WHERE key_id = ANY($1::text[])",
        wanted,
    )
    return {key_id: bytes(key) for key_id, key in rows}


_nonces: list[bytes] = []


def _nonce() -> bytes:
    """Random bytes that nobody had before; asked of the system many at a time."""
    try:
        return _nonces.pop()
    except IndexError:
        many = os.urandom(_NONCE * 256)
        _nonces.extend(many[i : i + _NONCE] for i in range(0, len(many), _NONCE))
        return _nonces.pop()


@lru_cache(maxsize=4096)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)  # expanding a key costs as much as sealing a small field


def binding(product: str, event_id: str) -> bytes:
    """The `aad` of an event's sealed fields."""
    owner, event = product.encode(), event_id.encode()
    return b"%d:%b%d:%b" % (len(owner), owner, len(event), event)


def seal(key: bytes, plain: bytes, aad: bytes) -> bytes:
    """Nonce, then ciphertext with its tag. Never twice the same."""
    nonce = _nonce()
    return nonce + _cipher(key).encrypt(nonce, plain, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Raises Unreadable where key, bytes or binding are not those of the sealing."""
    if len(sealed) < _NONCE:
        raise errors.Unreadable("sealed fields are cut short")
    try:
        return _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], aad)
    except InvalidTag:
        raise errors.Unreadable("sealed fields do not open under this key, product and event") from None
