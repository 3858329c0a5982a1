"""given(config).when(facts) and what the engine made of them; instants are seconds after a Tuesday noon."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from domain import codec, events
from domain.instants import SECOND
from domain.run import Stored, Turn, World
from domain.session import Fact, SessionState
from domain.user import UserState
from domain.view import Predicates, no_predicates
from tests.domain.builders import NOON, Sent, at, ruleset

DECISIONS = (events.NudgeOffered, events.NudgeWithheld)


class Given:
    """A product from its beginning. `user` and `session` default to one of each."""

    def __init__(
        self, *triggers: dict[str, Any], predicates: Predicates = no_predicates, **config: Any
    ) -> None:
        self.rules = ruleset(list(triggers), predicates, **config)
        self.world = World({}, {}, complete=True)
        self.stored: list[Stored] = []
        self.turns: list[Turn] = []
        self._ids = count(1)

    def when(
        self, seconds: float, *facts: events.Outside | Sent, session: str = "s", user: str | None = "u"
    ) -> Given:
        """A batch recorded at that instant; what came due before it is noticed only now."""
        sent = [
            f if isinstance(f, Sent) else Sent(f"e{next(self._ids)}", f, user, at(seconds)) for f in facts
        ]
        return self._turn(seconds, lambda turn: turn.record(session, sent, turn.now))

    def timers(self, seconds: float, session: str = "s") -> Given:
        """The session is looked at: all that was due before that instant is applied."""
        return self._turn(seconds, lambda turn: turn.timers(session, turn.now))

    def answers(
        self, seconds: float, allow: bool | None = True, session: str = "s", proposal: str | None = None
    ) -> Given:
        """The judge's answer to the session's newest proposal comes; `allow` None: it is of no use."""
        made = [s for s in self.stored if isinstance(s.event, events.NudgeProposed)]
        mine = [s for s in made if s.stream == f"session-{session}"]
        event_id = proposal or mine[-1].event_id
        failure = "nonsense" if allow is None else None
        answer = events.JudgeAnswered(event_id, "t", allow, "said", "m", "judge-1", 9, failure)
        return self._turn(seconds, lambda turn: turn.judged(session, answer, turn.now))

    def on_time(self, seconds: float) -> Given:
        """Every session's timers run a microsecond after they are due, up to that instant."""
        while due := [
            (d, s) for s, live in self.world.changed_sessions.items() if (d := live.due()) is not None
        ]:
            when, session = min(due)
            if when >= at(seconds):
                break
            self.timers((when + 1 - NOON) / SECOND, session)
        return self

    def _turn(self, seconds: float, run: Callable[[Turn], None]) -> Given:
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
        made = [(s.at, s.event) for s in self.stored if isinstance(s.event, DECISIONS)]
        return [((t - NOON) / SECOND, e.trigger_id, getattr(e, "reason", "offered")) for t, e in made]

    def state(self, session: str = "s") -> SessionState:
        return self.world.session(session).state

    def user(self, user: str = "u") -> UserState:
        return self.world.user(user)

    def facts(self, stream: str) -> list[Fact]:
        """The stream as the ledger would give it back."""
        mine = [(s, s.incoming or s) for s in self.stored if s.stream == stream]
        occurred = [min(getattr(fact, "occurred_at", s.at), s.at) for s, fact in mine]
        return [
            Fact(n + 1, s.at, occurred[n], s.event_id, s.user_id, s.event) for n, (s, _) in enumerate(mine)
        ]

    def bytes(self) -> bytes:
        rows = [
            (s.stream, s.event_id, s.event.TYPE, s.at, s.cause, codec.encode(s.event)) for s in self.stored
        ]
        return json.dumps(rows).encode()
