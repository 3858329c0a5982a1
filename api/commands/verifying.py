"""`verify`, `head`, `verify-decision`: the ledger itself."""

from __future__ import annotations

from api.commands.common import Add


def add(command: Add) -> None:
    """Register the commands."""
