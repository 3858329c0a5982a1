"""What vendors report back: Intercom, Usertour.

The signature is checked first, over the body as it came. What is signed and cannot be read is noted and
answered with 200: sent again it would be the same, and a vendor that is refused often stops sending at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from api import deps, secret
from api.chat import offers
from api.deps import Ledgered
from api.ingest import bodies
from api.routes import asked
from api.service import Service
from api.vendors import intercom, notices, usertour
from domain.config_around import Channels
from domain.errors import InvalidInput

router = APIRouter(tags=["vendors"])

MOST_LABELS = 3

_JSON: dict[str, Any] = {"schema": {"type": "object", "additionalProperties": True}}
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": _JSON}}}

T = TypeVar("T")


@router.post("/webhook/intercom/{product_id}", openapi_extra=BODY, operation_id="intercom_webhook")
@router.post("/chatbot-webhook/{product_id}", openapi_extra=BODY, operation_id="chatbot_webhook")
async def intercom_webhook(
    product_id: str,
    request: Request,
    service: Ledgered,
    x_hub_signature: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """What people say in Intercom: quick replies that they tap, and messages."""
    raw = await deps.body(request)
    settings = (await _channels(service, product_id)).intercom
    notices.check(secret.of(settings.client_secret if settings else None), x_hub_signature, raw)
    return await _taken(service, product_id, raw, notices.parse, intercom.take)


@router.head("/webhook/intercom/{product_id}", include_in_schema=False)
@router.head("/chatbot-webhook/{product_id}", include_in_schema=False)
async def intercom_looks(product_id: str, service: Ledgered) -> Response:
    """Intercom asks whether anybody is here before it sends."""
    await service.product(product_id)
    return Response()


@router.post("/webhook/usertour/{product_id}", openapi_extra=BODY)
async def usertour_webhook(
    product_id: str,
    request: Request,
    service: Ledgered,
    x_usertour_signature: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """What became of flows: started, steps, completed, ended."""
    raw = await deps.body(request)
    shared = secret.of((await _channels(service, product_id)).usertour)
    usertour.check(shared, x_usertour_signature, raw, service.clock.now())
    return await _taken(service, product_id, raw, usertour.parse, usertour.take)


@router.post(
    "/intercom/proactive/{product_id}",
    openapi_extra=asked.body_of("session_id", "conversation_id", action_count={"type": "integer"}),
)
async def proactive(product_id: str, request: Request, service: Ledgered) -> dict[str, Any]:
    """The labels of the session's open nudge, at most three, for a host that posts quick replies itself;
    links the session to the conversation."""
    body = await deps.json_object(request)
    session_id = asked.text(body, "session_id")
    await service.product(product_id)
    await intercom.link(service, product_id, session_id, asked.text(body, "conversation_id"))
    nudge = await offers.of_session(service, product_id, session_id)
    if nudge is None:
        return {"labels": [], "nudge_id": None, "body": None}
    labels = [str(option["label"]) for option in nudge.message["options"][:MOST_LABELS]]
    return {"labels": labels, "nudge_id": nudge.nudge_id, "body": nudge.body}


async def _channels(service: Service, product: str) -> Channels:
    return (await service.product(product)).rules.config.channels


async def _taken(
    service: Service,
    product: str,
    raw: bytes,
    parse: Callable[[object], T | None],
    take: Callable[[Service, str, T], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """What became of a body whose signature was checked."""
    try:
        body, left_out = bodies.loads(raw)
        found = parse(body)
    except InvalidInput as error:
        await service.reject(product, [(f.path, f.detail) for f in error.faults])
        return {"status": "rejected"}
    if found is None:
        return {"status": "ignored"}
    if left_out:
        await service.reject(product, [(f.path, f.detail) for f in left_out])
    return await take(service, product, found)
