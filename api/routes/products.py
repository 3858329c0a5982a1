"""Which product a request means, where its path names none."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api import prefix
from api.deps import Ledgered
from api.problems import BadRequest


async def resolve(request: Request, service: Ledgered) -> str:
    """The mount prefix, else `?product_id=`, else the Origin's one product, else the default, else the only.

    Raises BadRequest where none of them names a product, UnknownProduct for one that does not exist.
    """
    named = request.scope.get(prefix.KEY) or request.query_params.get("product_id")
    named = named or await service.product_of_origin(request.headers.get("origin"))
    named = named or service.settings.default_product or await service.only_product()
    if named is None:
        raise BadRequest("several products are here: say which by ?product_id=", "product_id")
    await service.product(named)
    return named


Product = Annotated[str, Depends(resolve)]
