"""Errors as RFC 9457 problem+json: the one map from what went wrong to HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain import errors

log = structlog.get_logger()

STATUSES: tuple[tuple[type[errors.NudgeledgerError], int, str], ...] = (
    (errors.InvalidInput, 422, "The input is wrong"),
    (errors.UnknownProduct, 404, "No such product"),
    (errors.NotFound, 404, "Not found"),
    (errors.WrongSecret, 401, "Wrong secret"),
    (errors.InvalidTransitionError, 409, "No such transition"),
    (errors.NotCarriedOut, 502, "Not done"),
    (errors.Unavailable, 503, "Try again"),
)
RETRY_AFTER_S = 1
_FAULT = {"type": "object", "properties": {"path": {"type": "string"}, "detail": {"type": "string"}}}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": _FAULT},
    },
}
OPENAPI: dict[int | str, dict[str, Any]] = {
    kind: {"description": text, "content": {"application/problem+json": {"schema": _PROBLEM}}}
    for kind, text in (("4XX", "The request is wrong"), ("5XX", "The service cannot answer now"))
}


class BadRequest(errors.NudgeledgerError):
    """The request lacks something or cannot be read."""

    def __init__(self, detail: str, path: str = "", status: int = 400) -> None:
        super().__init__(detail)
        self.path, self.status = path, status


def too_large(most: int) -> BadRequest:
    return BadRequest(f"a body may hold at most {most} bytes", status=413)


def problem(
    status: int,
    title: str,
    detail: str,
    faults: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if faults is not None:
        body["errors"] = faults
    return Response(
        orjson.dumps(body),
        status,
        dict(headers or {}),
        "application/problem+json",
    )


def of(error: errors.NudgeledgerError) -> Response:
    """The answer that an error is."""
    if isinstance(error, BadRequest):
        faults = [{"path": error.path, "detail": str(error)}]
        return problem(error.status, "The request is wrong", str(error), faults)
    for kind, status, title in STATUSES:
        if isinstance(error, kind):
            if isinstance(error, errors.InvalidInput):
                faults = [{"path": f.path, "detail": f.detail} for f in error.faults]
                count = len(faults)
                detail = faults[0]["detail"] if count == 1 else f"{count} mistakes, each in `errors`"
                return problem(status, title, detail, faults)
            if status == 503:
                return problem(status, title, str(error), headers={"Retry-After": str(RETRY_AFTER_S)})
            return problem(status, title, str(error))
    log.error("unmapped_error", error=type(error).__name__)
    return problem(500, "Internal error", "An error that should not happen was logged")


def unexpected(path: str, error: Exception) -> Response:
    """The answer where nobody knows what went wrong; the log has the trace."""
    log.error("request_failed", path=path, exc_info=error)
    return problem(500, "Internal error", "The error was logged; nothing of the request is half-stored")


def install(app: FastAPI) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.NudgeledgerError)
        return of(error)

    async def parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            {"path": ".".join(str(part) for part in fault["loc"][1:]), "detail": fault["msg"]}
            for fault in error.errors()
        ]
        return problem(422, "The input is wrong", "see `errors`", faults)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), str(error.detail), headers=error.headers)

    async def other(request: Request, error: Exception) -> Response:
        return unexpected(request.url.path, error)

    app.add_exception_handler(errors.NudgeledgerError, ours)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, other)
