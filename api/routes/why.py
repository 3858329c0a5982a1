"""Explanations: decisions and silence."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api import deps
from api.deps import Ledgered
from api.problems import BadRequest
from api.routes.v1 import MOST, answer
from api.service import Service

router = APIRouter(prefix="/v1/products/{product}", tags=["why"])


def past(service: Service, at: str | None) -> int | None:
    """The instant of a query that asks about the past. Raises BadRequest for one that lies ahead."""
    instant = deps.instant(at, "at")
    if instant is not None and instant > service.clock.now():
        raise BadRequest("lies in the future: nothing is known of it yet", "at")
    return instant


@router.get("/decisions/{decision_id:id}")
async def get_decision(product: str, decision_id: str, service: Ledgered) -> Response:
    """Why a nudge was offered or held back, by the decision's id, which is the nudge's too."""
    return answer(await service.decision(product, decision_id))


@router.get("/sessions/{session_id:id}/why-not")
async def get_why_not(
    product: str, session_id: str, trigger_id: str, service: Ledgered, at: str | None = None
) -> Response:
    """Why a trigger did not fire in a session, now or at any past instant."""
    return answer(await service.why_not(product, session_id, trigger_id, past(service, at)))


@router.get("/sessions/{session_id:id}/evaluation")
async def get_evaluation(
    product: str,
    session_id: str,
    service: Ledgered,
    version: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    at: str | None = None,
) -> Response:
    """Every trigger's verdict as of a version of the session, as of an instant, or now."""
    if version is not None and at is not None:
        raise BadRequest("give a version or an instant, not both", "version", 422)
    return answer(await service.evaluation(product, session_id, at=past(service, at), upto=version))
