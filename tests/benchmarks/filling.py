"""Ledgers filled through the service itself, in this process, on the traffic's own clock."""

from __future__ import annotations

import asyncio
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


def fill(url: str, config: dict[str, Any], events: int) -> None:
    """Record so many events of the mix; what they make the engine decide comes on top."""
    log.configure("text")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a line a decision is not wanted
    asyncio.run(_fill(url, config, events))


async def _fill(url: str, config: dict[str, Any], events: int) -> None:
    ledger = open_ledger(url)
    clock = Virtual()
    service = Service(ledger, Settings(database_url=url), clock)
    try:
        await service.start()
        await service.put_config(configs.PRODUCT, config)
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
