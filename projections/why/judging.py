"""What the judge said of a proposal that a decision settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from domain.instants import text
from projections import facts
from projections.facts import ERASED
from projections.readable import Told
from projections.why.asof import Asking, Moment

Row = dict[str, Any]


class Opinion(NamedTuple):
    """A proposal with what became of it before the decision."""

    told: Mapping[str, Any]  # as the decision's explanation holds it
    proposal: Told | None  # their events; None: not in this ledger
    answer: Told | None
    reason: str | None  # the judge's words; "(erased)" where they can be read no more

    def as_json(self) -> Row:
        return {
            **self.told,
            "answered_at": text(self.answer.at) if self.answer is not None else None,
            "reason": self.reason,
        }

    def sentence(self) -> str:
        """The answer, or that there was none, in one sentence."""
        said = f": {self.reason.removesuffix('.')}" if self.reason else ""
        match self.told["allow"]:
            case True:
                return f"The judge allowed it{said}."
            case False:
                return f"The judge vetoed it{said}."
            case _:
                failed = self.told.get("failure")
                return f"The judge did not answer in time{f' ({failed})' if failed else ''}."


async def of_decision(asking: Asking, moment: Moment, explanation: Mapping[str, Any]) -> Opinion | None:
    """None where the decision settled no proposal."""
    told = explanation.get("judge")
    if told is None:
        return None
    named = {row.event_id: row for row in moment.known if row.type in ("nudge_proposed", "judge_answered")}
    answer = named.get(told["answer_id"])
    reason: str | None = None
    if answer is not None and answer.sealed is not None:
        personal = facts.personal_of(answer, await asking.inputs.keys([answer]))
        reason = ERASED if personal is None else personal.get("reason")
    return Opinion(told, named.get(told["proposal_id"]), answer, reason)
