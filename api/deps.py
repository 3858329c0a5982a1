"""What routes ask of a request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from api import hot
from api.ingest import strict
from api.problems import BadRequest
from api.service import Service
from domain import errors, instants


async def service(request: Request) -> Service:  # async: a plain function would cost a thread
    found: Service = request.app.state.service
    return found


Ledgered = Annotated[Service, Depends(service)]


async def body(request: Request) -> bytes:
    """The raw body. Raises BadRequest (413) past one mebibyte, without reading on."""
    return await hot.read(request.receive)


async def json_body(request: Request) -> Any:
    """The body as strict JSON, whatever its content type says: beacons cannot say `application/json`."""
    return strict.loads(await body(request))


async def json_object(request: Request) -> dict[str, Any]:
    found = await json_body(request)
    if not isinstance(found, dict):
        raise errors.InvalidInput([errors.Fault("", "must be a JSON object")])
    return found


def instant(value: str | None, name: str) -> int | None:
    """A query parameter that is an instant."""
    if value is None:
        return None
    try:
        return instants.parse(value)
    except ValueError as error:
        raise BadRequest(str(error), name, 422) from None
