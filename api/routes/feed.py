"""What published stream clients and bridges call: the feed of labelled actions, and what stands around it."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from api import deps
from api.deps import Ledgered
from api.feed import knowledge, onboarding
from api.feed.listening import Listener
from api.ingest import fields
from api.ingest.native import OutsideEvent
from api.problems import BadRequest
from api.routes.streams import MAX_ID, OPENAPI, EventStream
from api.routes.v1 import answer
from domain import events
from domain.errors import Fault, InvalidInput
from projections.views import activity

router = APIRouter(tags=["feed"])

RELABELLED = 100  # corrections read beside the actions that are asked for
_ANSWERS: dict[int | str, dict[str, Any]] = {
    201: {"description": "Registered: the secrets are told here and never again"},
    403: {"description": "Not this product's owner, or not from this machine"},
    409: {"description": "Registered already"},
}


def _body(*required: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object of texts, for the documentation."""
    properties = {name: {"type": "string"} for name in (*required, *optional)}
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.get("/stream/{product_id}", responses=OPENAPI, response_class=Response)
async def stream(
    product_id: str,
    request: Request,
    service: Ledgered,
    session_id: Annotated[str | None, Query(max_length=MAX_ID)] = None,
    user_id: Annotated[str | None, Query(max_length=MAX_ID)] = None,
    resume: Annotated[bool, Query(description="frames carry ids; `Last-Event-ID` resumes")] = False,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="resume behind this sequence")] = None,
) -> Response:
    """Labelled actions, summaries and tour triggers of a product, as they are recorded."""
    await service.product(product_id)
    last = request.headers.get("last-event-id", "") if resume else ""
    if last.isascii() and last.isdigit():
        after = int(last[:16])
    listener = Listener(product_id, resume, session_id, user_id, _face(request, session_id, user_id), after)
    await service.feed.place(listener)
    return EventStream(service.feed, listener, None)


def _face(request: Request, *filters: str | None) -> str:
    """By what a client that comes back is known again: a hash of its address, credentials and filters."""
    host = request.client.host if request.client is not None else ""
    sent = (request.headers.get(name) for name in ("authorization", "user-agent"))
    return hashlib.sha256(repr((host, *sent, *filters)).encode()).hexdigest()[:32]


@router.get("/users/{product_id}/{user_id:id}/live-activity")
async def live_activity(
    product_id: str,
    user_id: str,
    service: Ledgered,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    """What a user did last, the earliest first; each as the stream has it."""
    await service.product(product_id)
    async with service.ledger.reader() as conn:
        rows = await activity.of_user(conn, product_id, user_id, limit + RELABELLED)
        actions = await service.feed.shaper(product_id).actions(conn, rows)
    return answer({"actions": actions[-limit:]})


@router.post(
    "/sessions/link",
    openapi_extra=_body("product_id", "session_id", "conversation_id", optional=("user_id",)),
)
async def link(request: Request, service: Ledgered) -> dict[str, Any]:
    """A session belongs to a conversation in the host's chat. The same again changes nothing."""
    body = await deps.json_object(request)
    faults: list[Fault] = []
    product = fields.identifier(body, "product_id", "", faults)
    session_id = fields.identifier(body, "session_id", "", faults)
    conversation_id = fields.identifier(body, "conversation_id", "", faults)
    user_id = fields.optional_identifier(body, "user_id", "", faults)
    if faults:
        raise InvalidInput(faults)
    await service.product(product)
    state = (await service.recorder.session(product, session_id)).state
    if state.conversation_id != conversation_id:
        now = service.clock.now()
        event = events.ConversationLinked(conversation_id, "new")
        item = OutsideEvent(None, event, session_id, user_id, now, now, None, None, False, "host", None)
        await service.record_events(product, [item])
    return {"status": "ok", "session_id": session_id, "conversation_id": conversation_id}


@router.get("/knowledge-base/{product_id}")
async def knowledge_base(
    product_id: str,
    service: Ledgered,
    query: Annotated[str, Query(max_length=knowledge.LONGEST)] = "",
    top_k: Annotated[int, Query(ge=1, le=knowledge.MOST)] = 3,
) -> Response:
    """What the product's config knows about a question, the best first."""
    if not query.strip():
        raise BadRequest("query is required", "query")
    config = (await service.product(product_id)).rules.config
    return answer({"results": [found._asdict() for found in knowledge.search(config, query, top_k)]})


@router.post(
    "/products",
    status_code=201,
    responses=_ANSWERS,
    openapi_extra=_body(
        "provider",
        "provider_project_id",
        "contact_email",
        optional=("ingest_secret", "owner_token", "name"),
    ),
)
async def register(request: Request, service: Ledgered) -> Response:
    """Registers a product for an analytics project. From this machine only, and never from a page."""
    if service.settings.auth == "on" or not _is_here(request) or "origin" in request.headers:
        raise BadRequest("products are registered from the machine on which this runs", status=403)
    body = await deps.json_object(request)
    base = str(request.base_url).rstrip("/")
    try:
        told = await onboarding.register(service.ledger, body, base)
    except onboarding.Exists:
        raise BadRequest(
            "this project is registered; its owner_token renews the secrets", "provider_project_id", 409
        ) from None
    except onboarding.NotOwner:
        raise BadRequest("owner_token is not this product's", "owner_token", 403) from None
    return JSONResponse(told, 201, headers={"cache-control": "no-store"})


def _is_here(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
