"""Nudges as server-sent events: the native stream and the published one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.deps import Ledgered
from api.hub import Connection, Outlet
from api.problems import BadRequest
from api.routes.products import Product
from api.settings import Settings
from domain.errors import NudgeledgerError

router = APIRouter(tags=["streams"])

# A comment line that no blank line follows: browsers and the published Python clients skip it in silence,
# while a blank line after it would make the latter report an empty event.
KEEP_ALIVE = b": keep-alive\n"
RETRY = b"retry: 3000\n"
MAX_ID = 200  # characters
OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


C = TypeVar("C", bound=Outlet)
Taken = TypeVar("Taken", bound=Outlet, contravariant=True)


class Source(Protocol[Taken]):
    """What a stream's frames come from."""

    settings: Settings

    async def listen(self, connection: Taken, last_event_id: int | None, /) -> None: ...
    def leave(self, connection: Taken, /) -> None: ...


class EventStream(Response, Generic[C]):
    """One connection's frames until it ends, stalls or falls too far behind."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: Source[C],
        connection: C,
        last_event_id: str | None,
        alive: Callable[[C], bytes] = lambda _: KEEP_ALIVE,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source, self._connection = source, connection
        self._last = _position(last_event_id)
        self._keep_alive, self._alive = source.settings.keep_alive_s, alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._frames(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._source.leave(self._connection)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _frames(self, send: Send) -> None:
        async def write(body: bytes, more: bool = True) -> None:
            # Whatever a stalled reader holds up is let go: it comes back with its last id.
            async with asyncio.timeout(self._source.settings.stalled_s):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        connection = self._connection
        with contextlib.suppress(TimeoutError, OSError):
            await write(RETRY)
            try:
                await self._source.listen(connection, self._last)
            except NudgeledgerError:  # the ledger cannot say what waits: come back later
                connection.send_end()
            while True:
                try:
                    async with asyncio.timeout(self._keep_alive):
                        frame = await connection.frames.get()
                except TimeoutError:
                    frame = self._alive(connection)
                if frame is None:
                    await write(b"", more=False)
                    return
                await write(frame)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _position(last_event_id: str | None) -> int | None:
    if last_event_id is None or not (last_event_id.isascii() and last_event_id.isdigit()):
        return None
    return int(last_event_id[:19])


@router.get("/v1/products/{product}/nudges/stream", responses=OPENAPI, response_class=Response)
async def nudges(
    product: str,
    request: Request,
    service: Ledgered,
    user_id: Annotated[str, Query(max_length=MAX_ID)] = "",
    tab_id: Annotated[str | None, Query(max_length=MAX_ID)] = None,
    session_id: Annotated[str | None, Query(max_length=MAX_ID)] = None,
    last_event_id: str | None = None,
) -> Response:
    """A user's nudges for the script in the page; one connection a tab."""
    if not user_id:
        raise BadRequest("user_id is required", "user_id")
    await service.product(product)
    connection = Connection(product, user_id, True, tab_id, session_id)
    return EventStream(service, connection, request.headers.get("last-event-id") or last_event_id)


@router.get("/proactive/stream/{user_id:id}", responses=OPENAPI, response_class=Response)
async def proactive(user_id: str, product: Product, request: Request, service: Ledgered) -> Response:
    """The published stream: a nudge goes to the user's newest connection."""
    connection = Connection(product, user_id, False)
    return EventStream(service, connection, request.headers.get("last-event-id"))
