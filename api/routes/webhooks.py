"""PostHog's webhooks. What cannot be stored is noted, and refused, so that PostHog shows it as failed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from api import arriving, deps
from api.deps import Ledgered
from api.ingest import bodies, posthog

router = APIRouter(tags=["webhooks"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    }
}


@router.post("/webhook/{product_id}", openapi_extra=BODY)
async def posthog_webhook(
    product_id: str,
    request: Request,
    service: Ledgered,
    x_posthog_secret: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """PostHog's flat destination body, or the stock webhook's. A retry has the same id: no change."""
    await service.product(product_id)
    await service.check_webhook_secret(product_id, x_posthog_secret)
    data, left_out = bodies.loads(await deps.body(request))
    arrived = arriving.one(posthog.translate, data, service.clock.now())
    return await arriving.answered(service, product_id, arrived, left_out)
