"""Ids for events whose sender gave none."""

from __future__ import annotations

_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62
_RANDOM = 0xFFF << 64 | (1 << 62) - 1  # the 74 bits that RFC 9562 leaves to chance


def uuid7(at_us: int, random_bytes: bytes) -> str:
    """The text of an RFC 9562 UUIDv7: `at_us` (µs since 1970) in milliseconds, then 74 of 80 random bits.

    Pure: the same instant and bytes give the same id. Raises ValueError unless there are 10 bytes.
    """
    if len(random_bytes) != 10:
        raise ValueError("a UUIDv7 takes 10 random bytes")
    number = (
        (at_us // 1000 & 0xFFFF_FFFF_FFFF) << 80
        | _VERSION_AND_VARIANT
        | int.from_bytes(random_bytes) & _RANDOM
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
