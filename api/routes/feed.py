"""Labelled actions and summaries for published stream clients."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["feed"])
