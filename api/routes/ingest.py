"""Amplitude, FullStory and CloudEvents; and one address that takes any vendor's body by its shape."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api import arriving, deps
from api.deps import Ledgered
from api.ingest import amplitude, bodies, cloud, fullstory, posthog, segment
from api.ingest.arrivals import Arrived
from api.problems import BadRequest
from api.routes import bearer
from api.routes import segment as segment_routes
from api.routes.products import resolve
from api.service import Service
from domain.errors import Fault, InvalidInput, NudgeledgerError, Unavailable, UnknownProduct

router = APIRouter(tags=["ingest"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    }
}
_CLOUD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            cloud.STRUCTURED: {"schema": {"type": "object", "additionalProperties": True}},
            cloud.BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}


# --- Amplitude's HTTP API ----------------------------------------------------------------------------


@router.post("/2/httpapi", openapi_extra=_BODY)
async def amplitude_api(request: Request, service: Ledgered) -> Response:
    """Events of Amplitude's SDKs. The answer's `code` is what they go by."""
    try:
        raw = await deps.body(request)
        data, left_out = bodies.loads(raw)
    except (BadRequest, InvalidInput) as error:
        return _refused(error)
    return await amplitude_events(request, service, data, left_out, len(raw))


async def amplitude_events(
    request: Request, service: Service, data: Any, left_out: list[Fault], size: int
) -> Response:
    """Answer a body that is Amplitude's, wherever it was sent. `size`: of the request, in bytes."""
    arrived = Arrived()
    try:
        key = data.get("api_key") if type(data) is dict else None
        product = await resolve(request, service, key if type(key) is str else None)
        arrived = amplitude.translate(data, service.clock.now())
        await arriving.take(service, product, arrived, left_out)
        arriving.check(arrived)
    except Unavailable:
        raise  # 503 with Retry-After, which SDKs send again after
    except NudgeledgerError as error:
        return _refused(error, arrived)
    told = {
        "code": 200,
        "events_ingested": len(arrived.events) + arrived.ignored,
        "payload_size_bytes": size,
        "server_upload_time": service.clock.now() // 1000,
    }
    return Response(orjson.dumps(told), media_type="application/json")


def _refused(error: NudgeledgerError, arrived: Arrived | None = None) -> Response:
    """As Amplitude says no: what it names is dropped by the SDK, and nothing is sent again."""
    told: dict[str, Any] = {"code": 400, "error": str(error)[:500]}
    if isinstance(error, bodies.TooLarge) or getattr(error, "status", 400) == 413:
        told["code"] = 413
    elif arrived is not None and arrived.bad:
        fields: dict[str, list[int]] = {}
        for fault in arrived.rejected:
            place, _, name = fault.path.removeprefix("events[").partition("].")
            if place.isdecimal():
                fields.setdefault(name or "event", []).append(int(place))
        told |= {"error": "Invalid events", "events_with_invalid_fields": fields or {"event": arrived.bad}}
    elif isinstance(error, (BadRequest, UnknownProduct)):
        told["error"] = f"Invalid API key: {error}"[:500]
    return Response(orjson.dumps(told), told["code"], media_type="application/json")


# --- any vendor, by the shape of its body ------------------------------------------------------------


@router.post("/ingest/{product_id}", openapi_extra=_BODY)
@router.post("/ingest/amplitude/{product_id}", include_in_schema=False)
async def ingest(product_id: Annotated[str, Path()], request: Request, service: Ledgered) -> dict[str, Any]:
    """A body of PostHog, Amplitude, FullStory, Segment or CloudEvents, with the webhook secret as Bearer."""
    raw = await deps.body(request)
    await service.product(product_id)
    if cloud.PREFIX + "specversion" in request.headers:
        await service.check_webhook_secret(product_id, bearer.given(request))
        return await _cloud(service, product_id, request, raw)
    data, left_out = bodies.loads(raw)
    if segment.is_body(data):
        return await segment_routes.delivered(service, product_id, request, raw, segment.SOURCE)
    await service.check_webhook_secret(product_id, bearer.given(request))
    now = service.clock.now()
    if cloud.is_body(data):
        arrived = cloud.translate(data, now, request.headers.get("traceparent"))
    elif amplitude.is_body(data):
        arrived = amplitude.translate(data, now)
    elif fullstory.is_body(data):
        arrived = arriving.one(fullstory.translate, data, now)
    else:
        arrived = arriving.one(posthog.translate, data, now)
    return await arriving.answered(service, product_id, arrived, left_out)


# --- CloudEvents -------------------------------------------------------------------------------------


@router.post("/v1/products/{product_id:id}/cloudevents", openapi_extra=_CLOUD)
async def cloudevents(
    product_id: Annotated[str, Path()], request: Request, service: Ledgered
) -> dict[str, Any]:
    """CloudEvents 1.0: structured, a batch, or binary. Never atomic; 422 where none could be taken."""
    await service.product(product_id)
    return await _cloud(service, product_id, request, await deps.body(request))


async def _cloud(service: Service, product: str, request: Request, raw: bytes) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in (cloud.STRUCTURED, cloud.BATCH) or cloud.PREFIX + "specversion" not in request.headers:
        data, left_out = bodies.loads(raw)
        if (type(data) is list) != (kind == cloud.BATCH) and kind in (cloud.STRUCTURED, cloud.BATCH):
            shape = "a list of events" if kind == cloud.BATCH else "one event"
            raise InvalidInput([Fault("", f"{kind} holds {shape}")])
    else:
        data, left_out = cloud.binary(request.headers, bodies.unpacked(raw))
    arrived = cloud.translate(data, service.clock.now(), request.headers.get("traceparent"))
    return await arriving.answered(service, product, arrived, left_out)
