"""When a delivery is attempted again. Spread out by a hash of what is delivered: nothing here is random."""

from __future__ import annotations

import hashlib

from domain.instants import SECOND

MOST_ATTEMPTS = 8
FIRST = 1 * SECOND  # µs; doubled with each attempt
LONGEST = 60 * SECOND


def delay(attempt: int, *key: str) -> int:
    """µs from the end of an attempt (from 1) to the next: between half of the doubled pause and the whole."""
    pause = min(FIRST << min(attempt - 1, 16), LONGEST)
    digest = hashlib.sha256("\0".join((*key, str(attempt))).encode()).digest()
    return pause // 2 + pause // 2 * int.from_bytes(digest[:2]) // 0xFFFF


def next_at(
    attempt: int, now: int, expires_at: int, after_s: float | None, *key: str
) -> tuple[int | None, str]:
    """When to attempt again, not before what the vendor asked for; None, and why not."""
    if attempt >= MOST_ATTEMPTS:
        return None, f"given up after {attempt} attempts"
    pause = delay(attempt, *key)
    if after_s is not None:
        pause = max(pause, int(after_s * SECOND))
    if now + pause >= expires_at:
        return None, "given up, since the offer expires before the next attempt"
    return now + pause, ""
