"""A backtest's result: what all shares came to together, as JSON, and the simulated decisions by number.

The same whatever the number of shares: figures are sums, lists are ordered by (`at`, session) and numbered
after they were put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from domain import config
from domain.instants import text
from projections.backtesting.comparison import MOST_LISTED, Share, SideOf
from projections.backtesting.recorded import Displaced
from projections.backtesting.tally import MOST_DECISIONS, Decision, Figures, Offer

SIDES = ("candidate", "in_force")
Json = dict[str, Any]


class Outcome(NamedTuple):
    """What is kept of a backtest that is done."""

    result: Json
    decisions: dict[str, list[Decision]]  # by side; the first is number 1


def outcome(
    shares: Sequence[Share],
    candidate: config.Config,
    in_force: config.Config,
    *,
    path: str,  # of the backtest, for links
) -> Outcome:
    """The shares together."""
    ours, theirs = _whole([s.candidate for s in shares]), _whole([s.in_force for s in shares])
    numbers = [
        {(d.at, d.session_id): n for n, d in enumerate(side.decisions, 1) if d.outcome == "offered"}
        for side in (ours, theirs)
    ]
    displaced = sorted(nudge for share in shares for nudge in share.displaced)
    differing = sorted(
        (each for share in shares for each in share.sessions_differing),
        key=lambda each: (each.at, each.session_id),
    )
    result = {
        "events": sum(share.events for share in shares),
        "sessions_seen": sum(share.sessions for share in shares),
        "users": sum(share.users for share in shares),
        "orphaned": sum(share.orphaned for share in shares),
        "triggers": _triggers(shares, candidate, in_force, ours, theirs),
        "candidate": _figures(ours.total),
        "in_force": _figures(theirs.total),
        "displaced": [_displaced(nudge) for nudge in displaced[:MOST_LISTED]],
        "sessions": [
            {
                "session_id": each.session_id,
                "user_id": each.user_id,
                "candidate": _numbered(each.session_id, each.candidate, numbers[0]),
                "in_force": _numbered(each.session_id, each.in_force, numbers[1]),
                "link": f"{path}/decisions?session_id={quote(each.session_id, safe='')}",
            }
            for each in differing[:MOST_LISTED]
        ],
        "sessions_differing": sum(share.differing for share in shares),
        "failed": {"candidate": ours.failed, "in_force": theirs.failed},
        **_judged(candidate, in_force, ours, theirs),
        "truncated": ours.cut or theirs.cut,
    }
    return Outcome(result, dict(zip(SIDES, (ours.decisions, theirs.decisions), strict=True)))


def _whole(sides: Sequence[SideOf]) -> SideOf:
    """One config's shares together."""
    total = Figures()
    triggers: dict[str, Figures] = {}
    for side in sides:
        total = total.plus(side.total)
        for name, figures in side.triggers.items():
            triggers[name] = triggers.get(name, Figures()).plus(figures)
    decisions = sorted((d for side in sides for d in side.decisions), key=lambda d: (d.at, d.session_id))
    cut = any(side.cut for side in sides) or len(decisions) > MOST_DECISIONS
    failed = sum(side.failed for side in sides)
    assumed = sum(side.assumed for side in sides)
    return SideOf(total, triggers, decisions[:MOST_DECISIONS], cut, failed, assumed)


def _judged(candidate: config.Config, in_force: config.Config, ours: SideOf, theirs: SideOf) -> Json:
    """How many proposals count as allowed because no judge was asked, where a config has one."""
    if candidate.judge is None and in_force.judge is None:
        return {}
    return {"judge": {"assumed": {"candidate": ours.assumed, "in_force": theirs.assumed}}}


def _triggers(
    shares: Sequence[Share],
    candidate: config.Config,
    in_force: config.Config,
    ours: SideOf,
    theirs: SideOf,
) -> list[Json]:
    """A row for each trigger: the candidate's in their order, then those in force, then others recorded."""
    recorded: dict[str, tuple[int, int]] = {}
    displaced: dict[str, int] = {}
    for share in shares:
        for name, (offered, shown) in share.recorded.items():
            before = recorded.get(name, (0, 0))
            recorded[name] = before[0] + offered, before[1] + shown
        for name, count in share.displaced_by.items():
            displaced[name] = displaced.get(name, 0) + count
    new = {trigger.id: trigger.name for trigger in candidate.triggers}
    old = {trigger.id: trigger.name for trigger in in_force.triggers}
    rows: list[Json] = []
    for trigger_id in dict.fromkeys((*new, *old, *sorted(recorded))):
        offered, shown = recorded.get(trigger_id, (0, 0))
        rows.append(
            {
                "trigger_id": trigger_id,
                "name": new.get(trigger_id, old.get(trigger_id)),
                "candidate": _side(trigger_id, new, ours),
                "in_force": _side(trigger_id, old, theirs),
                "recorded": {"offered": offered, "shown": shown},
                "displaced": displaced.get(trigger_id, 0),
            }
        )
    return rows


def _side(trigger_id: str, known: Iterable[str], side: SideOf) -> Json | None:
    return _figures(side.triggers.get(trigger_id, Figures())) if trigger_id in known else None


def _figures(figures: Figures) -> Json:
    return figures._asdict()


def _displaced(nudge: Displaced) -> Json:
    return {
        "nudge_id": nudge.nudge_id,
        "trigger_id": nudge.trigger_id,
        "session_id": nudge.session_id,
        "user_id": nudge.user_id,
        "at": text(nudge.at),
    }


def _numbered(session_id: str, offers: Iterable[Offer], numbers: dict[tuple[int, str], int]) -> list[Json]:
    """Offers with the numbers under which their explanations are kept; null where one was cut off."""
    return [
        {"n": numbers.get((offer.at, session_id)), "trigger_id": offer.trigger_id, "at": text(offer.at)}
        for offer in offers
    ]
