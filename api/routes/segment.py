"""Segment's and RudderStack's SDKs, and their webhook destinations.

The SDKs take 200 for success, send again after 5xx and drop what was answered with 400. So: 503 for whatever
a second try may cure, 400 for what none will. A key in an SDK is public: it says which product is meant.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from starlette.responses import Response

from api import arriving, deps, prefix, secret
from api.deps import Ledgered
from api.ingest import bodies, segment, segment_signed
from api.problems import BadRequest
from api.routes import bearer
from api.routes.products import resolve
from api.service import Service
from domain.errors import InvalidInput

router = APIRouter(tags=["segment"])

_DONE = b'{"success":true}'
_FORMS = {"t": "track", "p": "page", "i": "identify", "g": "group", "a": "alias", "s": "screen"}
_PATHS = ("/v1/batch", "/v1/b", "/b", "/beacon/v1/batch")


async def batch(request: Request, service: Ledgered) -> Response:
    """A batch of any kinds."""
    return await _calls(request, service, None)


async def call(request: Request, service: Ledgered) -> Response:
    """One call, whose kind the path says."""
    last = request.url.path.rpartition("/")[2]
    return await _calls(request, service, _FORMS.get(last, last))


async def _calls(request: Request, service: Service, kind: str | None) -> Response:
    try:
        data, left_out = bodies.loads(await deps.body(request), segment.MAX_BATCH)
        key = _basic(request) or segment.write_key(data) or request.query_params.get("writeKey")
        product = await resolve(request, service, key)
        arrived = segment.translate(data, service.clock.now(), kind)
        await arriving.take(service, product, arrived, left_out)
        arriving.check(arrived)
    except InvalidInput as error:
        raise BadRequest(error.faults[0].detail, error.faults[0].path) from None
    except BadRequest as error:
        raise BadRequest(str(error), error.path) from None  # 400 for too large, too
    return Response(_DONE, media_type="application/json")


def _basic(request: Request) -> str | None:
    """The user name of Basic authentication."""
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(packed.strip(), validate=True).decode().partition(":")[0] or None
    except (binascii.Error, ValueError):
        return None


async def metrics() -> Response:
    """What the browser SDK tells of itself: not kept."""
    return Response(_DONE, media_type="application/json")


@router.get("/v1/projects/{write_key}/settings", include_in_schema=False)
async def settings(write_key: str, request: Request) -> dict[str, Any]:
    """What the browser SDK asks before it sends: no integration but us, and where we are."""
    host = request.headers.get("host", "")
    mounted = request.scope.get(prefix.KEY)
    at = f"{host}/p/{mounted}/v1" if mounted else f"{host}/v1"
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": at,
                "protocol": request.url.scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "maybeBundledConfigIds": {},
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
            }
        },
        "plan": {name: {"__default": {"enabled": True, "integrations": {}}} for name in segment.KINDS[:1]},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }


# --- webhook destinations ----------------------------------------------------------------------------


@router.post("/webhook/segment/{product_id}")
async def segment_webhook(
    product_id: Annotated[str, Path()],
    request: Request,
    service: Ledgered,
    x_signature: Annotated[str | None, Header()] = None,  # told for the documentation
) -> dict[str, Any]:
    """Segment's webhook destination: one event or a list, signed where the config names the secret."""
    raw = await deps.body(request)
    return await delivered(service, product_id, request, raw, segment.SOURCE)


@router.post("/webhook/rudderstack/{product_id}")
async def rudderstack_webhook(
    product_id: Annotated[str, Path()], request: Request, service: Ledgered
) -> dict[str, Any]:
    """RudderStack's webhook destination, which signs nothing: the webhook secret goes as a Bearer header."""
    raw = await deps.body(request)
    await service.product(product_id)
    await service.check_webhook_secret(product_id, bearer.given(request))
    return await _stored(service, product_id, raw, segment.RUDDERSTACK)


async def delivered(
    service: Service, product: str, request: Request, raw: bytes, source: str
) -> dict[str, Any]:
    """Record a webhook's events, after its signature: or, where no secret for one is named, its Bearer."""
    config = (await service.product(product)).rules.config
    shared = secret.of(config.channels.segment)
    if shared is None:
        await service.check_webhook_secret(product, bearer.given(request))
    else:
        segment_signed.check(shared, request.headers.get("x-signature"), raw)
    return await _stored(service, product, raw, source)


async def _stored(service: Service, product: str, raw: bytes, source: str) -> dict[str, Any]:
    data, left_out = bodies.loads(raw)
    arrived = segment.delivered(data, service.clock.now(), source)
    return await arriving.answered(service, product, arrived, left_out)


def _example(kind: str) -> dict[str, Any]:
    schema = {"type": "object", "additionalProperties": True}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


for _path in _PATHS:
    _shown = _path == "/v1/batch"
    router.add_api_route(
        _path,
        batch,
        methods=["POST"],
        include_in_schema=_shown,
        operation_id="segment_batch" if _shown else None,
        openapi_extra=_example("application/json") if _shown else None,
    )
for _kind in segment.KINDS:
    router.add_api_route(
        f"/v1/{_kind}",
        call,
        methods=["POST"],
        operation_id=f"segment_{_kind}",
        openapi_extra=_example("application/json"),
    )
for _form in _FORMS:
    router.add_api_route(f"/v1/{_form}", call, methods=["POST"], include_in_schema=False)
    if _form != "s":  # which is PostHog's
        router.add_api_route(f"/{_form}", call, methods=["POST"], include_in_schema=False)
for _path in ("/v1/m", "/m"):
    router.add_api_route(_path, metrics, methods=["POST"], include_in_schema=False)
