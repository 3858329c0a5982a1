"""Tours, as published front ends report them (contract, section 8)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api import deps
from api.deps import Ledgered
from api.problems import BadRequest
from api.routes.products import resolve
from domain import events
from domain.errors import NotFound

router = APIRouter(tags=["tours"])


async def _asked(request: Request, service: Ledgered) -> tuple[str, dict[str, Any], str]:
    """Product, body and user of a tour call."""
    body = await deps.json_object(request)
    named = body.get("product_id")
    if isinstance(named, str) and named:
        await service.product(named)
        product = named
    else:
        product = await resolve(request, service)
    return product, body, _text(body, "user_id")


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} is required and must be text", name)
    if len(value) > 200 or not value.isprintable():
        raise BadRequest(f"{name} is 1 to 200 characters without control characters", name)
    return value


def _session(body: dict[str, Any]) -> str | None:
    return _text(body, "session_id") if body.get("session_id") is not None else None


@router.post("/tour/start")
async def start(request: Request, service: Ledgered) -> dict[str, Any]:
    """A tour begins: `{user_id, tour_id}`, by registry id or provider flow id."""
    product, body, user_id = await _asked(request, service)
    tour_id = _text(body, "tour_id")
    tour = (await service.product(product)).rules.config.tour(tour_id)
    if tour is None:
        raise NotFound(f"no tour {tour_id!r} in the config of product {product!r}")
    known = await service.tour(
        product, user_id, lambda _: events.TourStarted(tour_id), _session(body)
    )
    status = "ok" if known else "no_session"
    return {"status": status, "flow_id": tour.user_tour_id, "tour_id": tour.id}


@router.post("/tour/step")
async def step(request: Request, service: Ledgered) -> dict[str, Any]:
    """The user's running tour moved on."""
    product, body, user_id = await _asked(request, service)
    number = body.get("step")
    known = await service.tour(
        product,
        user_id,
        lambda state: _running(state, body, lambda tour: events.TourStep(tour, number)),
        _session(body),
    )
    return {"status": "ok" if known else "no_session"}


@router.post("/tour/end")
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
        _session(body),
    )
    return {"status": "ok" if known else "no_session"}


def _running(state: Any, body: dict[str, Any], make: Any) -> Any:
    """The event for the named tour, else for the one that runs; None where none runs."""
    named = _text(body, "tour_id") if body.get("tour_id") is not None else None
    tour = named or state.active_tour_id
    return make(tour) if tour is not None else None
