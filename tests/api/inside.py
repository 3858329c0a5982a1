"""A service inside the test's own process, where a clock or a fault is to be put in its way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from api.clock import Clock
from api.ingest import native
from api.predicates import Function, Registry
from api.service import Receipt, Service
from api.settings import Settings
from domain.envelope import Recorded
from domain.instants import SECOND
from eventstore import chain, reader
from eventstore.engine import Ledger
from projections import version

START = 1_800_000_000 * SECOND


class FakeClock(Clock):
    """A machine's clock that the test sets. No timer fires by itself: the heap waits in real seconds."""

    def __init__(self, instant: int = START) -> None:
        super().__init__()
        self.instant = instant

    def machine(self) -> int:
        return self.instant


@contextlib.asynccontextmanager
async def serving(
    ledger: Ledger, clock: Clock | None = None, predicates: dict[str, Function] | None = None, **settings: Any
) -> AsyncIterator[Service]:
    service = Service(ledger, Settings(**settings), clock)
    if predicates is not None:
        service.predicates._functions = predicates
        service.engine = version.engine(Registry(1, predicates).versions())
        service.recorder.engine = service.engine
        service.recorder._engine_version = service.engine.engine_version
    await service.start()
    if isinstance(clock, FakeClock):
        await service.timers.stop()  # else what it does depends on how fast the machine is
    try:
        yield service
    finally:
        await service.stop()


async def post(service: Service, product: str, *events: dict[str, Any], **more: Any) -> Receipt:
    batch = native.parse_batch({"events": list(events), **more}, service.clock.now())
    return await service.record(product, batch)


async def stored(ledger: Ledger, product: str) -> list[Recorded]:
    """Every event of a product, in order; the chain over them must hold."""
    found: list[Recorded] = []
    async with ledger.reader() as conn:
        while rows := await reader.read_product(conn, product, after_seq=len(found), limit=5000):
            found += rows
    assert chain.verify(found) == []
    return found
