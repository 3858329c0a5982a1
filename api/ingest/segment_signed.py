"""The signature of Segment's webhook destination: hex of the HMAC-SHA1 over the JSON, without a prefix.

What is signed is JSON written anew, and of a list only its first event, so the bytes that came need not be
those that were signed: they are tried, then the first event as it stands in them, then what JavaScript would
write for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import orjson

from api.ingest import strict
from domain.errors import InvalidInput, WrongSecret


def check(secret: str, given: str | None, raw: bytes) -> None:
    """Raises WrongSecret where no form of the body has the signature."""
    wanted = (given or "").strip().lower().encode("ascii", "replace")
    for form in _forms(raw):
        made = hmac.new(secret.encode(), form, hashlib.sha1).hexdigest().encode()
        if hmac.compare_digest(made, wanted):
            return
    raise WrongSecret("x-signature is missing or is not this body's")


def _forms(raw: bytes) -> Iterator[bytes]:
    yield raw
    try:
        value = strict.loads(raw)
    except InvalidInput:
        return
    if type(value) is list:
        if not value:
            return
        value = value[0]
        yield _first(raw)
    yield orjson.dumps(_as_script(value))


def _first(raw: bytes) -> bytes:
    """The bytes of the first item of a list."""
    text = raw.decode()
    start = text.index("[") + 1
    while text[start] in " \t\r\n":
        start += 1
    return text[start : json.JSONDecoder().raw_decode(text, start)[1]].encode()


def _as_script(value: Any) -> Any:
    """Numbers as JavaScript writes them: a whole one has no fraction."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is list:
        return [_as_script(item) for item in value]
    if type(value) is dict:
        return {key: _as_script(item) for key, item in value.items()}
    return value
