"""Nudges as server-sent events: the native stream and the published one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from api.deps import Ledgered
from api.hub import Connection
from api.problems import BadRequest
from api.routes.products import Product
from api.service import Service

router = APIRouter(tags=["streams"])

KEEP_ALIVE_S = 15
# A comment line that no blank line follows: browsers and the published Python clients skip it in silence,
# while a blank line after it would make the latter report an empty event.
KEEP_ALIVE = b": keep-alive\n"
RETRY = b"retry: 3000\n"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@router.get("/v1/products/{product}/nudges/stream")
async def nudges(
    product: str,
    request: Request,
    service: Ledgered,
    user_id: str = "",
    tab_id: str | None = None,
    session_id: str | None = None,
    last_event_id: str | None = None,
) -> StreamingResponse:
    """A user's nudges for the script in the page; one connection a tab."""
    if not user_id:
        raise BadRequest("user_id is required", "user_id")
    await service.product(product)
    connection = Connection(product, user_id, True, tab_id, session_id)
    return await stream(service, connection, request.headers.get("last-event-id") or last_event_id)


@router.get("/proactive/stream/{user_id}")
async def proactive(
    user_id: str, product: Product, request: Request, service: Ledgered
) -> StreamingResponse:
    """The published stream: a nudge goes to the user's newest connection."""
    connection = Connection(product, user_id, False)
    return await stream(service, connection, request.headers.get("last-event-id"))


async def stream(service: Service, connection: Connection, last_event_id: str | None) -> StreamingResponse:
    last = int(last_event_id) if last_event_id is not None and last_event_id.isdigit() else None
    return StreamingResponse(
        frames(service, connection, last), media_type="text/event-stream", headers=HEADERS
    )


async def frames(service: Service, connection: Connection, last: int | None) -> AsyncIterator[bytes]:
    """What one connection is sent until it ends or falls too far behind."""
    try:
        yield RETRY
        await service.listen(connection, last)
        while True:
            try:
                frame = await asyncio.wait_for(connection.frames.get(), KEEP_ALIVE_S)
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if frame is None:
                return
            yield frame
    finally:
        service.leave(connection)
