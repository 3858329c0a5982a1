"""What chat front ends call."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["chat"])
