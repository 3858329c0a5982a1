"""Plans by which a trigger would have fired: suggested leaf by leaf, and carried out to be sure.

A plan waits, adds actions, takes actions away, or does several of these; where a gate would stay closed, or
another trigger take the slot, a rule is changed as well. The session goes on from the instant in question,
timers and all, until a trigger takes the slot; only a plan after which that is this trigger is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from domain.events import Action
from domain.finding import Finding, wake
from domain.near import edits, opening, pieces, trial
from domain.near.opening import Opening
from domain.near.pieces import Plan, Scene
from domain.triggers import Ruleset, Situation, evaluate
from domain.view import PAGELEAVE, View

ATTEMPTS = 32  # plans carried out for one trigger
RIVALS = 3  # triggers that may have to stand back for it
MOMENTS = 2  # instants from which plans start: when the gates are open, and when a leaf has changed


class Found(NamedTuple):
    """A plan that was carried out with success."""

    plan: Plan
    actions: tuple[Action, ...]  # that it adds, in their order
    at: int  # when the trigger fires
    begins: int  # when they are done; at the earliest when the gates are open
    gates: tuple[str, ...]  # what happens at `begins`, where that had to be waited for
    changed: tuple[str, ...]  # rules that had to be changed as well, in words
    rules: Ruleset  # with them changed


def plans(start: Situation, rules: Ruleset, trigger_id: str) -> list[Found]:
    """The plans that were carried out with success, the smallest first. `start` has been `trial.begun`.

    Without those that do all that a smaller one does, and more, and make the trigger fire no sooner.
    """
    kept: list[Found] = []
    for found in sorted(_Search(start, rules, trigger_id).found(), key=_size):
        if not any(_covers(found, smaller) for smaller in kept):
            kept.append(found)
    return kept


def _covers(found: Found, smaller: Found) -> bool:
    return (
        smaller.at <= found.at
        and all(action in found.actions for action in smaller.actions)
        and all(event_id in removed(found) for event_id in removed(smaller))
        and all(rule in found.changed for rule in smaller.changed)
    )


def removed(found: Found) -> list[str]:
    """The ids of the actions that the plan takes away."""
    return [event_id for piece in found.plan for event_id in piece.without]


def _size(found: Found) -> tuple[int, int, int, str]:
    """Fewer things first; of equals what was still to come before what was over, and that before rules."""
    things = pieces.size(found.plan) + len(found.changed) + bool(found.gates)
    kind = 2 if found.changed else int(any(piece.without for piece in found.plan))
    return things, kind, found.at, " ".join(piece.text for piece in found.plan)


class _Search:
    """The plans for one trigger that succeed."""

    def __init__(self, start: Situation, rules: Ruleset, trigger_id: str) -> None:
        self.start, self.trigger_id = start, trigger_id
        self.eased: tuple[str, ...] = ()
        while (rule := opening.eased(start, rules, trigger_id)) is not None:
            rules, self.eased = rule.rules, (*self.eased, rule.text)
        self.rules = rules
        self.left = ATTEMPTS

    def found(self) -> Iterator[Found]:
        trigger = self.rules.config.trigger(self.trigger_id)
        assert trigger is not None
        opened = opening.opening(self.start, self.rules, trigger)
        for _ in range(MOMENTS):
            if opened is None:
                return
            scene, finding = self._seen(opened.situation)
            suggested = edits.alternatives(trigger.criteria, finding, True, scene)
            waiting = False  # a plan fails in which one acts, then waits
            for plan in suggested:
                success = self._least(plan, opened, scene.page)
                if success is not None:
                    yield success
                elif _mixed(plan):
                    waiting = True
            due = wake(finding)
            if due is None or not waiting:
                return
            # what is done now may be over before what must be waited for: wait first
            opened = opening.opening(trial.moved(opened.situation, due), self.rules, trigger)

    def _seen(self, there: Situation) -> tuple[Scene, Finding]:
        rules = self.rules
        view = View(there.session.actions, there.at, rules.config, rules.matcher, rules.predicates)
        verdicts = evaluate(there, rules, whole=True).verdicts
        finding = next(v.finding for v in verdicts if v.trigger.id == self.trigger_id)
        return pieces.scene(rules, view), finding

    def _least(self, plan: Plan, opened: Opening, page: str | None) -> Found | None:
        """The plan, less what it can do without; None where it does not succeed."""
        best = self._tried(plan, opened, page)
        if best is None:
            return None
        for piece in plan if len(plan) > 1 else ():
            if (piece.make or piece.without) and not piece.stays:
                less = self._tried(tuple(p for p in best.plan if p is not piece), opened, page)
                best = less if less is not None and less.at <= best.at else best
        if best.at == best.begins:  # nothing had to be waited for
            best = best._replace(plan=tuple(p for p in best.plan if p.make or p.without))
        return best

    def _tried(self, plan: Plan, opened: Opening, page: str | None) -> Found | None:
        """The plan carried out, its visits to other pages before or after all else that is done."""
        tried = [_actions(plan, page, True)]
        if (other := _actions(plan, page, False)) != tried[0]:
            tried.append(other)
        for actions in tried:
            if self.left == 0:
                return None
            self.left -= 1
            found = self._carried_out(plan, actions, opened)
            if found is not None:
                return found
        return None

    def _carried_out(self, plan: Plan, actions: tuple[Action, ...], opened: Opening) -> Found | None:
        start = trial.without(self.start, [name for piece in plan for name in piece.without])
        begins, rules, texts = opened.situation.at, self.rules, self.eased
        for _ in range(RIVALS + 1):
            there = trial.reached(start, rules, begins) if actions else start
            if there is None:
                return None
            if isinstance(there, Situation):
                outcome = trial.settled(trial.acted(there, actions), rules)
                if outcome is None:
                    return None
                at, winner = outcome
                if winner.trigger.id == self.trigger_id:
                    gates = tuple([opening.ends(gate) for gate in opened.last])
                    return Found(plan, actions, at, begins, gates, texts, rules)
            else:
                winner = there
                if winner.trigger.id == self.trigger_id:  # fires without the actions
                    return None
            rule = opening.unrivalled(rules, winner.trigger)
            rules, texts = rule.rules, (*texts, rule.text)
        return None


def _mixed(plan: Plan) -> bool:
    return any(piece.waits for piece in plan) and any(piece.make for piece in plan)


def _actions(plan: Plan, page: str | None, opens_first: bool) -> tuple[Action, ...]:
    """All that the plan adds, each piece done on the page to which those before it led."""
    made: list[Action] = []
    for piece in sorted(plan, key=lambda piece: piece.opens is not opens_first):
        if piece.make is not None:
            made += piece.make(page)
            last = made[-1]
            page = None if last.type == PAGELEAVE else last.canonical_url or page
    return tuple(made)
