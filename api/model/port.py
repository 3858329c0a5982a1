"""What is asked of a model, and what can go wrong. Without a model everything still works."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from domain.config_around import Model as Settings
from domain.errors import NudgeledgerError


class Prompt(NamedTuple):
    """A question, and which version of ours it is."""

    version: str  # such as follow-up-1: raised whenever the wording changes
    system: str
    user: str
    max_tokens: int
    json: bool = False  # the answer is to be one JSON object


class Answer(NamedTuple):
    text: str
    model: str  # as the endpoint names it
    tokens: int | None  # prompt and completion together


class ModelFailed(NudgeledgerError):
    """No usable answer. `reason`: no_model, no_key, budget, timeout, unreachable, refused, nonsense."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Models(Protocol):
    async def ask(self, product: str, settings: Settings | None, prompt: Prompt) -> Answer:
        """The model's answer, after retries within its time limits and the product's budget.

        Raises ModelFailed.
        """
        ...


class Counting(Models, Protocol):
    """Models of which figures are kept."""

    def count(self, product: str, outcome: str) -> None:
        """What came of asking: answered, ungrounded, or a reason of ModelFailed."""
        ...
