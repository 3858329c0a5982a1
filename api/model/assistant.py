"""What the assistant says: follow-ups, replies and summaries, grounded, recorded as events.

With no model, or where one fails, the trigger's own `how_to` is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.model.port import Models
from api.recorder import Recorder
from projections.inline import Written


class Assistant:
    def __init__(self, recorder: Recorder, models: Models) -> None:
        self._recorder, self._models = recorder, models

    async def follow_up(self, product: str, nudge_id: str) -> str:
        """What to say behind an offered nudge's question, recorded as `reply_generated`; the same text again
        for the same nudge. Raises NotFound where no such nudge was offered."""
        raise NotImplementedError

    async def reply(self, product: str, session_id: str, query: str) -> str:
        """An answer to a user's chat message that was recorded already; recorded as `reply_generated`."""
        raise NotImplementedError

    async def context(self, product: str, session_id: str) -> str:
        """The session for a model or a person to read: summary of what is old, then recent actions; never
        empty where the session has any action."""
        raise NotImplementedError

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def written(self, product: str, written: Sequence[Written]) -> None:
        """After the commit."""

    def acted(self, product: str, session_id: str) -> None:
        """The session has new actions: perhaps the older ones are to be summarised."""
