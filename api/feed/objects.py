"""The objects that published clients read, made of rows of the ledger and of what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from api.book import Recent
from domain import events
from domain.config import Config
from domain.envelope import Recorded, name_in
from domain.instants import SECOND
from projections import facts
from projections.views.activity import Standing

AGAIN = 30 * SECOND  # a tour that was to start is not to start again within this

Keys = Mapping[str, bytes]

_STARTING = frozenset((events.TourStarted.TYPE, events.OptionClicked.TYPE))
SHAPED = _STARTING | {events.Action.TYPE, events.SummaryGenerated.TYPE}


class Beside(NamedTuple):
    standings: Mapping[str, Standing]
    people: Mapping[str, Sequence[Recorded]]
    keys: Keys

    def of(self, row: Recorded) -> Standing:
        session_id = session_of(row)
        if session_id is None:
            return Standing(name_in(row.stream), None)
        return self.standings.get(session_id) or Standing(None, None)

    def email(self, user_id: str | None) -> str | None:
        """The newest that was said of the user; None where none was, "" where the user was erased."""
        erased = False
        for row in self.people.get(user_id, ()) if user_id is not None else ():
            personal = facts.personal_of(row, self.keys)
            erased = erased or (personal is None and row.sealed is not None)
            email = (personal or {}).get("email")
            if isinstance(email, str) and email:
                return email
        return "" if erased else None


class Objects:
    """Makes the objects of one product."""

    def __init__(self, product: str, config: Callable[[], Config]) -> None:
        self._product, self._config = product, config
        self._started: Recent[int] = Recent(1_000)  # session and flow: when it was to start

    def of_batch(self, batch: Sequence[Recorded], index: int, beside: Beside) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        actions: list[dict[str, Any]] = []
        for row in batch:
            if row.type == events.Action.TYPE:
                actions.append(self.action(row, index + len(actions), beside))
        if actions:
            end(actions)
            made.append(self._actions(batch, actions))
        started: list[dict[str, Any]] = []
        for row in batch:
            if row.type == events.SummaryGenerated.TYPE:
                made.append(self._summary(row, beside))
            elif row.type in _STARTING:
                started += self._started_tour(row)
        return made + started

    def action(self, row: Recorded, index: int, beside: Beside) -> dict[str, Any]:
        clear = orjson.loads(row.data)
        personal = facts.personal_of(row, beside.keys) or {}
        standing = beside.of(row)
        user_id = clear.get("user_id") or standing.user_id
        start = row.occurred_at / SECOND
        end = clear.get("timestamp_end")
        return {
            "index": index,
            "type": clear["type"],
            "title": clear["title"],
            "description": clear.get("description") or clear["title"],
            "timestamp_start": start,
            "timestamp_end": end / SECOND if end is not None else None,
            "raw_url": personal.get("raw_url") or "",
            "canonical_url": clear.get("canonical_url") or "",
            "session_id": session_of(row),
            "user_id": user_id,
            "email": beside.email(user_id),
            "conversation_id": standing.conversation_id,
        }

    def _actions(self, batch: Sequence[Recorded], actions: list[dict[str, Any]]) -> dict[str, Any]:
        last = actions[-1]
        return {
            "type": "actions",
            "product_id": self._product,
            "session_id": last["session_id"],
            "user_id": last["user_id"],
            "email": last["email"],
            "conversation_id": last["conversation_id"],
            "count": len(actions),
            "forwarded_at": batch[-1].recorded_at / SECOND,
            "actions": actions,
        }

    def _summary(self, row: Recorded, beside: Beside) -> dict[str, Any]:
        clear = orjson.loads(row.data)
        personal = facts.personal_of(row, beside.keys) or {}
        return {
            "type": "summary",
            "product_id": self._product,
            "session_id": session_of(row),
            "summary": personal.get("text") or "",
            "replaces": clear["replaces"],
            "forwarded_at": row.recorded_at / SECOND,
        }

    def _started_tour(self, row: Recorded) -> list[dict[str, Any]]:
        """The tour that is to start in the page, by its provider's flow; at most one."""
        flow, session_id = self._flow(row), session_of(row)
        if flow is None or session_id is None:
            return []
        key = f"{session_id}\0{flow}"
        before = self._started.get(key)
        if before is not None and row.recorded_at - before < AGAIN:
            return []
        self._started.put(key, row.recorded_at)
        return [
            {
                "type": "usertour_trigger",
                "product_id": self._product,
                "flow_id": flow,
                "session_id": session_id,
            }
        ]

    def _flow(self, row: Recorded) -> str | None:
        clear, config = orjson.loads(row.data), self._config()
        if row.type == events.TourStarted.TYPE:
            if row.source == "usertour":  # the provider's own word that it has started already
                return None
            tour = config.tour(clear.get("registry_id") or clear["tour_id"])
            return tour.user_tour_id if tour is not None else None
        chosen = (o for t in config.triggers for o in t.options if o.id == clear["option_id"])
        return next((o.user_tour_id for o in chosen if o.user_tour_exists and o.user_tour_id), None)


def correct(action: dict[str, Any], correction: events.ActionRelabelled) -> None:
    for name in ("type", "title", "description", "canonical_url"):
        action[name] = getattr(correction, name) or action[name]


def end(actions: Sequence[dict[str, Any]]) -> None:
    """An action that does not say when it ended lasted until the next one; the last one has no length."""
    following: float | None = None
    for action in reversed(actions):
        start: float = action["timestamp_start"]
        if action["timestamp_end"] is None:
            action["timestamp_end"] = start if following is None else max(start, following)
        following = start


def session_of(row: Recorded) -> str | None:
    return name_in(row.stream) if row.stream.startswith("session-") else None


def user_of(row: Recorded) -> str | None:
    found = orjson.loads(row.data).get("user_id")
    return found if isinstance(found, str) else None
