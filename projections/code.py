"""Which code filled a derived table: the domain's source and the projections' own."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from projections.version import engine_version


@cache
def code_version() -> str:
    """The engine version, and 12 hex of the SHA-256 over the source of the projections.

    Rows derived by other code than this must not be mixed with its own.
    """
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        content = path.read_bytes()
        sources.update(b"%s %d\n%s" % (path.name.encode(), len(content), content))
    return f"{engine_version()}-{sources.hexdigest()[:12]}"
