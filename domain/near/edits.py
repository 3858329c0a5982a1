"""What might have been otherwise, leaf by leaf, so that a trigger's criteria would be met.

Suggestions only: whether one really suffices is for `domain.near.search` to find out by carrying it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from domain import config, words
from domain.events import Action
from domain.finding import Finding, Verdict
from domain.history import ActionFact
from domain.instants import seconds
from domain.near import edits_pages
from domain.near.pieces import MANY, Make, Piece, Plan, Scene, size

MOST = 8  # alternatives kept of one node
NAMED = 2  # actions to be taken away that are named by their instants


def alternatives(node: config.Node, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    """Plans each of which might turn the node's verdict to `wanted`, smallest first; the empty plan where it
    is so already. `finding` must be whole."""
    if finding.verdict is wanted:
        return [()]
    if not isinstance(node, config.Group):
        return sorted(_leaf(node, finding, wanted, at), key=size)[:MOST]
    inner = not wanted if node.operator == "NOT" else wanted
    children = [
        alternatives(child, found, inner, at)
        for child, found in zip(node.conditions, finding.conditions, strict=True)
    ]
    if wanted is (node.operator == "OR"):  # one of them will do
        return sorted((plan for plans in children for plan in plans), key=size)[:MOST]
    combined: list[Plan] = [()]
    for plans in children:
        combined = sorted((a + b for a, b in product(combined, plans)), key=size)[:MOST]
    return combined


def _leaf(node: config.Leaf, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    if finding.verdict is None:
        return []  # nobody can tell what would make the unknown known
    match node:
        case config.Count():
            return _count(node, finding.verdict, at)
        case config.Absent():
            return _absent(node, wanted, at)
        case config.Sequence():
            return _sequence(node, finding, wanted, at)
        case config.CurrentPage():
            return edits_pages.current_page(node, wanted, at)
        case config.ActionCount():
            return _action_count(node, finding, wanted, at)
        case config.PingPong():
            return edits_pages.ping_pong(node, finding, wanted, at)
        case config.Dwell():
            return edits_pages.dwell(node, finding, wanted, at)
        case config.SectionMatch():
            return edits_pages.section_match(wanted, at)
        case config.Predicate():
            return []


# --- actions of a kind ------------------------------------------------------------------------------


def _count(node: config.Count, verdict: Verdict, at: Scene) -> list[Plan]:
    found = at.matches(node.where, at.view.start(node.within))
    count, low, high = len(found), node.at_least or 0, node.at_most
    more = fewer = 0
    if verdict is True:  # out of its bounds, on either side
        more = high - count + 1 if high is not None else 0
        fewer = count - low + 1 if low else 0
    elif count < low:
        more = low - count
    elif high is not None:
        fewer = count - high
    span = node.within or at.view.lookback
    plans = _more(node.where, more, count, span, at) if more else []
    return plans + _fewer(node.where, found, fewer, True, at) if fewer else plans


def _absent(node: config.Absent, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return _more(node.where, 1, 0, 0, at)
    found = at.matches(node.where, 0 if node.session else at.view.start(node.within))
    return _fewer(node.where, found, len(found), not node.session, at)


def _more(where: config.Where, more: int, present: int, span: int, at: Scene) -> list[Plan]:
    """The plan of `more` actions beside those `present` in the window of `span` µs."""
    if more > MANY or at.stand_in(where, at.page) is None:
        return []
    text = words.more(more, words.where(where)) if present else words.actions(more, words.where(where))
    if more > 1 and not present:
        text += f" within {seconds(span)}"
    return [(Piece(text, more, _doing((where,) * more, at)),)]


def _fewer(where: config.Where, found: list[ActionFact], fewer: int, leave: bool, at: Scene) -> list[Plan]:
    """Plans by which `fewer` of the actions found count no more. `leave`: they do leave a window."""
    which, gone = words.where(where), found[-fewer:]
    plans: list[Plan] = []
    if leave:
        verb = "has" if fewer == 1 else "have"
        plans.append((Piece(f"{words.actions(fewer, which)} {verb} left the window", waits=True),))
    if fewer == len(found):
        text = f"without the {words.actions(fewer, which)}"
    else:
        text = f"without the newest {fewer} of the {words.actions(len(found), which)}"
    if fewer <= NAMED:
        text += f" at {words.both(words.clock(a.occurred_at, at.view.at) for a in gone)}"
    plans.append((Piece(text, fewer, without=tuple([a.event_id for a in gone])),))
    return plans


def _sequence(node: config.Sequence, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        ends = at.matches(node.steps[-1], at.view.start(node.within))
        end = next(a for a in ends if a.event_id == finding.evidence[-1])
        text = f"without the last step at {words.clock(end.occurred_at, at.view.at)}"
        return [
            (Piece("the sequence has left the window", waits=True),),
            (Piece(text, without=(end.event_id,)),),
        ]
    plans: list[Plan] = []
    done = finding.observed if finding.observed < len(node.steps) else 0
    for begun in dict.fromkeys((done, 0)):  # go on from where the user is, or do it all anew
        left = node.steps[begun:]
        if all(at.stand_in(step, at.page) is not None for step in left):
            named = ", then ".join(map(words.where, left))
            text = f"{words.number(len(left), 'step', 'more' if begun else '')}: {named}"
            plans.append((Piece(text, len(left), _doing(left, at)),))
    return plans


def _doing(wheres: Iterable[config.Where], at: Scene) -> Make:
    """The actions one after the other, each on the page to which the one before it led."""
    asked = tuple(wheres)

    def make(page: str | None) -> tuple[Action, ...]:
        made: list[Action] = []
        for where in asked:
            action = at.stand_in(where, page)
            assert action is not None  # the page is only preferred: one was found before
            made.append(action)
            page = action.canonical_url or page
        return tuple(made)

    return make


def _action_count(node: config.ActionCount, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return [(Piece("fewer actions are in the window", waits=True),)]
    more = node.at_least - finding.observed
    if more > MANY:
        return []
    text = words.more(more, "") if finding.observed else words.actions(more)
    return [(Piece(text, more, lambda page: (Action("click", "", canonical_url=page),) * more),)]
