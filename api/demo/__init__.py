"""The demo product: a page with a projects table, and the config that watches it."""

from __future__ import annotations

from pathlib import Path

from api import config_text
from api.service import Service

PRODUCT = "demo"


async def load(service: Service) -> None:
    """Put the demo's config, unless it is in force already."""
    raw = (Path(__file__).parent / "demo.yaml").read_bytes()
    await service.put_config(PRODUCT, config_text.parse(raw, is_json=False))
