"""States of many sessions in bounded memory: what was not used for longest lies in a temporary database.

A simulation over millions of events cannot fold a session again from the ledger, because what it concluded
stands nowhere else. So states that are put away are written down, and come back as they were. The database
is private to the process, without a name, and gone with it.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from domain.history import History
from domain.run import Live
from domain.user import UserState

V = TypeVar("V")

MOST_ACTIONS = 300_000  # in the histories of sessions that are kept in memory
MOST_USERS = 50_000


class Shelf(Generic[V]):
    """A mapping that keeps the most recently used values in memory, up to `most` by weight.

    `load` gives the value of a key that was never put; it is asked once a key. `weigh` may be an estimate.
    Belongs to one thread.
    """

    def __init__(
        self,
        load: Callable[[str], V],
        weigh: Callable[[V], int],
        most: int,
        slim: Callable[[V], V] = lambda value: value,  # what is to be written down of a value
    ) -> None:
        self._load, self._weigh, self._slim, self._most = load, weigh, slim, most
        self._near: dict[str, tuple[V, int]] = {}  # in the order of use
        self._weight = 0
        self._known: set[str] = set()
        self._far = sqlite3.connect("")  # a file of SQLite's own, once it outgrows a small cache
        self._far.execute("PRAGMA journal_mode = OFF")
        self._far.execute("CREATE TABLE far (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def get(self, key: str, /) -> V | None:
        found = self._near.pop(key, None)
        if found is not None:
            self._near[key] = found  # now the newest
            return found[0]
        value = self._recalled(key) if key in self._known else self._load(key)
        self[key] = value
        return value

    def __setitem__(self, key: str, value: V, /) -> None:
        self._known.add(key)
        before = self._near.pop(key, None)
        weight = self._weigh(value)
        self._near[key] = value, weight
        self._weight += weight - (before[1] if before is not None else 0)
        while self._weight > self._most and len(self._near) > 1:
            self._put_away(next(iter(self._near)))

    def __contains__(self, key: str) -> bool:
        """Whether the key was put or loaded."""
        return key in self._known

    def close(self) -> None:
        self._far.close()

    def _put_away(self, key: str) -> None:
        value, weight = self._near.pop(key)
        self._weight -= weight
        written: Any = pickle.dumps(self._slim(value), pickle.HIGHEST_PROTOCOL)
        self._far.execute("INSERT OR REPLACE INTO far VALUES (?, ?)", (key, written))

    def _recalled(self, key: str) -> V:
        row = self._far.execute("SELECT value FROM far WHERE key = ?", (key,)).fetchone()
        value: V = pickle.loads(row[0])  # noqa: S301  # written by this very object
        return value


def sessions(load: Callable[[str], Live], most: int = MOST_ACTIONS) -> Shelf[Live]:
    return Shelf(load, lambda live: 20 + len(live.state.actions), most, _without_marks)


def users(load: Callable[[str], UserState], most: int = MOST_USERS) -> Shelf[UserState]:
    return Shelf(load, lambda user: 1 + len(user.offers), most)


def _without_marks(live: Live) -> Live:
    """Marks belong to a ruleset and are made again; the list is perhaps shared with later values."""
    return live._replace(state=replace(live.state, actions=History(list(live.state.actions))))
