"""What happened, for people: sessions, their timelines, figures of triggers."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1/products/{product}", tags=["timeline"])
