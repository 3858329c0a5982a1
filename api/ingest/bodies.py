"""Bodies as vendors pack them: gzip is told by its first two bytes, whatever the headers say."""

from __future__ import annotations

from typing import Any

from api.ingest import posthog_sdk, strict
from api.ingest.posthog_sdk import TooLarge as TooLarge
from domain.errors import Fault

MOST = 1024 * 1024  # bytes of a body when it is unpacked

_GZIP = b"\x1f\x8b"


def unpacked(raw: bytes, most: int = MOST) -> bytes:
    """The text of a body. Raises InvalidInput for damaged gzip, TooLarge past `most` bytes."""
    text = posthog_sdk.inflate(raw) if raw.startswith(_GZIP) else raw
    if len(text) > most:
        raise TooLarge([Fault("", f"may hold at most {most} bytes")])
    return text


def loads(raw: bytes, most: int = MOST) -> tuple[Any, list[Fault]]:
    """The value of a body, and what of it was left out, as `strict.salvaged`."""
    return strict.salvaged(unpacked(raw, most))
