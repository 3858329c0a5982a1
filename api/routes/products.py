"""Which product a request means, where its path names none."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api import prefix
from api.deps import Ledgered
from api.problems import BadRequest


async def resolve(request: Request, service: Ledgered, token: str | None = None) -> str:
    """The mount prefix, else `?product_id=`, the token's product, the Origin's, the default, the only one.

    Raises BadRequest where none of them names a product, UnknownProduct for one that does not exist.
    """
    directory = service.directory
    named = request.scope.get(prefix.KEY) or request.query_params.get("product_id")
    named = named or await directory.of_token(token)
    named = named or await directory.of_origin(request.headers.get("origin"))
    named = named or service.settings.default_product or await directory.only()
    if named is None:
        raise BadRequest("several products are here: say which by ?product_id=", "product_id")
    await service.product(named)
    return named


async def _resolved(request: Request, service: Ledgered) -> str:
    return await resolve(request, service)


Product = Annotated[str, Depends(_resolved)]
