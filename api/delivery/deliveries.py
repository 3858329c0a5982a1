"""Carries out what is to be delivered: rows derived from offers, closed by outcome events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.delivery.port import Channel
from api.recorder import Recorder
from projections.inline import Written


class Deliveries:
    def __init__(self, recorder: Recorder, channels: Mapping[str, Channel]) -> None:
        self._recorder, self._channels = recorder, channels

    async def start(self) -> None:
        """Begin with what an earlier process left."""

    async def stop(self) -> None:
        """Let attempts under way end, and stop."""

    def written(self, product: str, written: Sequence[Written]) -> None:
        """Look whether these events leave something to deliver. After the commit."""
