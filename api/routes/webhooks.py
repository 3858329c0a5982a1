"""Vendors' webhooks. Never atomic: what cannot be stored is noted, the rest is kept."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from api import deps
from api.deps import Ledgered
from api.ingest import posthog
from domain.errors import InvalidInput

router = APIRouter(tags=["webhooks"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}
        },
    }
}


@router.post("/webhook/{product_id}", openapi_extra=BODY)
async def posthog_flat(
    product_id: str,
    request: Request,
    service: Ledgered,
    x_posthog_secret: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """PostHog's flat destination body. A retry has the same derived id, so it changes nothing."""
    await service.product(product_id)
    await service.check_webhook_secret(product_id, x_posthog_secret)
    body = await deps.json_object(request)
    try:
        translated = posthog.translate(body, service.clock.now())
    except InvalidInput as error:
        await service.reject(product_id, [(f.path, f.detail) for f in error.faults])
        raise
    if not translated.events:
        return {"accepted": 0, "duplicates": 0, "ignored": translated.ignored}
    receipt = await service.record_events(product_id, translated.events)
    return {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "ignored": None}
