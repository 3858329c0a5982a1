"""Replay: every recorded decision and timeout derived again from its recorded inputs, and compared.

A decision recorded what it read (`read`: stream and version), when (`at`, `noticed_at`) and under which
config revision. Folding those streams to those versions and evaluating again must give the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import codec, events, session, triggers, user
from domain.decide import decide
from domain.envelope import PRODUCT_STREAM, Recorded, name_in, session_stream
from domain.finding import Finding
from domain.history import ActionFact
from domain.machine import THINKING
from domain.session import SessionState
from domain.triggers import Ruleset, Situation
from domain.user import UserState
from eventstore import reader
from projections import configs, facts

DECISIONS = ("nudge_offered", "nudge_withheld")


class Divergence(NamedTuple):
    """A recorded fact that the same inputs do not give again."""

    product: str
    stream: str
    position: int
    what: str
    recorded: Any
    derived: Any


@dataclass(slots=True)
class Report:
    """What a replay found."""

    decisions: int = 0
    timeouts: int = 0
    erased: int = 0
    unknown: int = 0  # cannot be derived: a predicate is missing or changed
    divergences: list[Divergence] = field(default_factory=list)


class Inputs:
    """Streams and rulesets of one product, read once."""

    def __init__(self, conn: AsyncConnection, product: str) -> None:
        self._conn, self._product = conn, product
        self._streams: dict[str, list[Recorded]] = {}
        self._rules: dict[str | None, Ruleset] = {}
        self._state: configs.ProductState | None = None

    async def rows(self, stream: str) -> list[Recorded]:
        if stream not in self._streams:
            if len(self._streams) > 200:
                self._streams.clear()
            self._streams[stream] = await reader.read_stream(self._conn, self._product, stream)
        return self._streams[stream]

    async def rules(self, revision: str | None) -> Ruleset | None:
        """The rules of a revision; None where the product's stream does not know it."""
        if revision not in self._rules:
            if self._state is None:
                self._state = configs.fold(await self.rows(PRODUCT_STREAM))
            found = self._state.of(revision)
            if revision is not None and found is None:
                return None
            self._rules[revision] = configs.ruleset(self._product, found)
        return self._rules[revision]

    async def session(self, stream: str, version: int, personal: bool) -> SessionState:
        rows = (await self.rows(stream))[:version]
        keys = await facts.keys_of(self._conn, rows) if personal else None
        return session.fold(SessionState(name_in(stream)), facts.facts(rows, keys))

    async def user(self, name: str, read: Mapping[str, int]) -> UserState:
        stream = f"user-{name}"
        rows = (await self.rows(stream))[: read.get(stream, 0)]
        return user.fold(UserState(name), facts.facts(rows))


def _recorded_findings(criteria: Mapping[str, Any]) -> dict[str, Finding]:
    """The findings of predicates, as they were recorded: replay reads them and calls nothing."""
    if "conditions" in criteria:
        found: dict[str, Finding] = {}
        for child in criteria["conditions"]:
            found |= _recorded_findings(child)
        return found
    if criteria["type"] != "predicate":
        return {}
    finding = Finding(
        "predicate",
        criteria["verdict"],
        criteria["observed"],
        criteria["required"],
        tuple(criteria["evidence"]),
        detail=criteria.get("detail"),
    )
    return {criteria["required"]: finding}


async def derive(inputs: Inputs, row: Recorded) -> Mapping[str, bytes] | None:
    """Everything that the evaluation behind a decision concludes, as event id and stored data.

    None where it cannot be evaluated: its config revision is not in the ledger.
    """
    data = orjson.loads(row.data)
    explanation = data["explanation"]
    read: dict[str, int] = explanation["read"]
    known = await inputs.rules(row.config_revision)
    if known is None:
        return None
    if row.stream not in read:
        return {}  # it does not even say that it read its own session: nothing of ours
    findings = _recorded_findings(explanation["criteria"])

    def serve(name: str, window: Sequence[ActionFact], at: int) -> Finding:
        return findings.get(name) or Finding("predicate", None, required=name, detail="not recorded")

    rules = Ruleset(known.config, known.revision, serve) if findings else known
    own = await inputs.session(row.stream, read[row.stream], rules.reads_properties)
    who: UserState | None = None
    aliases: list[UserState] = []
    if data.get("user_id") is not None:
        who = await inputs.user(data["user_id"], read)
        aliases = [await inputs.user(name, read) for name in who.merged_from]
    others = [
        await inputs.session(stream, version, False)
        for stream, version in read.items()
        if stream.startswith("session-") and stream != row.stream
    ]
    situation = Situation(row.product, own, who, tuple(aliases), tuple(others), row.at, data["noticed_at"])
    evaluation = triggers.evaluate(situation, rules)
    drafts = decide(evaluation, situation, rules, row.causation_id)
    return {made.event_id: orjson.dumps(codec.encode(made.event)[0]) for made in drafts}


async def reproduced(inputs: Inputs, row: Recorded) -> bool | None:
    """Whether the decision comes out again; None where that cannot be known."""
    rules = await inputs.rules(row.config_revision)
    if rules is None:
        return None
    derived = await derive(inputs, row)
    if derived is None:
        return None
    same = derived.get(row.event_id) == row.data
    if not same and _has_predicates(rules):
        return None  # findings of other triggers' predicates are not recorded with this decision
    return same


def _has_predicates(rules: Ruleset) -> bool:
    return any("Predicate(" in repr(trigger.criteria) for trigger in rules.config.triggers)


async def replay(
    conn: AsyncConnection,
    *,
    product: str | None = None,
    session_id: str | None = None,
    start: int = 1,
    end: int | None = None,
) -> AsyncIterator[tuple[int, Report]]:
    """Replay in ledger order; yields the position reached and the report so far, then the final one.

    `start` and `end` are positions, both included.
    """
    report = Report()
    inputs: dict[str, Inputs] = {}
    position = start - 1
    while True:
        rows = await reader.read_all(conn, after=position, limit=2_000, up_to=end)
        for row in rows:
            if product is not None and row.product != product:
                continue
            if session_id is not None and row.stream != session_stream(session_id):
                continue
            mine = inputs.setdefault(row.product, Inputs(conn, row.product))
            if row.type in DECISIONS:
                await _check_decision(mine, row, report)
            elif row.type == "interaction_timed_out":
                await _check_timeout(mine, row, report)
        if not rows:
            break
        position = rows[-1].position
        yield position, report
    yield position, report


async def _check_decision(inputs: Inputs, row: Recorded, report: Report) -> None:
    report.decisions += 1
    derived = await derive(inputs, row)
    rules = await inputs.rules(row.config_revision)
    if derived is None or rules is None:
        report.unknown += 1
        return
    if derived.get(row.event_id) == row.data:
        return
    if _has_predicates(rules):
        report.unknown += 1
        return
    report.divergences.append(
        Divergence(
            row.product,
            row.stream,
            row.position,
            row.type,
            orjson.loads(row.data),
            orjson.loads(derived[row.event_id]) if row.event_id in derived else None,
        )
    )


async def _check_timeout(inputs: Inputs, row: Recorded, report: Report) -> None:
    report.timeouts += 1
    before = await inputs.session(row.stream, row.version - 1, False)
    recorded = facts.fact(row).event
    assert isinstance(recorded, events.InteractionTimedOut)
    derived = (before.timeout_due, before.current_state, before.timeout, before.cooldown)
    written = (row.at, recorded.previous_state, recorded.timeout, recorded.cooldown)
    if derived != written or before.current_state == THINKING:
        report.divergences.append(
            Divergence(row.product, row.stream, row.position, row.type, written, derived)
        )
