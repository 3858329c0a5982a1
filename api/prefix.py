"""Paths before they are routed: `/p/{product_id}/…` names its product by where it is mounted."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems

KEY = "nudgeledger.product"


class ProductPrefix:
    """Takes the prefix off the path and leaves the product in the scope.

    Refuses NUL in a path or a query: no id holds one, and PostgreSQL takes none in a text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if "\0" in path or b"%00" in scope["query_string"]:
                refusal = problems.problem(400, "The request is wrong", "NUL in the address")
                await refusal(scope, receive, send)
                return
            if path.startswith("/p/"):
                product, slash, rest = path[3:].partition("/")
                if product and slash:
                    scope = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), KEY: product}
        await self._app(scope, receive, send)
