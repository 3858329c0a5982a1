"""Sessions and users of one product as the ledger's record folds them, as of a position.

Bounded: what was not written to for longest is dropped, and folded again from its stream when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.run import Live
from domain.session import SessionState
from domain.user import UserState
from eventstore import keys, reader
from projections import facts
from projections.readable import Readable

MOST_ACTIONS = 400_000  # kept in memory, of all sessions together
MOST_OFFERS = 200_000  # of all users, each user counting as one more
MOST_GONE = 200_000  # names of what was dropped; beyond that every unknown name is looked up
MOST_KEYS = 100_000

V = TypeVar("V")


class Kept(Generic[V]):
    """Values by name, as far as they are kept."""

    def __init__(
        self, fresh: Callable[[str], V], size: Callable[[V], int], most: int, *, from_start: bool
    ) -> None:
        self._fresh, self._size, self._most = fresh, size, most
        self._values: dict[str, V] = {}
        self._held = 0
        # Names that were here once; None: any name may have a past that was never here.
        self._gone: set[str] | None = set() if from_start else None

    def get(self, name: str, /) -> V | None:
        """The value; a new one where the name cannot have a past; None where it must be looked up."""
        found = self._values.get(name)
        if found is None and self._gone is not None and name not in self._gone:
            return self._fresh(name)
        return found

    def put(self, name: str, value: V) -> None:
        before = self._values.pop(name, None)
        self._held += self._size(value) - (self._size(before) if before is not None else 0)
        self._values[name] = value  # the dict's order is the order of writing

    def trim(self) -> None:
        """Drop what was written longest ago, until no more is held than may be."""
        while self._held > self._most and len(self._values) > 1:
            name = next(iter(self._values))
            self._held -= self._size(self._values.pop(name))
            if self._gone is not None:
                self._gone.add(name)
                if len(self._gone) > MOST_GONE:
                    self._gone = None


class Keyring:
    """The data keys of rows, where personal fields are wanted at all."""

    def __init__(self, conn: AsyncConnection, *, wanted: bool) -> None:
        self._conn, self.wanted = conn, wanted
        self._keys: dict[str, bytes] = {}
        self._lost: set[str] = set()

    async def of(self, rows: Iterable[Readable]) -> Mapping[str, bytes] | None:
        """The keys that still exist of these rows, perhaps with others; None: not wanted."""
        if not self.wanted:
            return None
        if len(self._keys) + len(self._lost) > MOST_KEYS:
            self._keys.clear()
            self._lost.clear()
        named = dict.fromkeys(row.key_id for row in rows if row.key_id is not None)
        lacking = [key for key in named if key not in self._keys and key not in self._lost]
        if lacking:
            found = await keys.load_keys(self._conn, lacking)
            self._keys.update(found)
            self._lost.update(key for key in lacking if key not in found)
        return self._keys


class States:
    """What a world of one product reads, folded from rows at positions below `before`.

    `until`: only from what was recorded by that instant. `from_start`: whoever keeps this puts every stream
    in from its first event on, so a name that was never put has no past.
    """

    def __init__(
        self,
        conn: AsyncConnection,
        product: str,
        keyring: Keyring,
        *,
        before: int,
        until: int | None = None,
        from_start: bool = False,
        most: int = MOST_ACTIONS,
    ) -> None:
        self._conn, self._product, self._keyring = conn, product, keyring
        self.before, self._until = before, until
        self.sessions: Kept[Live] = Kept(
            lambda name: Live(SessionState(name)),
            lambda live: 10 + len(live.state.actions),
            most,
            from_start=from_start,
        )
        self.users: Kept[UserState] = Kept(
            UserState, lambda who: 1 + len(who.offers), MOST_OFFERS, from_start=from_start
        )
        self.erased: set[str] = set()  # sessions with actions whose personal fields can be read no more

    async def load(self, stream: str) -> None:
        """Fold a session's or user's stream from the ledger."""
        key = (self._product, stream)
        rows = [row for row in (await reader.read_streams(self._conn, [key]))[key] if self._counts(row)]
        found = await self._keyring.of(rows)
        kind, _, name = stream.partition("-")
        if kind == "user":
            self.users.put(name, facts.folded_user(UserState(name), rows)[0])
            return
        for row in rows:
            self.note_erased(row, found)
        self.sessions.put(name, Live(facts.folded_session(SessionState(name), rows, found)[0]))

    async def session(self, name: str) -> SessionState:
        """The session's state, loaded where it is not kept."""
        while (live := self.sessions.get(name)) is None:
            await self.load(f"session-{name}")
        return live.state

    async def user(self, name: str) -> UserState:
        while (state := self.users.get(name)) is None:
            await self.load(f"user-{name}")
        return state

    async def apply(self, rows: Sequence[Readable]) -> None:
        """Fold rows of one session's or one user's stream onto its state."""
        kind, _, name = rows[0].stream.partition("-")
        found = await self._keyring.of(rows)
        if kind == "session":
            for row in rows:
                self.note_erased(row, found)
            self.sessions.put(name, Live(facts.folded_session(await self.session(name), rows, found)[0]))
        elif kind == "user":
            self.users.put(name, facts.folded_user(await self.user(name), rows)[0])

    def trim(self) -> None:
        self.sessions.trim()
        self.users.trim()

    def note_erased(self, row: Readable, data_keys: Mapping[str, bytes] | None) -> None:
        """Remember the session where the row is an action whose key is gone."""
        if data_keys is None or row.key_id is None or row.type != "action" or row.key_id in data_keys:
            return
        self.erased.add(row.stream.partition("-")[2])

    def _counts(self, row: Readable) -> bool:
        return row.position < self.before and (self._until is None or row.recorded_at <= self._until)
