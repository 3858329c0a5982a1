"""`relabel`: labels that were wrong, corrected by events."""

from __future__ import annotations

from api.commands.common import Add


def add(command: Add) -> None:
    """Register the commands."""
