"""`why`, `why-not`: an explanation as readable text."""

from __future__ import annotations

from api.commands.common import Add


def add(command: Add) -> None:
    """Register the commands."""
