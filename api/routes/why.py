"""Explanations: decisions and silence."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1/products/{product}", tags=["why"])
