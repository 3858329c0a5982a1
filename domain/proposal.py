"""A nudge that was put to the judge, and what became of that, as its session holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from domain import events

JUDGE_VETOED, JUDGE_TIMEOUT = "judge_vetoed", "judge_timeout"


class Refusal(NamedTuple):
    """The judge did not let a trigger's nudge pass."""

    proposal_id: str
    at: int
    reason: str  # judge_vetoed | judge_timeout


class Proposal(NamedTuple):
    """It holds the session's slot until it is decided upon."""

    proposal_id: str
    trigger_id: str
    at: int
    deadline: int  # the last instant at which an answer counts
    message: Mapping[str, Any]  # what a channel would show
    criteria: Mapping[str, Any]  # the finding, as explanations hold it
    answer_id: str | None = None  # event id of the answer that counts
    answered_at: int | None = None
    allow: bool = False
    model: str | None = None
    prompt_version: str | None = None
    failure: str | None = None  # of an answer that does not count

    def settled(self, at: int) -> bool:
        """Whether the gates are to be asked again: an answer is there, or the deadline has come."""
        return self.answered_at is not None or at >= self.deadline

    @property
    def since(self) -> int:
        """The instant from which on it is settled."""
        return self.deadline if self.answered_at is None else self.answered_at

    def takes(self, answer: events.JudgeAnswered, at: int) -> bool:
        """Whether an answer that comes at `at` is the one that is waited for."""
        return answer.proposal_id == self.proposal_id and self.answered_at is None and at <= self.deadline

    def answered(self, answer: events.JudgeAnswered, at: int, answer_id: str) -> Proposal:
        """With an answer. One that says neither yes nor no leaves it waiting."""
        if answer.allow is None:
            return self._replace(failure=answer.failure or "no answer")
        return self._replace(
            answer_id=answer_id,
            answered_at=at,
            allow=answer.allow,
            model=answer.model,
            prompt_version=answer.prompt_version,
        )

    def refusal(self) -> Refusal:
        """What it comes to once it is settled and not allowed."""
        return Refusal(
            self.proposal_id, self.since, JUDGE_TIMEOUT if self.answered_at is None else JUDGE_VETOED
        )
