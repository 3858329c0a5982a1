"""How long and how large a run is. The defaults are for a quick look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    seconds: float = 10.0  # of every case
    database_url: str | None = None  # None: SQLite in a temporary folder, and PostgreSQL where it answers
    connections: int = 64
    streams: int = 100
    probes_per_s: float = 20.0
    events: int = 200_000  # of the ledger that is replayed, and of the file that is backtested
    sessions: int = 20_000  # idle ones
    idle_seconds: float = 20.0
    quick: bool = False  # the main cases only: to see that they run
