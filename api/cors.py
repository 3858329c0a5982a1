"""Pages of any origin may call: what protects a product is the loopback address, later its key."""

from __future__ import annotations

EXPOSED = ["Date", "Retry-After"]
HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": ", ".join(EXPOSED),
}
