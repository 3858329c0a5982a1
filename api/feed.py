"""Labelled actions, summaries and tour triggers, as published stream clients read them."""

from __future__ import annotations

from api.recorder import Recorder


class Feed:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def moved(self, product: str) -> None:
        """Something was recorded for the product. After the commit."""
