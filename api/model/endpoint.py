"""Asks an OpenAI-compatible endpoint."""

from __future__ import annotations

from api.clock import Clock
from api.model.port import Answer, ModelFailed, Prompt
from domain.config_around import Model as Settings
from eventstore.engine import Ledger


class Endpoint:
    """The models of all products; see `port.Models`."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    async def stop(self) -> None:
        """Close connections."""

    async def ask(self, product: str, settings: Settings | None, prompt: Prompt) -> Answer:
        raise ModelFailed("no_model")
