"""Tours, as published front ends report them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from api.deps import Ledgered
from api.ingest import fields
from api.problems import BadRequest
from api.routes import asked
from domain import errors, events
from domain.errors import NotFound
from domain.session import SessionState

router = APIRouter(tags=["tours"])


def _asks(*required: str, **optional: Any) -> dict[str, Any]:
    return asked.body_of(*required, session_id=asked.TEXT, **optional)


async def _asked(request: Request, service: Ledgered) -> tuple[str, dict[str, Any], str]:
    """Product, body and user of a tour call."""
    product, body = await asked.product_and_body(request, service)
    return product, body, asked.text(body, "user_id")


@router.post("/tour/start", openapi_extra=_asks("user_id", "tour_id"))
async def start(request: Request, service: Ledgered) -> dict[str, Any]:
    """A tour begins: `{user_id, tour_id}`, by registry id or provider flow id."""
    product, body, user_id = await _asked(request, service)
    tour_id = asked.text(body, "tour_id")
    tour = (await service.product(product)).rules.config.tour(tour_id)
    if tour is None:
        raise NotFound(f"no tour {tour_id!r} in the config of product {product!r}")
    known = await service.tour(
        product,
        user_id,
        lambda _: events.TourStarted(tour_id),
        asked.optional(body, "session_id"),
        asked.optional(body, "event_id"),
    )
    status = "ok" if known else "no_session"
    return {"status": status, "flow_id": tour.user_tour_id, "tour_id": tour.id}


@router.post("/tour/step", openapi_extra=_asks("user_id", tour_id={"type": "string"}, step={}))
async def step(request: Request, service: Ledgered) -> dict[str, Any]:
    """The user's running tour moved on."""
    product, body, user_id = await _asked(request, service)
    faults: list[errors.Fault] = []
    number = fields.step(body, "", faults)
    if faults:
        raise errors.InvalidInput(faults)
    known = await service.tour(
        product,
        user_id,
        lambda state: _running(state, body, lambda tour: events.TourStep(tour, number)),
        asked.optional(body, "session_id"),
        asked.optional(body, "event_id"),
    )
    return {"status": "ok" if known else "no_session"}


@router.post(
    "/tour/end",
    openapi_extra=_asks(
        "user_id", tour_id={"type": "string"}, outcome={"type": "string", "enum": ["completed", "dismissed"]}
    ),
)
async def end(request: Request, service: Ledgered) -> dict[str, Any]:
    """The user's running tour ended: `outcome` completed or dismissed, where the host knows."""
    product, body, user_id = await _asked(request, service)
    outcome = body.get("outcome")
    if outcome not in (None, "completed", "dismissed"):
        raise BadRequest("outcome is completed or dismissed", "outcome")
    known = await service.tour(
        product,
        user_id,
        lambda state: _running(state, body, lambda tour: events.TourEnded(tour, outcome=outcome)),
        asked.optional(body, "session_id"),
        asked.optional(body, "event_id"),
    )
    return {"status": "ok" if known else "no_session"}


def _running(
    state: SessionState, body: dict[str, Any], make: Callable[[str], events.Outside]
) -> events.Outside | None:
    """The event for the named tour, else for the one that runs; None where none runs."""
    tour = asked.optional(body, "tour_id") or state.active_tour_id
    return make(tour) if tour is not None else None
