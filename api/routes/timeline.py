"""What happened, for people: products, sessions, their timelines, figures of triggers, all of it live."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import deps, overview
from api.deps import Ledgered
from api.routes import documents
from api.routes.streams import OPENAPI, EventStream
from api.routes.v1 import answer
from api.watching import Watcher
from domain.instants import SECOND
from projections.views import recent

router = APIRouter(prefix="/v1/products/{product}", tags=["timeline"])
products = APIRouter(prefix="/v1/products", tags=["timeline"])

State = Literal["thinking", "proactive_assistance", "reactive_assistance"]


@products.get("", responses=documents.PRODUCTS)
async def get_products(service: Ledgered) -> Response:
    """Every product with the config in force."""
    return answer(await overview.products(service))


@router.get("/sessions", responses=documents.SESSIONS)
async def get_sessions(
    product: str,
    service: Ledgered,
    user_id: str | None = None,
    state: Annotated[State | None, Query(description="as of now")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Response:
    """Sessions as they are now, those with the newest outside event first."""
    place = overview.place_of(after) if after is not None else None
    return answer(await overview.sessions(service, product, recent.Query(user_id, state, place, limit)))


@router.get("/sessions/{session_id:id}/timeline", responses=documents.TIMELINE)
async def get_timeline(
    product: str,
    session_id: str,
    service: Ledgered,
    limit: Annotated[int, Query(ge=1, le=20_000, description="of entries, the newest")] = 2000,
) -> Response:
    """A session as people read it: a sentence per event, states as bands, cooldowns and tours."""
    return answer(await overview.session_timeline(service, product, session_id, limit))


@router.get("/triggers", responses=documents.TRIGGERS)
async def get_triggers(
    product: str,
    service: Ledgered,
    start: Annotated[str | None, Query(alias="from", description="default: a week before `to`")] = None,
    end: Annotated[str | None, Query(alias="to", description="default: now")] = None,
    bucket_s: Annotated[int | None, Query(ge=1, le=10**9, description="default: a round length")] = None,
) -> Response:
    """What each trigger offered and withheld over time, and what came of its offers."""
    first, last = deps.instant(start, "from"), deps.instant(end, "to")
    bucket = bucket_s * SECOND if bucket_s is not None else None
    return answer(await overview.triggers(service, product, first, last, bucket))


@router.get("/live", responses=OPENAPI, response_class=Response)
async def get_live(
    product: str, request: Request, service: Ledgered, last_event_id: str | None = None
) -> Response:
    """Decisions as they fall (`event: decision`) and sessions as they move (`event: session`)."""
    await service.product(product)
    last = request.headers.get("last-event-id") or last_event_id
    return EventStream(service.watching, Watcher(product), last)
