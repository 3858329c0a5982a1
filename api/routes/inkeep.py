"""What Inkeep hosts call."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["inkeep"])
