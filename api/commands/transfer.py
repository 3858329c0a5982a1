"""`export`, `import`, `backfill`: CloudEvents lines."""

from __future__ import annotations

from api.commands.common import Add


def add(command: Add) -> None:
    """Register the commands."""
