"""The native API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import config_text, deps, hot
from api.deps import Ledgered
from api.ingest import native
from api.problems import BadRequest
from api.published import integration_config
from domain.errors import InvalidConfig
from projections import lookups

log = structlog.get_logger()

router = APIRouter(prefix="/v1/products/{product}", tags=["native"])

MOST = 2**53  # of a number in a query: beyond it JSON readers disagree

CONFIG_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "object"}} for kind in ("application/json", "application/yaml")
        },
    }
}
EVENTS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["events"],
                    "properties": {
                        "events": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": native.MAX_EVENTS,
                            "items": {
                                "type": "object",
                                "required": ["type"],
                                "properties": {
                                    "event_id": {"type": "string"},
                                    "type": {"type": "string"},
                                    "session_id": {"type": "string"},
                                    "user_id": {"type": "string"},
                                    "occurred_at": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                                    "sent_at": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                                    "data": {"type": "object"},
                                },
                            },
                        },
                        "atomic": {"type": "boolean", "default": True},
                    },
                }
            }
        },
    }
}


def answer(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


@router.post("/events", openapi_extra=EVENTS_BODY)
async def post_events(product: str, request: Request, service: Ledgered) -> Response:
    """Store events; answers once everything is durable, with the decisions they caused."""
    body = await hot.answer(service, product, await deps.body(request))
    return Response(body, media_type="application/json")


@router.get("/sessions/{session_id:id}")
async def get_session(
    product: str,
    session_id: str,
    service: Ledgered,
    version: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    at: str | None = None,
) -> Response:
    """A session's state now, as of a version of its stream, or as of an instant."""
    instant = deps.instant(at, "at")
    return answer(await service.session(product, session_id, at=instant, upto=version))


@router.get("/sessions/{session_id:id}/events")
async def get_session_events(
    product: str,
    session_id: str,
    service: Ledgered,
    after: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The session's events after a version."""
    return answer(await service.session_events(product, session_id, after, limit))


@router.get("/decisions")
async def get_decisions(
    product: str,
    service: Ledgered,
    user_id: str | None = None,
    session_id: str | None = None,
    trigger_id: str | None = None,
    outcome: str | None = None,
    start: Annotated[str | None, Query(alias="from")] = None,
    end: Annotated[str | None, Query(alias="to")] = None,
    after: Annotated[int | None, Query(ge=0, le=MOST, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Decisions, newest first."""
    if outcome not in (None, "offered", "withheld"):
        raise BadRequest("is offered or withheld; silence is asked of why-not", "outcome", 422)
    query = lookups.DecisionQuery(
        user_id,
        session_id,
        trigger_id,
        outcome,
        deps.instant(start, "from"),
        deps.instant(end, "to"),
        after,
        limit,
    )
    return answer(await service.decisions(product, query))


@router.put("/config", openapi_extra=CONFIG_BODY)
async def put_config(
    product: str,
    request: Request,
    service: Ledgered,
    dry_run: Annotated[bool, Query(description="only say what it would change on the last day")] = False,
    form: Annotated[Literal["nudgeledger", "integration_config"], Query(alias="format")] = "nudgeledger",
) -> Response:
    """Activate a config (YAML or JSON); every mistake is reported with its path.

    `format=integration_config` takes the published JSON; what is left out of it is listed in `warnings`.
    """
    raw = await _config(request)
    warnings: dict[str, Any] = {}
    if form == "integration_config":
        raw, found = _imported(raw, product)
        warnings = {"warnings": [{"path": w.path, "detail": w.detail} for w in found]}
    if not dry_run:
        return answer(await service.put_config(product, raw) | warnings)
    told = await service.dry_run(product, raw)
    return answer(told | warnings, 200 if told["backtest"]["status"] == "done" else 202)


def _imported(raw: Any, product: str) -> integration_config.Imported:
    try:
        return integration_config.read(raw, product)
    except InvalidConfig as error:
        paths = [fault.path for fault in error.faults]
        log.error("proactive_builtin_spec_invalid", product=product, paths=paths)  # as published
        raise


@router.post("/config/validate", openapi_extra=CONFIG_BODY)
async def validate_config(product: str, request: Request, service: Ledgered) -> Response:
    """Check a config as a put would, and activate nothing."""
    return answer(await service.validate_config(product, await _config(request)))


async def _config(request: Request) -> Any:
    kind = request.headers.get("content-type", "").lower()
    raw = await deps.body(request)
    is_json = "json" in kind or ("yaml" not in kind and raw.lstrip()[:1] == b"{")
    return config_text.parse(raw, is_json=is_json)


@router.get("/config")
async def get_config(product: str, service: Ledgered) -> Response:
    """The config in force, as it was put."""
    return answer(await service.config(product))


@router.get("/config/revisions")
async def get_revisions(product: str, service: Ledgered) -> Response:
    """Every revision, newest first."""
    return answer(await service.revisions(product))
