"""The one hot route, `POST /v1/products/{product}/events`, without the machinery that the others enjoy.

FastAPI's routing and dependencies cost about as much as parsing and deciding a small batch. The route is
declared with the others too, for the documentation and for anything that this shortcut does not recognise;
both call `answer`.
"""

from __future__ import annotations

import re

import orjson
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import cors, problems
from api.ingest import native, strict
from api.service import Service
from domain.errors import NudgeledgerError

MOST = 1024 * 1024  # bytes of a body
_PATH = re.compile(r"/v1/products/([^/]+)/events")


async def answer(service: Service, product: str, body: bytes) -> bytes:
    """The receipt of a body of events. Raises the errors of `domain.errors`."""
    batch = native.parse_batch(strict.loads(body), service.clock.now())
    return orjson.dumps((await service.record(product, batch))._asdict())


async def read(receive: Receive) -> bytes:
    """The whole body. Raises BadRequest (413) past `MOST`, without reading on."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise problems.BadRequest("the connection ended before the body did")
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return bounded(body)
    chunks, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problems.BadRequest("the connection ended before the body did")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MOST:
            raise problems.too_large(MOST)
    return bounded(b"".join(chunks))


def bounded(body: bytes) -> bytes:
    if len(body) > MOST:
        raise problems.too_large(MOST)
    return body


class Events:
    """Answers the hot route itself, passes everything else to the application around which it stands."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        service: Service = self._app.state.service
        try:
            body = await answer(service, match[1], await read(receive))
        except NudgeledgerError as error:
            response = problems.of(error)
        except Exception as error:  # the server behind this would say it less well
            response = problems.unexpected(scope["path"], error)
        else:
            response = Response(body, media_type="application/json")
        for name, value in cors.HEADERS.items():
            response.headers[name] = value
        await response(scope, receive, send)
