"""Every unit of one product executed again by the turn that the service uses, and compared with its rows.

States are folded from what was recorded, never from what is derived, so one divergence does not bring the
next. An evaluation that left rows took place at their instant; of a batch it is known without any; the rest
is up to `projections.replaying.watch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.finding import Finding
from domain.run import Live, Stored, Transition, Turn
from domain.session import SessionState
from domain.triggers import Ruleset
from projections import facts, rederive
from projections.rederive import CONCLUSIONS, DECISIONS
from projections.replaying import compare
from projections.replaying.compare import Difference
from projections.replaying.divergence import LOST, OTHER, Report
from projections.replaying.rerun import Rerun
from projections.replaying.rulebook import Rulebook
from projections.replaying.telling import TIMEOUT, Place, Telling, Wanted
from projections.replaying.units import ANSWER, CORRECTION, Row, Unit
from projections.replaying.watch import Watch

_SPENDING = ("budget_spent", "nudge_closed")


class Checker:
    """One product's units, in ledger order."""

    def __init__(
        self,
        conn: AsyncConnection,
        product: str,
        rulebook: Rulebook,
        begin: int,
        report: Report,
        wanted: Wanted,
    ) -> None:
        """`begin`: the position of the first unit; what came before is loaded where it is needed."""
        self._rulebook = rulebook
        self._rerun = Rerun(conn, product, rulebook, begin)
        self._states = self._rerun.states
        self._telling = Telling(conn, product, report, wanted)
        self._watch = Watch(self._rerun, self._telling)

    async def check(self, unit: Unit) -> None:
        """Execute a unit again, compare, and go on from what was recorded."""
        self._states.before = unit.position
        kind, _, name = unit.stream.partition("-")
        if kind not in ("session", "user"):
            return
        rules = self._rulebook.of(unit.revision)
        if not unit.turned or rules is None:
            await self._unreadable(name, unit)
        elif kind == "user":
            await self._user(name, unit, rules)
        else:
            await self._session(name, unit, rules)
        self._states.trim()

    # --- units -----------------------------------------------------------------------------------

    async def _unreadable(self, name: str, unit: Unit) -> None:
        """Something that no turn of today could make: taken as it is."""
        if unit.turned:
            self._telling.counted(unit.stream, unit.rows)
            place = Place(unit.stream, unit.position)
            self._telling.unknown(place, sum(row.type in DECISIONS for row in unit.rows))
        await self._rerun.apply(unit.rows)
        self._watch.forget(name)

    async def _user(self, name: str, unit: Unit, rules: Ruleset) -> None:
        rows = unit.rows
        batch = await self._rerun.incoming(rows)
        turn = await self._rerun.run(lambda t: t.record_user(name, batch, rows[0].at), rules, unit.now)
        if compare.exact(rows, turn.stored):
            self._rerun.adopt(turn)
            return
        await self._rerun.apply(rows)
        for difference in compare.differences(rows, turn.stored):
            await self._telling.diverges(difference, Place(unit.stream, rows[-1].position))

    async def _session(self, name: str, unit: Unit, rules: Ruleset) -> None:
        instants, own = unit.parts()
        for at, rows in instants:
            await self._watch.pass_by(name, at, rules, unit.revision, evaluates=unit.evaluates)
            if rows[0].type == CORRECTION:
                own = [*rows, *own]
            elif rows[0].type == ANSWER:
                await self._answer(name, unit, rules, rows)
            else:
                await self._timer(name, unit, rules, at, rows)
        if not own:
            return
        await self._watch.pass_by(name, own[0].at, rules, unit.revision, evaluates=unit.evaluates)
        if own[0].type == CORRECTION:
            await self._rerun.apply(own)
        else:
            await self._batch(name, unit, rules, own)
        if not unit.evaluates:
            await self._watch.postponed(name, unit.now, own[-1].position, unit.revision)

    async def _timer(self, name: str, unit: Unit, rules: Ruleset, at: int, rows: Sequence[Row]) -> None:
        state = await self._states.session(name)
        if rows[0].type == TIMEOUT and state.timeout_due != at:
            await self._untimely(state, unit, rules, rows)
            return
        turn = await self._rerun.run(
            lambda t: t.timers(name, at + 1),
            rules,
            unit.now,
            Live(state, at if unit.evaluates else None),
            served=_served(rules, rows),
            evaluates=unit.evaluates,
        )
        await self._conclude(name, unit, rules, turn, turn.stored, rows)

    async def _batch(self, name: str, unit: Unit, rules: Ruleset, rows: Sequence[Row]) -> None:
        batch = await self._rerun.incoming(rows)
        turn = await self._rerun.run(
            lambda t: t.record(name, batch, rows[0].at),
            rules,
            unit.now,
            Live(await self._states.session(name)),
            served=_served(rules, rows),
            evaluates=unit.evaluates,
        )
        await self._conclude(name, unit, rules, turn, turn.stored[turn.own :], rows)

    async def _answer(self, name: str, unit: Unit, rules: Ruleset, rows: Sequence[Row]) -> None:
        """The judge's answer is taken from the record, and what was made of it is derived again."""
        answer = facts.fact(rows[0]).event
        assert isinstance(answer, events.JudgeAnswered)
        state = await self._states.session(name)
        turn = await self._rerun.run(
            lambda t: t.judged(name, answer, rows[0].at),
            rules,
            unit.now,
            Live(state),
            served=_served(rules, rows),
        )
        if answer.allow is None and compare.exact(rows, turn.stored):
            await self._rerun.apply(rows)  # it moves nothing, and nobody looked at the session
            return
        await self._conclude(name, unit, rules, turn, turn.stored[turn.own :], rows)

    # --- comparing -------------------------------------------------------------------------------

    async def _conclude(
        self, name: str, unit: Unit, rules: Ruleset, turn: Turn, made: Sequence[Stored], rows: Sequence[Row]
    ) -> None:
        """Compare what one evaluation recorded, count, and take the record in."""
        asked = self._rulebook.asked
        hidden = rules.reads_properties and name in self._states.erased
        place = Place(unit.stream, rows[-1].position)
        clean = len(made) == len(turn.stored)  # else a timeout that the record lacks came before
        self._telling.counted(unit.stream, rows)
        if hidden:
            self._telling.erased(unit.stream, rows)
        if clean and compare.exact(rows, made):
            self._rerun.adopt(turn)
            self._telling.moved(place, len(turn.transitions))
            if unit.evaluates and not hidden and not any(row.type in CONCLUSIONS for row in rows):
                self._telling.silent(place, known=not asked)
            self._arm(turn, name, unit, place, sure=not hidden)
            return
        moves = await self._rerun.apply(rows)
        self._telling.moved(place, len(moves))
        found = compare.differences(rows, made)
        if hidden or asked:
            if not hidden:
                self._telling.unknown(place, sum(each.decides for each in found))
            found = [each for each in found if not (each.decides or each.what in _SPENDING)]
        elif clean and not found and moves != turn.transitions:
            found = [_moved(rows[-1], moves, turn.transitions)]
        for difference in found:
            await self._telling.diverges(difference, place)
        if found or hidden or not clean:
            await self._watch.rearm(name, rules, rows[0].at, place.position, unit.revision)
        else:
            self._arm(turn, name, unit, place, sure=True)

    def _arm(self, turn: Turn, name: str, unit: Unit, place: Place, *, sure: bool) -> None:
        state, next_evaluation = turn.world.changed_sessions[name]
        self._watch.arm(state, next_evaluation, place.position, unit.revision, sure=sure)

    async def _untimely(self, state: SessionState, unit: Unit, rules: Ruleset, rows: Sequence[Row]) -> None:
        """A timeout was recorded at an instant at which none is due. What was decided then is judged alone,
        by what it read: no turn of today would come by at that instant."""
        self._telling.counted(unit.stream, rows)
        place = Place(unit.stream, rows[-1].position)
        row, due = rows[0], state.timeout_due
        recorded = {"due": row.at, **orjson.loads(row.data)}
        derived: dict[str, Any] | None = None
        if due is not None:
            derived = {
                "due": due,
                "previous_state": state.current_state,
                "timeout": state.timeout,
                "cooldown": state.cooldown,
            }
        kind = LOST if derived is None else OTHER
        await self._telling.diverges(Difference(kind, row, None, recorded, derived), place)
        for each in rows[1:]:
            if each.type in DECISIONS:
                same = await self._telling.stands_alone(each)
                if same is None:
                    self._telling.unknown(place, 1)
                elif not same:
                    lost = Difference(LOST, each, None, orjson.loads(each.data), None)
                    await self._telling.diverges(lost, place)
        self._telling.moved(place, len(await self._rerun.apply(rows)))
        await self._watch.rearm(state.session_id, rules, row.at, place.position, unit.revision)


def _served(rules: Ruleset, rows: Sequence[Row]) -> dict[str, Finding]:
    """What predicates found, as far as the decisions among the rows recorded it."""
    found: dict[str, Finding] = {}
    for row in rows:
        if row.type in CONCLUSIONS:
            found |= rederive.served(rules, orjson.loads(row.data))
    return found


def _moved(row: Row, recorded: Sequence[Transition], derived: Sequence[Transition]) -> Difference:
    def told(moves: Sequence[Transition]) -> dict[str, Any]:
        return {"transitions": [f"{move.source} → {move.target} by {move.cause}" for move in moves]}

    return Difference(OTHER, row._replace(type="transition"), None, told(recorded), told(derived))
