"""What Inkeep hosts call: the context of a session, its open offer, and explicit actions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api.chat import offers
from api.deps import Ledgered
from api.ingest import clock, fields, native, payloads
from api.ingest.native import OutsideEvent
from api.problems import BadRequest
from api.routes import asked
from api.routes.products import Product
from domain.errors import Fault, InvalidInput

router = APIRouter(tags=["inkeep"])

ACTIONS: dict[str, Any] = {
    "type": "array",
    "maxItems": native.MAX_EVENTS,
    "items": {
        "type": "object",
        "required": ["type", "title"],
        "properties": {
            "type": asked.TEXT,
            "title": asked.TEXT,
            "timestamp_start": {"oneOf": [{"type": "string"}, {"type": "number"}]},
        },
    },
}


@router.get("/context/{session_id:id}")
async def context(session_id: str, product: Product, service: Ledgered) -> dict[str, Any]:
    """The session for a model to read; empty for one that is not known."""
    state = (await service.recorder.session(product, asked.identifier(session_id, "session_id"))).state
    said = await service.assistant.context(product, session_id) if state.version else ""
    return {"context": said, "has_activity": len(state.actions) > 0, "session_id": session_id}


@router.post("/inkeep/reply", openapi_extra=asked.body_of("session_id", offer_id=asked.TEXT))
async def accept(request: Request, service: Ledgered) -> dict[str, Any]:
    """The user accepts the session's open offer."""
    product, body = await asked.product_and_body(request, service)
    session_id, offer_id = asked.text(body, "session_id"), asked.optional(body, "offer_id")
    try:
        guidance = await offers.accept(service, product, session_id, offer_id)
    except offers.OtherOffer as error:
        raise BadRequest(str(error), "offer_id", 409) from None
    return {"accepted": True, "guidance": guidance}


@router.post(
    "/demo/actions",
    openapi_extra=asked.body_of("session_id", user_id=asked.TEXT, email=asked.TEXT, actions=ACTIONS),
)
async def act(request: Request, service: Ledgered) -> dict[str, Any]:
    """Explicit actions of a session; one that is bad refuses all."""
    product, body = await asked.product_and_body(request, service)
    session_id, user_id = asked.text(body, "session_id"), asked.optional(body, "user_id")
    faults: list[Fault] = []
    email = fields.optional_text(body, "email", "", faults, 320)
    actions = _actions(body.get("actions"), session_id, user_id, service.clock.now(), faults)
    if faults:
        raise InvalidInput(faults)
    return await offers.acted(service, product, session_id, user_id, email, actions)


def _actions(
    listed: object, session_id: str, user_id: str | None, now: int, faults: list[Fault]
) -> list[OutsideEvent]:
    """The checked actions; what is wrong is added to `faults`."""
    if not isinstance(listed, list) or len(listed) > native.MAX_EVENTS:
        faults.append(Fault("actions", f"must be a list of at most {native.MAX_EVENTS} actions"))
        return []
    found: list[OutsideEvent] = []
    for index, item in enumerate(listed):
        path = f"actions[{index}]"
        if not isinstance(item, dict):
            faults.append(Fault(path, "must be an object"))
            continue
        start = clock.instant(item, "timestamp_start", path, faults)
        event_id = fields.optional_identifier(item, "event_id", path, faults)
        data = {key: value for key, value in item.items() if key not in ("timestamp_start", "event_id")}
        event = payloads.PARSERS["action"](data, path, faults, now, 0)
        occurred, _, suspect = clock.corrected(start, None, now)
        raw = clock.verbatim(item.get("timestamp_start"))
        found.append(
            OutsideEvent(
                event_id, event, session_id, user_id, now, occurred, raw, None, suspect, "host", None
            )
        )
    return found
