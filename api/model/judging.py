"""Asks the judge about proposed nudges, outside of any decision, and records its answer."""

from __future__ import annotations

from collections.abc import Sequence

from api.model.port import Models
from api.recorder import Recorder
from projections.inline import Written


class Judging:
    def __init__(self, recorder: Recorder, models: Models) -> None:
        self._recorder, self._models = recorder, models

    async def start(self) -> None:
        """Begin with proposals that an earlier process left unanswered."""

    async def stop(self) -> None:
        """Stop asking; what is unanswered times out."""

    def written(self, product: str, written: Sequence[Written]) -> None:
        """Look whether these events propose a nudge. After the commit."""
