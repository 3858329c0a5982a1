"""Why something happened, and why nothing did: from the ledger alone, with or without a running service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from api.clock import Clock
from api.hub import Hub
from api.predicates import Registry
from eventstore.engine import Ledger
from projections import rederive, version
from projections.rederive import Inputs
from projections.why import asof, explain
from projections.why.asof import Asking, Moment


class Explaining:
    """Asks the ledger. `hub`: who listens now, where a service runs."""

    def __init__(self, ledger: Ledger, clock: Clock, predicates: Registry, hub: Hub | None = None) -> None:
        self._ledger, self._clock, self._predicates, self._hub = ledger, clock, predicates, hub

    async def decision(self, product: str, decision_id: str) -> dict[str, Any]:
        """The explanation of a decision, by its id or its nudge's. Raises NotFound."""
        async with self._asking(product) as asking:
            return await explain.decision(asking, await rederive.find(asking.conn, product, decision_id))

    async def why_not(self, product: str, session_id: str, trigger_id: str, at: int | None) -> dict[str, Any]:
        """Why a trigger did not fire at `at`, or now; where a decision exists at that instant, that one's.

        Raises NotFound for an unknown session. An unknown trigger is an answer.
        """
        async with self._asking(product) as asking:
            return await explain.why_not(asking, session_id, trigger_id, at)

    async def moment(
        self, product: str, session_id: str, *, at: int | None = None, upto: int | None = None
    ) -> Moment:
        """A session as of a version, as of an instant, or now, evaluated. Raises NotFound."""
        async with self._asking(product) as asking:
            return await asof.moment(asking, session_id, at=at, version=upto)

    @contextlib.asynccontextmanager
    async def _asking(self, product: str) -> AsyncIterator[Asking]:
        async with self._ledger.reader() as conn:
            yield Asking(
                conn,
                product,
                Inputs(conn, product),
                self._clock.now(),
                version.engine_version(),
                self._predicates.run,
                self._predicates.versions(),
                self._hub.listening(product) if self._hub is not None else None,
            )
