"""What vendors report back: Intercom, Usertour."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["vendors"])
