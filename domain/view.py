"""One session's actions at one instant, as criteria see them.

The window at instant t holds the actions that happened in [t - lookback, t], ordered by (occurred_at,
event_id), the newest `max_actions` of them; an explicit `within` looks back that far and knows no maximum.
Both ends belong to it, so an action leaves one microsecond later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from domain import config
from domain.config import Where
from domain.finding import Finding
from domain.history import ActionFact, History, Marks

TICK = 1  # µs
PAGELEAVE = "pageleave"


class Predicates(Protocol):
    """Runs a registered predicate over the context window within its time budget; never raises."""

    def __call__(self, name: str, window: Sequence[ActionFact], at: int) -> Finding: ...


def no_predicates(name: str, window: Sequence[ActionFact], at: int) -> Finding:
    return Finding("predicate", None, required=name, detail=f"predicate {name!r} is not installed")


class Matcher:
    """The distinct `where`s of a ruleset, each a bit. An action's marks are the bits it matches."""

    def __init__(self) -> None:
        self._bits: dict[tuple[Where, str], int] = {}
        self._tests: list[tuple[int, Callable[[str, str, str, ActionFact], bool]]] = []
        self._known: dict[tuple[str, str, str | None], int] = {}
        self.reads_properties = False

    def bit(self, where: Where) -> int:
        key = (where, repr(where.properties))  # 1 and True are equal in Python, but not to a host
        if key not in self._bits:
            self._bits[key] = 1 << len(self._bits)
            self._tests.append((self._bits[key], _test(where)))
            self.reads_properties |= bool(where.properties)
            self._known.clear()
        return self._bits[key]

    def marks(self, action: ActionFact) -> int:
        key = action[3:6]
        if not self.reads_properties:
            known = self._known.get(key)
            if known is not None:
                return known
        kind, title, url = action.type.casefold(), action.title.casefold(), (action.url or "").casefold()
        marks = 0
        for bit, test in self._tests:
            if test(kind, title, url, action):
                marks |= bit
        if not self.reads_properties:
            if len(self._known) > 50_000:  # a memo, not a store
                self._known.clear()
            self._known[key] = marks
        return marks

    def fill(self, history: History) -> Marks:
        """The marks of every action of the history, computed once for each action and ruleset."""
        marks = history.marks
        if marks is None or marks.of is not self:
            marks = history.marks = Marks(self)
        actions, length = history.slots()
        for index in range(len(marks.bits), length):
            marks.add(self.marks(actions[index]))
        return marks


def _test(where: Where) -> Callable[[str, str, str, ActionFact], bool]:
    def test(kind: str, title: str, url: str, action: ActionFact) -> bool:
        if where.type and kind not in where.type:
            return False
        if where.title_contains and not any(text in title for text in where.title_contains):
            return False
        if where.title_equals and title not in where.title_equals:
            return False
        if where.url_contains and not any(text in url for text in where.url_contains):
            return False
        if where.url_prefix and not any(url.startswith(text) for text in where.url_prefix):
            return False
        return not where.properties or _properties_match(where, action)

    return test


def _properties_match(where: Where, action: ActionFact) -> bool:
    given = action.properties or {}
    for name, accepted in where.properties:
        value = given.get(name)
        if isinstance(value, str):
            value = value.casefold()
        # True == 1 in Python, but not to a host; 1 and 1.0 are one number in JSON
        if not any(
            value == other and isinstance(value, bool) == isinstance(other, bool) for other in accepted
        ):
            return False
    return True


class View:
    """One session at one instant."""

    __slots__ = (
        *("_history", "_hits", "_page", "_page_known", "_starts"),
        *("actions", "at", "brief", "hi", "lo", "lookback", "marks", "predicates"),
    )

    def __init__(
        self, history: History, at: int, settings: config.Config, matcher: Matcher, predicates: Predicates
    ) -> None:
        self._history = history
        self._starts: dict[int, int] = {}
        self._page: ActionFact | None = None
        self._page_known = False
        self.at = at
        self.brief = False  # a group stops at the condition that settles it
        filled = matcher.fill(history)
        self.marks, self._hits = filled.bits, filled.hits
        self.actions, _ = history.slots()
        self.predicates = predicates
        self.lookback = settings.lookback
        self.hi = history.until(at)  # end of every window
        self.lo = max(history.since(at - settings.lookback), self.hi - settings.max_actions)

    def span(self) -> int | None:
        """How far back the context window reaches; None where its greatest number of actions cuts it."""
        cut = self.lo > self._history.since(self.at - self.lookback)
        return None if cut else self.lookback

    def start(self, within: int | None) -> int:
        """Index at which the window of a leaf begins; None: the context window."""
        if within is None:
            return self.lo
        known = self._starts.get(within)
        if known is None:
            known = self._starts[within] = self._history.since(self.at - within)
        return known

    def since(self, instant: int) -> int:
        return self._history.since(instant)

    def window(self) -> list[ActionFact]:
        return self.actions[self.lo : self.hi]

    def matches(self, bit: int, start: int) -> list[int]:
        """Indexes of the actions from `start` on that match, oldest first."""
        hits = self._hits.get(bit)
        if not hits or hits[-1] < start:
            return []
        return hits[bisect_left(hits, start) : bisect_left(hits, self.hi)]

    def next(self, bit: int, start: int) -> int | None:
        """Index of the first action from `start` on that matches."""
        hits = self._hits.get(bit)
        place = bisect_left(hits, start) if hits else 0
        return hits[place] if hits and place < len(hits) and hits[place] < self.hi else None

    def current_page(self) -> ActionFact | None:
        """The newest action with a URL; None where there is none or the user left that page."""
        if not self._page_known:
            self._page_known = True
            for index in range(self.hi - 1, -1, -1):
                action = self.actions[index]
                if action.url is not None:
                    self._page = None if action.type == PAGELEAVE else action
                    break
        return self._page
