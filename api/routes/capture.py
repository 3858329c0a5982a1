"""PostHog's browser and server SDKs, pointed straight at us."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["capture"])
