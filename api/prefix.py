"""Paths before they are routed.

`/p/{product_id}/…` names its product by where it is mounted, and a slash inside an id is none of the path.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.convertors import StringConvertor
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems

KEY = "nudgeledger.product"

_SLASH = "\x1f"  # for `%2F` until the path is routed: no id holds a control character
_ESCAPED = re.compile(rb"%2f", re.IGNORECASE)


class Id(StringConvertor):
    """A segment of a path, `{name:id}`, which may hold slashes that were sent as `%2F`."""

    def convert(self, value: str) -> str:
        return value.replace(_SLASH, "/")

    def to_string(self, value: str) -> str:
        return value.replace("/", _SLASH)


def _path(scope: Scope) -> str:
    """The decoded path, with slashes of ids told from its own."""
    raw: bytes = scope.get("raw_path") or b""
    if _ESCAPED.search(raw) is None:
        path: str = scope["path"]
        return path
    return unquote(_ESCAPED.sub(b"%1F", raw).decode("latin-1"))


class ProductPrefix:
    """Takes the prefix off the path and leaves the product in the scope; keeps slashes of ids apart.

    Refuses NUL in a path or a query: no id holds one, and PostgreSQL takes none in a text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = _path(scope)
            if "\0" in path or b"%00" in scope["query_string"]:
                refusal = problems.problem(400, "The request is wrong", "NUL in the address")
                await refusal(scope, receive, send)
                return
            if path.startswith("/p/"):
                product, slash, rest = path[3:].partition("/")
                if product and slash:
                    scope = {**scope, "raw_path": f"/{rest}".encode(), KEY: product}
                    path = f"/{rest}"
            if path != scope["path"]:
                scope = {**scope, "path": path}
        await self._app(scope, receive, send)
