"""given(config).when(facts) and what the engine made of them; instants are seconds after a Tuesday noon."""

from __future__ import annotations

import json
from itertools import count
from typing import Any, NamedTuple

from domain import codec, config_parse, events
from domain.instants import SECOND
from domain.run import Stored, Turn, World
from domain.session import Fact, SessionState
from domain.triggers import Ruleset
from domain.user import UserState
from domain.view import Predicates, no_predicates

NOON = 1_779_192_000 * SECOND  # 2026-05-19T12:00:00Z


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND)


class Sent(NamedTuple):
    event_id: str
    event: events.Outside
    user_id: str | None
    occurred_at: int


def ruleset(triggers: list[dict[str, Any]], predicates: Predicates = no_predicates, **config: Any) -> Ruleset:
    raw = {"schema": 1, "product_id": "acme", "triggers": triggers, **config}
    return Ruleset(config_parse.parse(raw), "r1-test", predicates)


def click(title: str = "Save changes", url: str | None = "https://app/projects", **more: Any) -> events.Action:
    return events.Action(more.pop("type", "click"), title, canonical_url=url, **more)


def trigger(trigger_id: str = "t", title: str | None = None, least: int = 1, **more: Any) -> dict[str, Any]:
    """Met by `least` actions of that title (default: its id) in the last 120 s."""
    criteria = {"type": "count", "where": {"title_equals": title or trigger_id}, "at_least": least}
    return {"id": trigger_id, "criteria": {**criteria, "within_s": 120}, **more}


class Given:
    """A product from its beginning. `user` and `session` default to one of each."""

    def __init__(self, *triggers: dict[str, Any], predicates: Predicates = no_predicates, **config: Any) -> None:
        self.rules = ruleset(list(triggers), predicates, **config)
        self.world = World({}, {}, complete=True)
        self.stored: list[Stored] = []
        self.turns: list[Turn] = []
        self._ids = count(1)

    def when(self, seconds: float, *facts: events.Outside | Sent, session: str = "s", user: str | None = "u") -> Given:
        """A batch recorded at that instant; what came due before it is noticed only now."""
        sent = [
            f if isinstance(f, Sent) else Sent(f"e{next(self._ids)}", f, user, at(seconds)) for f in facts
        ]
        return self._turn(seconds, lambda turn: turn.record(session, sent, turn.now))

    def timers(self, seconds: float, session: str = "s") -> Given:
        """The session is looked at: all that was due before that instant is applied."""
        return self._turn(seconds, lambda turn: turn.timers(session, turn.now))

    def on_time(self, seconds: float) -> Given:
        """Every session's timers run a microsecond after they are due, up to that instant."""
        while True:
            due = [(d, s) for s, live in self.world.changed_sessions.items() if (d := live.due()) is not None]
            if not due or min(due)[0] >= at(seconds):
                return self
            when, session = min(due)
            self.timers((when + 1 - NOON) / SECOND, session)

    def _turn(self, seconds: float, run: Any) -> Given:
        turn = Turn("acme", self.rules, self.world, at(seconds))
        run(turn)
        self.turns.append(turn)
        self.stored += turn.stored
        return self

    def then(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What the engine concluded in the newest turn: (stream, type, stored data)."""
        made = [s for s in self.turns[-1].stored if s.incoming is None]
        return [(s.stream, s.event.TYPE, codec.encode(s.event)[0]) for s in made]

    def decided(self) -> list[tuple[float, str, str]]:
        """Every decision so far: (seconds, trigger, reason; `offered` where it was)."""
        return [
            ((s.at - NOON) / SECOND, s.event.trigger_id, getattr(s.event, "reason", "offered"))
            for s in self.stored
            if isinstance(s.event, (events.NudgeOffered, events.NudgeWithheld))
        ]

    def state(self, session: str = "s") -> SessionState:
        return self.world.session(session).state

    def user(self, user: str = "u") -> UserState:
        return self.world.user(user)

    def facts(self, stream: str) -> list[Fact]:
        """The stream as the ledger would give it back."""
        mine = [s for s in self.stored if s.stream == stream]
        return [
            Fact(n, s.at, min(s.incoming.occurred_at, s.at) if s.incoming else s.at, s.event_id, s.user_id, s.event)
            for n, s in enumerate(mine, 1)
        ]

    def bytes(self) -> bytes:
        rows = [(s.stream, s.event_id, s.event.TYPE, s.at, s.cause, codec.encode(s.event)) for s in self.stored]
        return json.dumps(rows).encode()
