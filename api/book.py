"""What this process knows of one product: rules in force, folded sessions, users and nudges.

A cache and nothing more: every entry is the fold of a stream up to the position that the recorder has seen,
and whatever another process touched is dropped. Entries not used for long go first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import PRODUCT_STREAM, session_stream, user_stream
from domain.nudge import NudgeState
from domain.run import Live
from domain.session import SessionState
from domain.triggers import Ruleset
from domain.user import UserState
from domain.view import Predicates
from eventstore import reader
from projections import configs, facts
from projections.poison import Poisoned

V = TypeVar("V")

NUDGES = 1_000  # folded nudges kept: only while they are being delivered is anything asked of them


class Recent(Generic[V]):
    """A mapping that forgets what was not used for longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[str, V] = {}

    def get(self, key: str) -> V | None:
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value  # the dict's order is the order of use
        return value

    def put(self, key: str, value: V) -> None:
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def drop(self, key: str) -> None:
        self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


class Overlay(Generic[V]):
    """What a group of requests has changed so far, before the cache below it."""

    def __init__(self, below: Recent[V]) -> None:
        self._below = below
        self.changed: dict[str, V] = {}

    def get(self, key: str) -> V | None:
        found = self.changed.get(key)
        return found if found is not None else self._below.get(key)


class Loaded(NamedTuple):
    """What was read for the cache."""

    sessions: list[SessionState]
    users: list[UserState]
    nudges: list[NudgeState]
    poisoned: list[Poisoned]  # events among it that cannot be applied: they are skipped
    newest: int  # the newest instant at which anything in them was recorded


class Book:
    """One product in this process."""

    def __init__(self, product: str, predicates: Predicates, cached: int) -> None:
        self.product = product
        self._predicates = predicates
        self.sessions: Recent[Live] = Recent(cached)
        self.users: Recent[UserState] = Recent(cached)
        self.nudges: Recent[NudgeState] = Recent(NUDGES)
        self.state = configs.ProductState()
        self.rules: Ruleset = configs.ruleset(product, None, predicates)

    def take(self, state: configs.ProductState) -> None:
        """The product's stream says something new."""
        revision = state.current.revision if state.current is not None else None
        if revision != self.rules.revision:
            read_before = self.rules.reads_properties
            self.rules = configs.ruleset(self.product, state.current, self._predicates)
            if self.rules.reads_properties and not read_before:
                self.sessions.clear()  # they were folded without what the rules now ask
        self.state = state

    async def load_product(self, conn: AsyncConnection) -> None:
        rows = await reader.read_stream(conn, self.product, PRODUCT_STREAM, after_version=self.state.version)
        self.take(configs.fold(rows, self.state))

    async def read(self, conn: AsyncConnection, streams: Iterable[str]) -> Loaded:
        """Fold these streams, as the ledger holds them now."""
        wanted = list(dict.fromkeys(streams))
        found = await reader.read_streams(conn, [(self.product, stream) for stream in wanted])
        rows = [row for listed in found.values() for row in listed]
        keys = await facts.keys_of(conn, rows) if self.rules.reads_properties else None
        loaded = Loaded([], [], [], [], max((row.recorded_at for row in rows), default=0))
        for stream in wanted:
            own = found.get((self.product, stream), ())
            kind, _, name = stream.partition("-")
            if kind == "session":
                state, poisoned = facts.folded_session(SessionState(name), own, keys)
                loaded.sessions.append(state)
                loaded.poisoned.extend(poisoned)
            elif kind == "user":
                who, poisoned = facts.folded_user(UserState(name), own)
                loaded.users.append(who)
                loaded.poisoned.extend(poisoned)
            elif kind == "nudge":
                nudge, poisoned = facts.folded_nudge(NudgeState(name), own)
                loaded.nudges.append(nudge)
                loaded.poisoned.extend(poisoned)
        return loaded

    def keep(self, loaded: Loaded, due: Mapping[tuple[str, str], int]) -> None:
        """Take read states into the cache, unless this process moved them on meanwhile.

        `due`: when each session is to be looked at next.
        """
        for state in loaded.sessions:
            live = self.sessions.get(state.session_id)
            if live is None or live.state.version < state.version:
                self.sessions.put(state.session_id, Live(state, due.get((self.product, state.session_id))))
        for who in loaded.users:
            known = self.users.get(who.user_id)
            if known is None or known.version < who.version:
                self.users.put(who.user_id, who)
        for nudge in loaded.nudges:
            self.nudges.put(nudge.nudge_id, nudge)

    def missing(self, session_id: str | None, user_ids: Iterable[str], needs: Iterable[str]) -> set[str]:
        """Streams that a turn of this session will read and the cache does not hold, as far as known yet."""
        wanted = {stream for stream in needs if not self.holds(stream)}
        ids = set(user_ids)
        if session_id is not None:
            live = self.sessions.get(session_id)
            if live is None:
                wanted.add(session_stream(session_id))
            elif live.state.user_id is not None:
                ids.add(live.state.user_id)
        todo, seen = list(ids), set(ids)
        while todo:
            known = self.users.get(todo.pop())
            if known is None:
                continue
            further = [*known.merged_from, *([known.merged_into] if known.merged_into else [])]
            todo += [name for name in further if name not in seen]
            seen.update(further)
            wanted |= {session_stream(s) for s in known.last_sessions if s not in self.sessions}
        return wanted | {user_stream(name) for name in seen if name not in self.users}

    def holds(self, stream: str) -> bool:
        kind, _, name = stream.partition("-")
        if kind == "nudge":
            return name in self.nudges
        return name in (self.sessions if kind == "session" else self.users)

    def drop(self, stream: str) -> None:
        """Another process touched this stream."""
        kind, _, name = stream.partition("-")
        if kind == "session":
            self.sessions.drop(name)
        elif kind == "user":
            self.users.drop(name)
        elif kind == "nudge":
            self.nudges.drop(name)
