"""From rows of the ledger to facts that folds take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import codec, errors, events, nudge, session, user
from domain.envelope import OUTSIDE, Recorded
from domain.history import ActionFact
from domain.instants import text
from domain.nudge import NudgeState
from domain.session import Fact, SessionState
from domain.user import UserState
from eventstore import keys
from projections import poison
from projections.poison import Poisoned
from projections.readable import Readable

S = TypeVar("S")
ERASED = "(erased)"
_ACTION, _ACTION_VERSION = events.Action.TYPE, events.Action.VERSION


def fact(row: Readable, data_keys: Mapping[str, bytes] | None = None) -> Fact:
    """The fact of a row; `data_keys` None: personal fields are not wanted."""
    clear = orjson.loads(row.data)
    personal = None if data_keys is None else personal_of(row, data_keys)
    event = codec.decode(row.type, row.schema_version, clear, personal)
    return Fact(row.version, row.at, row.occurred_at, row.event_id, clear.get("user_id"), event)


def facts(rows: Iterable[Readable], data_keys: Mapping[str, bytes] | None = None) -> list[Fact]:
    return [fact(row, data_keys) for row in rows]


def folded_session(
    state: SessionState, rows: Sequence[Readable], data_keys: Mapping[str, bytes] | None = None
) -> tuple[SessionState, list[Poisoned]]:
    """The session after more rows of its stream, and the events of these that cannot be applied.

    Those are skipped: a session with one bad event is as good as it can be, and no other suffers.
    """
    try:
        return _folded(state, rows, data_keys), []
    except Exception:  # whatever it is: one by one, to find which
        return _one_by_one("sessions", session.evolve, _skip_in_session, state, rows, data_keys)


def _folded(
    state: SessionState, rows: Iterable[Readable], data_keys: Mapping[str, bytes] | None
) -> SessionState:
    """`session.fold` over the rows' facts. Plain actions, which most rows are, are not made into facts first
    where their personal fields are not wanted: it would take three times as long."""
    if data_keys is not None:
        return session.fold(state, facts(rows, data_keys))
    loads = orjson.loads
    run: list[ActionFact] = []
    last: Readable | None = None  # of the run
    user_id: str | None = None
    for row in rows:
        if row.type == _ACTION and row.schema_version == _ACTION_VERSION:
            get = loads(row.data).get
            run.append(
                ActionFact(
                    row.occurred_at,
                    row.event_id,
                    row.version,
                    get("type"),
                    get("title"),
                    get("canonical_url"),
                    None,
                )
            )
            last, user_id = row, get("user_id") or user_id
            continue
        if last is not None:
            state = session.acted(state, run, last.version, last.at, user_id)
            run, last, user_id = [], None, None
        state = session.evolve(state, fact(row))
    return state if last is None else session.acted(state, run, last.version, last.at, user_id)


def folded_user(state: UserState, rows: Sequence[Readable]) -> tuple[UserState, list[Poisoned]]:
    """The same for a user's stream."""
    try:
        return user.fold(state, facts(rows)), []
    except Exception:  # as above
        return _one_by_one("users", user.evolve, _skip_in_user, state, rows, None)


def folded_nudge(state: NudgeState, rows: Sequence[Readable]) -> tuple[NudgeState, list[Poisoned]]:
    """The same for a nudge's stream."""
    try:
        return nudge.fold(state, facts(rows)), []
    except Exception:  # as above
        return _one_by_one("nudges", nudge.evolve, _skip_in_nudge, state, rows, None)


def _one_by_one(
    projection: str,
    evolve: Callable[[S, Fact], S],
    skip: Callable[[S, Readable], S],
    state: S,
    rows: Iterable[Readable],
    data_keys: Mapping[str, bytes] | None,
) -> tuple[S, list[Poisoned]]:
    found: list[Poisoned] = []
    for row in rows:
        try:
            state = evolve(state, fact(row, data_keys))
        except Exception as error:  # whatever it is, it costs this event alone
            found.append(poison.poisoned(projection, row, error))
            state = skip(state, row)
    return state, found


def _skip_in_session(state: SessionState, row: Readable) -> SessionState:
    return session.skipped(state, row.version, row.at, row.origin == OUTSIDE)


def _skip_in_user(state: UserState, row: Readable) -> UserState:
    return user.skipped(state, row.version, row.at)


def _skip_in_nudge(state: NudgeState, row: Readable) -> NudgeState:
    return nudge.skipped(state, row.version, row.at)


def personal_of(row: Readable, data_keys: Mapping[str, bytes]) -> dict[str, Any] | None:
    """The unsealed personal fields; None where there are none or the key is gone."""
    if row.sealed is None or row.key_id is None:
        return None
    key = data_keys.get(row.key_id)
    if key is None:
        return None
    try:
        plain = keys.unseal(key, row.sealed, keys.binding(row.product, row.event_id))
    except errors.Unreadable:
        return None
    return orjson.loads(plain)  # type: ignore[no-any-return]


async def keys_of(conn: AsyncConnection, rows: Sequence[Readable]) -> dict[str, bytes]:
    """The data keys that these rows are sealed under, as far as they still exist."""
    return await keys.load_keys(conn, {row.key_id for row in rows if row.key_id is not None})


def event_json(row: Recorded, data_keys: Mapping[str, bytes]) -> dict[str, Any]:
    """An event as the API shows it: the JSON of an outside event, with its place in the ledger."""
    data: dict[str, Any] = orjson.loads(row.data)
    user_id = data.pop("user_id", None) if row.origin == "outside" else data.get("user_id")
    if row.sealed is not None:
        personal = personal_of(row, data_keys)
        if personal is None:
            data.update(dict.fromkeys(sorted(_personal_names(row.type)), ERASED))
        else:
            data.update(personal.pop("extra", None) or {})
            data.update(personal)
    kind, _, name = row.stream.partition("-")
    return {
        "event_id": row.event_id,
        "type": row.type,
        "schema_version": row.schema_version,
        "session_id": name if kind == "session" else None,
        "user_id": user_id or (name if kind == "user" else None),
        "stream": row.stream,
        "version": row.version,
        "position": row.position,
        "product_seq": row.product_seq,
        "origin": row.origin,
        "source": row.source,
        "at": text(row.at),
        "recorded_at": text(row.recorded_at),
        "occurred_at": text(row.occurred_at),
        "clock_suspect": row.clock_suspect,
        "batch_id": row.batch_id,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
        "config_revision": row.config_revision,
        "engine_version": row.engine_version,
        "data": data,
    }


def _personal_names(kind: str) -> frozenset[str]:
    cls = events.TYPES.get(kind)
    return cls.PERSONAL - {"extra"} if cls is not None else frozenset()
