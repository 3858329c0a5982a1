"""What chat front ends call: the question into the chat, replies, quick replies, guidance."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import deps
from api.chat import options
from api.chat.guidance import Guide
from api.deps import Ledgered
from api.problems import BadRequest
from api.routes import asked
from api.routes.products import Product
from api.routes.streams import OPENAPI, EventStream

router = APIRouter(tags=["chat"])

MOST_TEXT = 4_000  # characters of what a user writes in an address, or of a label


@router.post(
    "/proactive/inject",
    openapi_extra=asked.body_of("sender_id", "body", user_id=asked.TEXT, trigger_id=asked.TEXT),
)
async def inject(request: Request, service: Ledgered) -> dict[str, Any]:
    """The user opens the chat from a nudge: its recorded question is said there, whatever `body` says, and
    the follow-up 0.6 s later. Both once, however often this is called."""
    product, body = await asked.product_and_body(request, service)
    sender_id = asked.text(body, "sender_id")
    if not isinstance(body.get("body"), str) or not body["body"].strip():
        raise BadRequest("body is required and must be text", "body")
    user_id, trigger_id = asked.optional(body, "user_id"), asked.optional(body, "trigger_id")
    done = await service.injecting.inject(product, user_id, trigger_id, sender_id)
    nudge = done.nudge
    told = {"status": "ok", "nudge_id": nudge.nudge_id, "session_id": nudge.session_id, "sent": done.sent}
    return told | ({"messages": list(done.said.messages)} if done.said.messages else {})


@router.get("/reply/{user_id:id}")
async def reply(
    user_id: str, product: Product, service: Ledgered, query: Annotated[str, Query()] = ""
) -> dict[str, Any]:
    """An answer to what the user writes, grounded in what they did."""
    if not query.strip():
        raise BadRequest("query is required", "query")
    if len(query) > MOST_TEXT:
        raise BadRequest(f"query has at most {MOST_TEXT} characters", "query")
    return await service.replies.reply(product, asked.identifier(user_id, "user_id"), query)


@router.post(
    "/v1/products/{product}/nudges/{nudge_id:id}/options",
    openapi_extra=asked.body_of(option_id=asked.TEXT, text=asked.TEXT, event_id=asked.TEXT),
)
async def choose(product: str, nudge_id: str, request: Request, service: Ledgered) -> dict[str, Any]:
    """A quick reply was chosen, by the option's id or the text of its label; says which tour to start."""
    await service.product(product)
    body = await deps.json_object(request)
    option_id, text = asked.optional(body, "option_id"), body.get("text")
    if option_id is None and (not isinstance(text, str) or not text.strip()):
        raise BadRequest("option_id or text is required", "option_id")
    if text is not None and (not isinstance(text, str) or len(text) > MOST_TEXT):
        raise BadRequest(f"text is text of at most {MOST_TEXT} characters", "text")
    chosen = await options.choose(
        service,
        product,
        None,
        nudge_id=nudge_id,
        option_id=option_id,
        text=text,
        event_id=asked.optional(body, "event_id"),
    )
    tour = chosen.tour._asdict() if chosen.tour is not None else None
    return {"status": "ok", "option_id": chosen.option_id, "tour": tour}


@router.get("/guidance/stream/{session_id:id}", responses=OPENAPI, response_class=Response)
async def guidance(session_id: str, product: Product, request: Request, service: Ledgered) -> Response:
    """A session's offers, and the start of its tours."""
    guide = Guide(product, asked.identifier(session_id, "session_id"))
    last_event_id = request.headers.get("last-event-id")
    return EventStream(service.guidance, guide, last_event_id, service.guidance.heartbeat)
