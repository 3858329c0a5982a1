"""Pages of any origin may call: what protects a product is the loopback address, later its key."""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED = ["Date", "Retry-After"]
HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": ", ".join(EXPOSED),
}

# What PostHog's browser SDK asks for; the first of its segments, or all of them.
_CAPTURE = re.compile(r"/(?:array|static|flags|decide|e|i|s|capture|track|batch)(?:/|$)")


class Credentialed:
    """On the paths of PostHog's SDK the caller's origin is named, with credentials.

    Releases up to 1.160 send cookies along, and a browser then hides any answer to `*` from them: no config,
    no autocapture, and every batch again. No answer there depends on a cookie.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None or _CAPTURE.match(scope["path"]) is None:
            await self._app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["access-control-allow-origin"] = origin
                headers["access-control-allow-credentials"] = "true"
                if "origin" not in headers.get("vary", "").lower():
                    headers.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, named)
