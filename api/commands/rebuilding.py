"""`rebuild`: the projections derived anew beside the live ones."""

from __future__ import annotations

from api.commands.common import Add


def add(command: Add) -> None:
    """Register the commands."""
