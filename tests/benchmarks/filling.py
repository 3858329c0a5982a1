"""A ledger filled through the service itself, on the traffic's own clock, in a process of its own.

`python -m tests.benchmarks.filling URL EVENTS`: a migrated, empty database, and how many events of the mix;
what they make the engine decide comes on top.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import structlog

from api import log
from api.clock import Clock
from api.ingest import native
from api.service import Service
from api.settings import Settings
from eventstore.engine import open_ledger
from tests.benchmarks import configs, traffic

ABREAST = 64  # requests under way at the same time


class Virtual(Clock):
    """A clock that says what the traffic says."""

    def __init__(self) -> None:
        super().__init__()
        self.instant = traffic.START * 1_000_000

    def machine(self) -> int:
        return self.instant


async def fill(url: str, events: int) -> None:
    ledger = open_ledger(url)
    clock = Virtual()
    service = Service(ledger, Settings(database_url=url), clock)
    try:
        await service.start()
        await service.put_config(configs.PRODUCT, configs.deciding())
        waiting: list[asyncio.Task[Any]] = []
        for second, batch in traffic.batches(events):
            if waiting and (len(waiting) >= ABREAST or (second + 1) * 1_000_000 > clock.instant):
                await asyncio.gather(*waiting)
                waiting.clear()
            clock.instant = max(clock.instant, (second + 1) * 1_000_000)
            parsed = native.parse_batch({"events": batch}, service.clock.now())
            waiting.append(asyncio.create_task(_recorded(service, parsed)))
        await asyncio.gather(*waiting)
    finally:
        await service.stop()
        await ledger.close()


async def _recorded(service: Service, parsed: native.ParsedBatch) -> None:
    receipt = await service.record(configs.PRODUCT, parsed)
    assert not receipt.rejected, receipt.rejected[:1]


if __name__ == "__main__":
    log.configure("text")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a line a decision is not wanted
    asyncio.run(fill(sys.argv[1], int(sys.argv[2])))
