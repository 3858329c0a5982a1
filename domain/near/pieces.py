"""What a plan is made of: single things that might have been otherwise, and where they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from domain import config, standin
from domain.events import Action
from domain.history import ActionFact
from domain.triggers import Ruleset
from domain.view import View

MANY = 100  # more actions than this nobody will do: not suggested
Make = Callable[[str | None], tuple[Action, ...]]  # actions, from the page on which they are done


class Piece(NamedTuple):
    """One thing that might have been otherwise.

    Of actions and of a stay, `text` is a noun (`1 more “save”`); of actions taken away it begins with
    `without`; of mere waiting it is a clause (`… has left the window`) that follows `when`.
    """

    text: str
    size: int = 1  # how many things differ
    make: Make | None = None  # actions to add
    opens: bool = False  # they bring the user to another page
    without: tuple[str, ...] = ()  # ids of actions to take away
    waits: bool = False  # time must pass
    stays: bool = False  # … and the user must stay on the page


Plan = tuple[Piece, ...]


class Scene(NamedTuple):
    """The rules, and a session at the instant from which plans start."""

    rules: Ruleset
    view: View
    page: str | None  # where the user was last

    def stand_in(self, where: config.Where, page: str | None) -> Action | None:
        return standin.matching(where, page, self.rules.matcher)

    def matches(self, where: config.Where, start: int) -> list[ActionFact]:
        """The actions that match from the index `start` on, oldest first."""
        view = self.view
        return [view.actions[i] for i in view.matches(self.rules.matcher.bit(where), start)]


def scene(rules: Ruleset, view: View) -> Scene:
    return Scene(rules, view, next(iter(pages(view, 0, 1)), None))


def size(plan: Plan) -> int:
    return sum(piece.size for piece in plan)


def pages(view: View, start: int, most: int) -> list[str]:
    """The pages of the newest visits from the index `start` on, newest first."""
    found: list[str] = []
    for index in range(view.hi - 1, start - 1, -1):
        url = view.actions[index].url
        if url is not None and (not found or found[-1] != url):
            found.append(url)
            if len(found) == most:
                break
    return found
