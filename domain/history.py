"""A session's actions, in the order in which they happened."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class ActionFact(NamedTuple):
    """What criteria can see of an action.

    Ordered by (`occurred_at`, `event_id`), as the tuple itself is: an id never comes twice.
    """

    occurred_at: int
    event_id: str
    version: int  # in the session's stream
    type: str
    title: str
    url: str | None  # canonical
    properties: Mapping[str, Any] | None


class Marks:
    """Which `where`s of a ruleset each action matches; shared like the actions themselves."""

    __slots__ = ("bits", "hits", "of")

    def __init__(self, of: object) -> None:
        self.of = of  # whose bits they are
        self.bits: list[int] = []  # for each action
        self.hits: dict[int, list[int]] = {}  # for each bit the indexes of the actions that have it

    def add(self, bits: int) -> None:
        index = len(self.bits)
        self.bits.append(bits)
        while bits:
            bit = bits & -bits
            bits ^= bit
            found = self.hits.get(bit)
            if found is None:
                self.hits[bit] = [index]
            else:
                found.append(index)

    def first(self, count: int) -> Marks:
        """A copy for the first `count` actions."""
        copy = Marks(self.of)
        copy.bits = self.bits[:count]
        for bit, found in self.hits.items():
            copy.hits[bit] = found[: bisect_left(found, count)]
        return copy


class History:
    """An immutable sequence of actions that shares its storage with its successors.

    Appending to the newest value reuses the list in place (earlier values keep their own length), anything
    else copies. `marks` belongs to one ruleset at a time and is filled lazily by the evaluator; a cache,
    never part of the value.
    """

    __slots__ = ("_actions", "_instants", "_length", "marks")

    def __init__(self, actions: list[ActionFact] | None = None) -> None:
        self._actions: list[ActionFact] = actions or []
        self._instants: list[int] = [a[0] for a in self._actions]
        self._length = len(self._actions)
        self.marks: Marks | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> ActionFact:
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._actions[index if index >= 0 else self._length + index]

    def __iter__(self) -> Iterator[ActionFact]:
        return (self._actions[i] for i in range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"History({list(self)!r})"

    def extended(self, new: Iterable[ActionFact]) -> History:
        """This history with `new` actions, each at its place."""
        added = sorted(new)
        if not added:
            return self
        if not self._length or self._actions[self._length - 1] < added[0]:
            if len(self._actions) == self._length:
                actions, instants, marks = self._actions, self._instants, self.marks
            else:  # somebody else went on from here: leave that branch alone
                actions, instants = self._actions[: self._length], self._instants[: self._length]
                marks = self.marks.first(self._length) if self.marks is not None else None
            actions += added
            instants += [a[0] for a in added]
            successor = History.__new__(History)
            successor._actions, successor._instants = actions, instants
            successor._length = len(actions)
            successor.marks = marks
            return successor
        place = bisect_left(self._actions, added[0], 0, self._length)
        late = sorted(self._actions[place : self._length] + added)
        merged = History(self._actions[:place] + late)
        merged.marks = self.marks.first(place) if self.marks is not None else None
        return merged

    def relabelled(self, event_id: str, change: Callable[[ActionFact], ActionFact]) -> History:
        """This history with one action changed in place; itself where it holds no such action.

        `change` must keep `occurred_at` and `event_id`: they are the order.
        """
        for place in range(self._length - 1, -1, -1):
            action = self._actions[place]
            if action.event_id == event_id:
                changed = History(
                    [*self._actions[:place], change(action), *self._actions[place + 1 : self._length]]
                )
                changed.marks = self.marks.first(place) if self.marks is not None else None
                return changed
        return self

    def since(self, instant: int) -> int:
        """Index of the first action that happened at or after `instant`."""
        return bisect_left(self._instants, instant, 0, self._length)

    def until(self, instant: int) -> int:
        """Index after the last action that happened at or before `instant`."""
        return bisect_right(self._instants, instant, 0, self._length)

    def slots(self) -> tuple[list[ActionFact], int]:
        """The shared list and how much of it is this value's; for the evaluator's inner loops only."""
        return self._actions, self._length
