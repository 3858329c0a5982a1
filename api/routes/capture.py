"""PostHog's browser and server SDKs, pointed straight at us: config, flags, captures.

The browser SDK takes exactly 200 for success, sends again after 5xx (from 3 s on, at most ten times) and
drops what was answered with 4xx. So: 503 for whatever a second try may cure, 400 and 413 for what none will.
"""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from api import arriving, deps, problems
from api.deps import Ledgered
from api.ingest import amplitude, posthog_sdk
from api.routes import ingest
from api.routes.products import resolve
from domain.errors import InvalidInput

router = APIRouter(tags=["capture"])

MOST_RECORDED = 16 * 1024 * 1024  # bytes of a session recording, which is not kept
CACHED_S = 300  # how long a browser may keep the config: it is the same for all

# What the SDK needs to start capturing by itself, and nothing that would make it ask for more.
CONFIG: dict[str, Any] = {
    "supportedCompression": ["gzip", "gzip-js"],
    "hasFeatureFlags": False,
    "autocapture_opt_out": False,
    "analytics": {"endpoint": "/i/v0/e/"},
    "elementsChainAsString": True,
    "sessionRecording": False,
    "heatmaps": False,
    "surveys": False,
    "capturePerformance": False,
    "captureDeadClicks": False,
    "autocaptureExceptions": False,
    "defaultIdentifiedOnly": True,
    "siteApps": [],
}
FLAGS: dict[str, Any] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
    "quotaLimited": [],
    "config": {"enable_collect_everything": True},
    "toolbarParams": {},
    "isAuthenticated": False,
}
_DONE = b'{"status":"Ok"}'
_JAVASCRIPT = "text/javascript"


async def capture(request: Request, service: Ledgered) -> Response:
    """Events of PostHog's SDKs, of any generation: JSON, gzip, or a form with base64."""
    if request.method == "GET":
        raw = request.scope["query_string"]  # its `data`, as a form
    else:
        raw = await deps.body(request)
    try:
        value, left_out = posthog_sdk.loads(raw)
        if amplitude.is_body(value):  # its batch API has the same path
            return await ingest.amplitude_events(request, service, value, left_out, len(raw))
        sending = posthog_sdk.sending(value, request.query_params)
    except posthog_sdk.TooLarge as error:
        raise problems.BadRequest(error.faults[0].detail, error.faults[0].path, 413) from None
    except InvalidInput as error:
        raise problems.BadRequest(error.faults[0].detail, error.faults[0].path) from None
    product = await resolve(request, service, sending.token)
    arrived = posthog_sdk.read(sending, service.clock.now())
    await arriving.take(service, product, arrived, left_out)
    if arrived.refused:
        raise problems.BadRequest(arrived.rejected[0].detail, arrived.rejected[0].path)
    return Response(_DONE, media_type="application/json")


async def recording(request: Request) -> Response:
    """Session recordings: taken, and not kept."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_RECORDED:
            raise problems.too_large(MOST_RECORDED)
    return Response(_DONE, media_type="application/json")


async def flags(request: Request, service: Ledgered) -> Response:
    """No feature flags; for releases up to 1.160 this is their config too."""
    await deps.body(request)
    told = {
        **CONFIG,
        **FLAGS,
        "requestId": service.clock.new_id(),
        "evaluatedAt": service.clock.now() // 1000,
    }
    return Response(orjson.dumps(told), media_type="application/json")


@router.api_route("/array/{token}/config.js", methods=["GET", "HEAD"], include_in_schema=False)
async def config_script(token: str) -> Response:
    # A token comes from the address: nothing of it may end the text that it stands in.
    named = (
        orjson.dumps(token)
        .replace(b"<", b"\\u003c")
        .replace(b"\xe2\x80\xa8", b"")
        .replace(b"\xe2\x80\xa9", b"")
    )
    script = (
        b"(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};"
        b"window._POSTHOG_REMOTE_CONFIG[%b]={config:%b,siteApps:[]}})();" % (named, _config(token))
    )
    return Response(script, headers=_cached(), media_type=_JAVASCRIPT)


@router.api_route("/array/{token}/config", methods=["GET", "HEAD"], include_in_schema=False)
async def config_json(token: str) -> Response:
    return Response(_config(token), headers=_cached(), media_type="application/json")


def _config(token: str) -> bytes:
    return orjson.dumps({"token": token, **CONFIG}).replace(b"<", b"\\u003c")


def _cached() -> dict[str, str]:
    return {"cache-control": f"public, max-age={CACHED_S}"}


@router.api_route("/static/surveys.js", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/static/{version}/surveys.js", methods=["GET", "HEAD"], include_in_schema=False)
async def surveys() -> Response:
    """Asked for though there are no surveys; without it the page's console shows two errors."""
    return Response(b"", headers=_cached(), media_type=_JAVASCRIPT)


for _path in ("/e", "/i/v0/e", "/capture", "/track", "/batch"):
    for _slash in ("/", ""):
        _told = (_path, _slash) in (("/e", "/"), ("/batch", "/"))
        router.add_api_route(
            _path + _slash,
            capture,
            methods=["GET", "POST"] if _path == "/e" else ["POST"],
            include_in_schema=_told,
            operation_id=f"capture{_path}{_slash}".replace("/", "_").rstrip("_") if _told else None,
        )
for _path in ("/flags", "/decide"):
    for _slash in ("/", ""):
        router.add_api_route(_path + _slash, flags, methods=["POST"], include_in_schema=False)
for _slash in ("/", ""):
    router.add_api_route("/s" + _slash, recording, methods=["POST"], include_in_schema=False)
