"""The instants between units at which time alone may change something, and of which the record may be silent.

The service looks at a session when it is due, and a look that comes to nothing leaves no row. Where today's
code comes to something, that is told only if the service surely looked, and on the same: the session was
last evaluated under the same rules, and nobody moved what an evaluation reads until the session's next row.
"""

from __future__ import annotations

from typing import NamedTuple

from domain.envelope import session_stream
from domain.run import Live
from domain.session import SessionState
from domain.triggers import Ruleset
from projections.replaying import compare
from projections.replaying.rerun import Act, Rerun
from projections.replaying.telling import TIMEOUT, Place, Telling

MEMORY = 500_000  # positions: of a session that has had no row for so long nobody knows when it was due


class Armed(NamedTuple):
    """When a session is to be looked at next, as its last turn left it."""

    due: int
    next_evaluation: int | None  # the timeout apart
    position: int  # of the session's newest row
    revision: str | None  # the rules by which it was worked out
    sure: bool  # the service came to the same, as far as the record tells


class Watch:
    """Who of a product's sessions is due when."""

    def __init__(self, rerun: Rerun, telling: Telling) -> None:
        self._rerun, self._telling = rerun, telling
        self._armed: dict[str, Armed] = {}

    def arm(
        self,
        state: SessionState,
        next_evaluation: int | None,
        position: int,
        revision: str | None,
        *,
        sure: bool,
    ) -> None:
        """A turn left the session so."""
        self._armed.pop(state.session_id, None)  # so that the dict's order is that of the positions
        timeout = state.timeout_due
        if timeout is None and next_evaluation is None:
            return
        due = min(instant for instant in (timeout, next_evaluation) if instant is not None)
        self._armed[state.session_id] = Armed(due, next_evaluation, position, revision, sure)

    def forget(self, session_id: str) -> None:
        """Something was recorded of which no turn knows."""
        self._armed.pop(session_id, None)

    async def rearm(
        self, session_id: str, rules: Ruleset, at: int, position: int, revision: str | None
    ) -> None:
        """Arm a session on what was recorded, where no turn of today left it so."""
        state = await self._rerun.states.session(session_id)
        next_evaluation = await self._following(state, rules, at)
        self.arm(state, next_evaluation, position, revision, sure=False)

    async def postponed(self, session_id: str, now: int, position: int, revision: str | None) -> None:
        """A turn took facts in without evaluating: what was due by then is looked at then."""
        state = await self._rerun.states.session(session_id)
        armed = self._known(session_id)
        due = armed.next_evaluation if armed is not None else None
        self.arm(state, max(due, now) if due is not None else None, position, revision, sure=False)

    async def pass_by(
        self, session_id: str, before: int, rules: Ruleset, revision: str | None, *, evaluates: bool = True
    ) -> None:
        """Look at the session at each instant before `before` at which it was due."""
        armed = self._known(session_id)
        if armed is not None and armed.due >= before:
            return
        state = await self._rerun.states.session(session_id)
        timeout = state.timeout_due
        if armed is not None and evaluates:
            armed = await self._looked(
                armed, state, before if timeout is None else min(timeout, before), rules, revision
            )
        if timeout is not None and timeout < before:
            await self._unnoticed(state, timeout, rules, armed)

    # --- inside ----------------------------------------------------------------------------------

    def _known(self, session_id: str) -> Armed | None:
        """When the session is due; None also where that was too long ago. A rule of positions, so that every
        share of a ledger, however much of it is kept in memory, goes by the same."""
        oldest = self._rerun.states.before - MEMORY
        while self._armed:
            name = next(iter(self._armed))
            if self._armed[name].position >= oldest:
                break
            del self._armed[name]
        armed = self._armed.get(session_id)
        return armed if armed is not None and armed.position >= oldest else None

    async def _looked(
        self, armed: Armed, state: SessionState, before: int, rules: Ruleset, revision: str | None
    ) -> Armed:
        """The session's evaluations before that instant, one after the other."""
        place = Place(session_stream(state.session_id), armed.position)
        sure = armed.sure and armed.revision == revision
        first = due = armed.next_evaluation
        while due is not None and due < before:
            assert first is not None
            due = await self._look(place, state, first, due, rules, sure)
        self.arm(state, due, armed.position, armed.revision, sure=sure)
        return armed._replace(sure=sure)

    async def _look(
        self, place: Place, state: SessionState, first: int, due: int, rules: Ruleset, sure: bool
    ) -> int | None:
        """One evaluation of which nothing was recorded; when the next is. `first`: when the first was."""
        name, live = state.session_id, Live(state, due)
        turn = await self._rerun.run(lambda t: t.timers(name, due + 1), rules, due, live)
        asked = self._rerun.rulebook.asked
        if not turn.stored:
            self._telling.silent(place, known=not asked)
            return turn.world.session(name).next_evaluation
        if asked or not sure:
            self._telling.unknown(place, 1)
        else:
            # What others did since must not count: who looked late saw some of it, how much nobody knows; and
            # after a look that stood on something else the next was due at another instant.
            act: Act = lambda t: t.timers(name, due + 1)  # noqa: E731
            if not (then := await self._rerun.as_of(act, rules, due, live)).stored:
                self._telling.silent(place, known=True)
            elif (await self._rerun.as_of(act, rules, due, live, until=first)).world.read != turn.world.read:
                self._telling.unknown(place, 1)
            else:
                for difference in compare.differences((), then.stored):
                    await self._telling.diverges(difference, place)
        return await self._following(state, rules, due)

    async def _unnoticed(self, state: SessionState, due: int, rules: Ruleset, armed: Armed | None) -> None:
        """A timeout that the record lacks, and what would have been decided with it."""
        name = state.session_id
        position = armed.position if armed is not None else self._rerun.states.before - 1
        turn = await self._rerun.run(lambda t: t.timers(name, due + 1), rules, due, Live(state))
        sure = armed is not None and armed.sure and not self._rerun.rulebook.asked
        for difference in compare.differences((), turn.stored):
            if sure or difference.what == TIMEOUT:
                await self._telling.diverges(difference, Place(session_stream(name), position))

    async def _following(self, state: SessionState, rules: Ruleset, at: int) -> int | None:
        name = state.session_id
        turn = await self._rerun.run(lambda t: t.rearm(name, at), rules, at, Live(state))
        return turn.world.session(name).next_evaluation
