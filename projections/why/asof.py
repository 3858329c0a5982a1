"""One session at one instant of its past, or now: everything that an answer about it is made from.

Folds what the ledger says up to that instant and asks the evaluator itself. Where a decision was recorded at
that very instant, its own read set says what the evaluation stood on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import run, triggers
from domain.envelope import OUTSIDE, PRODUCT_STREAM, session_stream
from domain.errors import NotFound
from domain.finding import Finding
from domain.history import ActionFact
from domain.run import Live, Missing, World
from domain.session import SessionState
from domain.triggers import Evaluation, Ruleset, Situation, Verdict
from domain.user import UserState
from domain.view import Predicates, View, no_predicates
from projections import configs, facts, rederive
from projections.configs import ProductState, Revision
from projections.readable import Told
from projections.rederive import Derived, Inputs


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and what the process that answers knows besides the ledger."""

    conn: AsyncConnection
    product: str
    inputs: Inputs
    now: int
    engine: str  # the version of the code that answers
    predicates: Predicates = no_predicates
    versions: Mapping[str, str] | None = None  # of those predicates, as declared
    # (user id, session id) of each nudge stream that is open; None: this process serves no streams
    listening: Sequence[tuple[str, str | None]] | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A session at one instant."""

    session_id: str
    at: int
    rows: Sequence[Told]  # the session's whole stream, as it is now
    version: int  # how many of them belong to this moment
    product: ProductState  # as it is now
    revision: Revision | None  # in force then
    situation: Situation  # what an evaluation at that instant stands on
    rules: Ruleset
    evaluation: Evaluation  # whole
    failure: str | None  # the type of what the evaluator raised; its evaluation is empty then
    decisions: tuple[Told, ...]  # what that evaluation recorded; a proposal, too
    erased: bool  # personal fields that the rules ask for can be read no more
    late: tuple[str, ...] = ()  # ids of later facts taken in besides, in the order of recording

    @property
    def known(self) -> Sequence[Told]:
        """The session's rows up to this moment."""
        return self.rows[: self.version]

    @property
    def engine(self) -> str | None:
        """The version of the engine that recorded the session's newest event by then."""
        return self.known[-1].engine_version if self.version else None

    @property
    def lookback(self) -> int:
        return self.rules.config.lookback

    def span(self) -> int | None:
        """How far back the context window reaches, where nothing but time ends it."""
        rules, actions = self.rules, self.situation.session.actions
        return View(actions, self.at, rules.config, rules.matcher, rules.predicates).span()

    def verdict(self, trigger_id: str) -> Verdict | None:
        return next((v for v in self.evaluation.verdicts if v.trigger.id == trigger_id), None)

    def state(self) -> SessionState:
        """The session after this moment: with what its evaluation recorded."""
        read = self.situation.session
        return facts.folded_session(read, self.rows[read.version : self.version])[0]


async def moment(
    asking: Asking, session_id: str, *, at: int | None = None, version: int | None = None
) -> Moment:
    """The session as of `version`, else as of `at`, else now. Raises NotFound where it has no such event."""
    rows = await asking.inputs.rows(session_stream(session_id))
    if not rows or (version or 0) > len(rows):
        which = "" if not rows else f" at version {version}"
        raise NotFound(f"no session {session_id!r}{which} in product {asking.product!r}")
    limit: int | None = None  # position: what was recorded later is left out
    if version is not None:
        at, limit = rows[version - 1].at, rows[version - 1].position
    elif at is None:
        at = max(asking.now, rows[-1].at)
    if version is None:
        version = bisect_right(rows, at, key=lambda row: row.at)
    recorded = _deciding(rows[:version], at)
    if recorded:
        derived = await rederive.derive(asking.inputs, recorded[-1])
        if derived is not None:
            return await of_decision(asking, recorded[-1], derived, version)
    state = await product_state(asking)
    revision = _revision(rows[:version], state, at)
    rules = await _rules(asking, revision, at)
    seen = await _situation(asking, session_id, rules, at, version, limit)
    return await _moment(asking, rows, version, state, revision, seen, rules, ())


async def of_decision(asking: Asking, row: Told, derived: Derived, version: int = 0) -> Moment:
    """The moment of a recorded decision, standing on what the decision read.

    `version`: how much of the session belongs to it; at least the decision itself does.
    """
    rows = await asking.inputs.rows(row.stream)
    version = max(version, row.version)
    state = await product_state(asking)
    made = _deciding(rows[:version], row.at) or (row,)
    revision = state.of(row.config_revision)
    return await _moment(asking, rows, version, state, revision, derived.situation, derived.rules, made)


async def product_state(asking: Asking) -> ProductState:
    return configs.fold(await asking.inputs.rows(PRODUCT_STREAM))


async def _moment(
    asking: Asking,
    rows: Sequence[Told],
    version: int,
    product: ProductState,
    revision: Revision | None,
    situation: Situation,
    rules: Ruleset,
    decisions: tuple[Told, ...],
) -> Moment:
    erased = rules.reads_properties and await _erased(asking, rows[:version])
    rules = rules.erased() if erased else rules
    evaluation, failure = evaluated(situation, rules)
    return Moment(
        situation.session.session_id,
        situation.at,
        rows,
        version,
        product,
        revision,
        situation,
        rules,
        evaluation,
        failure,
        decisions,
        erased,
    )


def evaluated(situation: Situation, rules: Ruleset) -> tuple[Evaluation, str | None]:
    """Every trigger's whole verdict; or an empty evaluation, and the type of what the evaluator raised."""
    try:
        return triggers.evaluate(situation, rules, whole=True), None
    except Exception as error:  # the service records such a failure; whoever asks why must hear of it too
        return Evaluation(situation.at, (), None, None), type(error).__name__


def _deciding(rows: Sequence[Told], at: int) -> tuple[Told, ...]:
    """What the newest evaluation at `at` recorded: decisions, perhaps a proposal; none where facts were
    recorded after it."""
    found: list[Told] = []
    for row in reversed(rows):
        if row.at != at or (row.origin == OUTSIDE and not found):
            break
        if row.type in rederive.CONCLUSIONS:
            found.append(row)
        elif found:
            break
    return tuple(reversed(found))


def _revision(rows: Sequence[Told], state: ProductState, at: int) -> Revision | None:
    if rows and rows[-1].at == at:
        return state.of(rows[-1].config_revision)
    return state.in_force(at)


async def _rules(asking: Asking, revision: Revision | None, instant: int) -> Ruleset:
    """The rules of a revision, with those predicates that are still what they were at `instant`."""
    then: Mapping[str, str] = {}
    for row in await asking.inputs.rows(PRODUCT_STREAM):
        if row.type == "engine_activated" and row.at <= instant:
            then = orjson.loads(row.data)["predicates"]
    now = asking.versions or {}

    def serve(name: str, window: Sequence[ActionFact], at: int) -> Finding:
        if name in then and name in now and then[name] != now[name]:
            changed = f"predicate {name!r} had version {then[name]} then and has {now[name]} now"
            return Finding("predicate", None, required=name, detail=changed)
        return asking.predicates(name, window, at)

    return configs.ruleset(asking.product, revision, serve)


async def _situation(
    asking: Asking, session_id: str, rules: Ruleset, at: int, version: int, limit: int | None
) -> Situation:
    """What an evaluation at `at` stands on: every stream that it asks for, as of then."""
    sessions: dict[str, Live] = {}
    users: dict[str, UserState] = {}

    async def load(stream: str) -> None:
        kind, _, name = stream.partition("-")
        rows = await asking.inputs.rows(stream)
        upto = bisect_right(rows, at, key=lambda row: row.at)
        while limit is not None and upto and rows[upto - 1].position > limit:
            upto -= 1
        if kind == "user":
            users[name] = await asking.inputs.user(name, {stream: upto})
        elif name == session_id:
            state = await asking.inputs.session(stream, version, rules.reads_properties)
            sessions[name] = Live(state.tick(at))  # what came due and nobody has noticed yet
        else:
            sessions[name] = Live(await asking.inputs.session(stream, upto, False))

    await load(session_stream(session_id))
    while True:
        try:
            return run.situation(asking.product, World(sessions, users), session_id, at, at)
        except Missing as missing:
            await load(missing.stream)


async def _erased(asking: Asking, rows: Sequence[Told]) -> bool:
    keys = await asking.inputs.keys(rows)
    return any(row.key_id is not None and row.key_id not in keys for row in rows)
