"""`/p/{product_id}/…`: any path below names its product by where it is mounted."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

KEY = "nudgeledger.product"


class ProductPrefix:
    """Takes the prefix off the path and leaves the product in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/p/"):
            product, slash, rest = path[3:].partition("/")
            if product and slash:
                scope = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), KEY: product}
        await self._app(scope, receive, send)
