"""One recorded decision derived again from what it read.

A decision recorded what it read (`read`: stream and version), when (`at`, `noticed_at`) and under which
config revision. Folding those streams to those versions and evaluating again must give the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import codec, config, triggers
from domain.decide import decide
from domain.envelope import ENGINE, PRODUCT_STREAM, Recorded, name_in
from domain.errors import NotFound
from domain.finding import Finding
from domain.history import ActionFact
from domain.session import SessionState
from domain.triggers import Evaluation, Ruleset, Situation
from domain.user import UserState
from eventstore import reader
from projections import configs, facts
from projections.readable import Told

DECISIONS = ("nudge_offered", "nudge_withheld")
CONCLUSIONS = (*DECISIONS, "nudge_proposed")  # all that holds an evaluation's own output and what it read
PROSE = frozenset({"summary"})  # words, not facts: rewording them changes no decision


class Derived(NamedTuple):
    """What the evaluation behind a decision comes to today."""

    situation: Situation
    rules: Ruleset
    evaluation: Evaluation
    events: Mapping[str, bytes]  # event id -> stored data, of everything that it concludes


def agrees(recorded: Any, derived: Any) -> bool:
    """Whether derived data says all that was recorded: every recorded field has the same value.

    Fields that only the derived data has were added by a later version; prose is not compared.
    """
    if isinstance(recorded, dict) and isinstance(derived, dict):
        return all(
            key in PROSE or (key in derived and agrees(value, derived[key]))
            for key, value in recorded.items()
        )
    if isinstance(recorded, list) and isinstance(derived, list):
        return len(recorded) == len(derived) and all(map(agrees, recorded, derived))
    return type(recorded) is type(derived) and bool(recorded == derived)


class Inputs:
    """Streams and rulesets of one product, read once.

    They come from the ledger; a subclass that overrides `read` and `keys` takes them from elsewhere, and
    needs no connection.
    """

    def __init__(self, conn: AsyncConnection | None, product: str) -> None:
        self._conn, self._product = conn, product
        self._streams: dict[str, Sequence[Told]] = {}
        self._rules: dict[str | None, Ruleset] = {}
        self._state: configs.ProductState | None = None

    async def rows(self, stream: str) -> Sequence[Told]:
        if stream not in self._streams:
            if len(self._streams) > 200:
                self._streams.clear()
            self._streams[stream] = await self.read(stream)
        return self._streams[stream]

    async def read(self, stream: str) -> Sequence[Told]:
        """A stream whole, in its order."""
        assert self._conn is not None
        return await reader.read_slim(self._conn, self._product, stream)

    async def keys(self, rows: Sequence[Told]) -> Mapping[str, bytes]:
        """The data keys that these rows are sealed under, as far as they still exist."""
        assert self._conn is not None
        return await facts.keys_of(self._conn, rows)

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
        keys = await self.keys(rows) if personal else None
        return facts.folded_session(SessionState(name_in(stream)), rows, keys)[0]

    async def user(self, name: str, read: Mapping[str, int]) -> UserState:
        stream = f"user-{name}"
        rows = (await self.rows(stream))[: read.get(stream, 0)]
        return facts.folded_user(UserState(name), rows)[0]


def recorded_findings(node: config.Node, criteria: Mapping[str, Any]) -> dict[str, Finding]:
    """The findings of predicates by name, as they were recorded: replay reads them and calls nothing.

    `node` and `criteria`: a trigger's criteria in its config, and what was recorded of them.
    """
    if isinstance(node, config.Group):
        found: dict[str, Finding] = {}
        for child, recorded in zip(node.conditions, criteria.get("conditions", ()), strict=False):
            found |= recorded_findings(child, recorded)
        return found
    if not isinstance(node, config.Predicate) or criteria.get("type") != "predicate":
        return {}
    finding = Finding(
        "predicate",
        criteria["verdict"],
        criteria["observed"],
        criteria["required"],
        tuple(criteria["evidence"]),
        detail=criteria.get("detail"),
    )
    return {node.predicate: finding}


def served(rules: Ruleset, data: Mapping[str, Any]) -> dict[str, Finding]:
    """The findings of predicates that a recorded decision's data holds, by name; none of what was proposed
    earlier, since its criteria were not asked again."""
    if "judge" in data["explanation"]:
        return {}
    trigger = next((t for t in rules.config.triggers if t.id == data["trigger_id"]), None)
    return recorded_findings(trigger.criteria, data["explanation"]["criteria"]) if trigger is not None else {}


async def find(conn: AsyncConnection, product: str, decision_id: str) -> Recorded:
    """The event of a decision; a nudge's id is its decision's. Raises NotFound."""
    row = (await reader.find_ids(conn, product, ENGINE, [decision_id])).get(decision_id)
    if row is None or row.type not in DECISIONS:
        raise NotFound(f"no decision {decision_id!r} in product {product!r}")
    return row


async def derive(inputs: Inputs, row: Told) -> Derived | None:
    """The evaluation behind a decision, made again.

    None where it cannot be: its config revision is not in the ledger.
    """
    data = orjson.loads(row.data)
    explanation = data["explanation"]
    read: dict[str, int] = explanation["read"]
    known = await inputs.rules(row.config_revision)
    if known is None:
        return None
    findings = served(known, data)

    def serve(name: str, window: Sequence[ActionFact], at: int) -> Finding:
        return findings.get(name) or Finding("predicate", None, required=name, detail="not recorded")

    rules = Ruleset(known.config, known.revision, serve) if findings else known
    own = await inputs.session(row.stream, read.get(row.stream, 0), rules.reads_properties)
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
    stored = {made.event_id: orjson.dumps(codec.encode(made.event)[0]) for made in drafts}
    return Derived(situation, rules, evaluation, stored)


async def reproduced(inputs: Inputs, row: Told) -> bool | None:
    """Whether the decision comes out again; None where that cannot be known."""
    derived = await derive(inputs, row)
    return None if derived is None else confirmed(derived, row)


def confirmed(derived: Derived, row: Told) -> bool | None:
    """Whether the recorded decision is among what was derived; None where that cannot be known."""
    again = derived.events.get(row.event_id)
    same = again is not None and agrees(orjson.loads(row.data), orjson.loads(again))
    if not same and has_predicates(derived.rules):
        return None  # findings of other triggers' predicates are not recorded with this decision
    return same


def has_predicates(rules: Ruleset) -> bool:
    return any("Predicate(" in repr(trigger.criteria) for trigger in rules.config.triggers)
