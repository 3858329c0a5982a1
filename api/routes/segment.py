"""Segment's and RudderStack's SDKs and webhooks."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["segment"])
