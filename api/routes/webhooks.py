"""PostHog's webhooks. What cannot be stored is noted, and refused, so that PostHog shows it as failed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from api import deps, intake
from api.deps import Ledgered
from api.ingest import posthog
from api.service import Service
from domain.errors import InvalidInput

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
    return await take(service, product_id, await deps.json_object(request))


async def take(service: Service, product: str, body: object) -> dict[str, Any]:
    """Record what a webhook's body says, whose secret was checked. Raises InvalidInput after noting it."""
    try:
        translated = posthog.translate(body, service.clock.now())
    except InvalidInput as error:
        await service.reject(product, [(f.path, f.detail) for f in error.faults])
        raise
    taken = await intake.take(service, product, translated.seen)
    return {
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "merged": taken.merged,
        "ignored": translated.ignored,
    }
