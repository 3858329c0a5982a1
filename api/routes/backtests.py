"""Backtests over the ledger, as jobs."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1/products/{product}", tags=["backtests"])
