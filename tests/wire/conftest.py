"""Real clients of other systems, pointed at the service; with CI set they must be there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.api.conftest import launch, one_server, one_url, postgres_server, product, server, sqlite_server

__all__ = [
    "clients",
    "launch",
    "one_server",
    "one_url",
    "postgres_server",
    "product",
    "server",
    "sqlite_server",
]

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder of the installed JavaScript clients, with Node to run them."""
    missing = next((name for name in ("node", "npm") if shutil.which(name) is None), None)
    if missing is None and not (CLIENTS / "node_modules" / ".installed").exists():
        missing = f"{CLIENTS.name}/node_modules (make clients)"
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(f"{missing} is missing; with CI set it must be there")
        pytest.skip(f"{missing} is missing")
    return CLIENTS
