"""Until when actions that suffice now would still have sufficed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from domain import config
from domain.events import Action
from domain.finding import Finding
from domain.near import trial
from domain.triggers import Ruleset, Situation, evaluate
from domain.view import TICK, View

POINTS = 32  # instants looked at before it is given up


def deadline(
    situation: Situation, rules: Ruleset, trigger_id: str, actions: tuple[Action, ...]
) -> int | None:
    """The first instant at which the same actions, done then, no longer make the trigger fire there and then.

    They must do so at the situation's own instant. A microsecond before the instant they still do. None
    where nothing that has happened so far sets such an end, or it lies too far to be found.
    """

    def fires(at: int) -> Situation | None:
        there = trial.reached(situation, rules, at)
        if not isinstance(there, Situation):
            return None
        there = trial.acted(there, actions)
        winner = evaluate(there, rules).winner
        fired = winner is not None and winner.trigger.id == trigger_id and winner.blocked is None
        return there if fired else None

    spans = sorted({span for trigger in rules.config.triggers for span in _spans(trigger.criteria, rules)})
    last = situation.at + max(spans, default=0) + TICK  # by then all that has happened has left every window
    alone = trial.settled(situation, rules)  # once something else is offered, this is not any more
    at, there = situation.at, fires(situation.at)
    for _ in range(POINTS):
        if there is None:
            return None
        points = [*_points(there, rules), *([alone[0] + TICK] if alone is not None else [])]
        own = [at + span + TICK for span in spans] if at > situation.at else []  # of the actions themselves
        following = min((p for p in points if at < p <= last and p not in own), default=None)
        if following is None:
            return None
        before = fires(following - TICK)
        there = fires(following)
        if before is None or there is None:
            return following if before is not None else _edge(fires, at, following - TICK)
        at = following
    return None


def _edge(fires: Callable[[int], object], good: int, bad: int) -> int:
    """An instant at which it fires no more while a microsecond before it does."""
    while bad - good > TICK:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fires(middle) is not None else (good, middle)
    return bad


def _points(situation: Situation, rules: Ruleset) -> Iterator[int]:
    """Instants at which time may change any leaf of any trigger."""
    view = View(situation.session.actions, situation.at, rules.config, rules.matcher, rules.predicates)
    for verdict in evaluate(situation, rules, whole=True).verdicts:
        yield from _changes(verdict.trigger.criteria, verdict.finding, view, rules)


def _changes(node: config.Node, finding: Finding, view: View, rules: Ruleset) -> Iterator[int]:
    if isinstance(node, config.Group):
        for child, found in zip(node.conditions, finding.conditions, strict=True):
            yield from _changes(child, found, view, rules)
        return
    if finding.next_change is not None:
        yield finding.next_change
    if isinstance(node, config.Sequence):  # its last step may be yet to come: then the first sets the end
        span = node.within or view.lookback
        first = rules.matcher.bit(node.steps[0])
        for index in view.matches(first, view.since(view.at - span))[:POINTS]:
            yield view.actions[index].occurred_at + span + TICK


def _spans(node: config.Node, rules: Ruleset) -> Iterator[int]:
    """How far back the leaves look."""
    match node:
        case config.Group():
            for child in node.conditions:
                yield from _spans(child, rules)
        case config.Count() | config.Absent() | config.Sequence():
            yield node.within or rules.config.lookback
        case _:
            yield rules.config.lookback
