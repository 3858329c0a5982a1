"""What was recorded later about the time before an instant, and what would be said of that instant today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from domain.history import History
from projections import facts
from projections.readable import Told
from projections.why import asof
from projections.why.asof import Asking, Moment


async def known_now(asking: Asking, moment: Moment) -> Moment | None:
    """The same moment with what was recorded later about the time before it; None: nothing was."""
    then = moment.situation.session
    late: list[Told] = []
    for row in moment.rows[then.version :]:
        happened = row.type == "action" and row.occurred_at <= moment.at
        if happened or (row.type == "action_relabelled" and _holds(row, then.actions, late)):
            late.append(row)
    if not late:
        return None
    keys = await asking.inputs.keys(late) if moment.rules.reads_properties else None
    grown, _ = facts.folded_session(then, late, keys)
    situation = moment.situation._replace(session=replace(then, actions=grown.actions))
    evaluation, failure = asof.evaluated(situation, moment.rules)
    ids = tuple(row.event_id for row in late)
    return replace(moment, situation=situation, evaluation=evaluation, failure=failure, late=ids)


def _holds(correction: Told, actions: History, late: Sequence[Told]) -> bool:
    """Whether the corrected action happened by then."""
    corrected = orjson.loads(correction.data)["action_id"]
    return any(row.event_id == corrected for row in late) or any(a.event_id == corrected for a in actions)
