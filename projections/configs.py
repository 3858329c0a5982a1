"""A product's configs as its own stream tells them: revisions, and the one in force."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import rfc8785

from domain import config_parse
from domain.triggers import Ruleset
from domain.view import Predicates, no_predicates
from projections.readable import Told


@dataclass(frozen=True, slots=True)
class Revision:
    """One activation of a config. A revision never changes."""

    revision: str  # r<n>-<12 hex>
    at: int
    position: int
    config: Mapping[str, Any]  # as parsed, before defaults


@dataclass(frozen=True, slots=True)
class ProductState:
    """What a product's own stream says."""

    version: int = 0
    revisions: tuple[Revision, ...] = ()
    engine_version: str | None = None

    @property
    def current(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    def of(self, revision: str | None) -> Revision | None:
        return next((r for r in self.revisions if r.revision == revision), None)

    def in_force(self, at: int) -> Revision | None:
        """The newest revision activated at or before `at`."""
        return next((r for r in reversed(self.revisions) if r.at <= at), None)


def digest(config: Any) -> str:
    """The first 12 hex digits of the SHA-256 over the config's RFC 8785 form."""
    return hashlib.sha256(rfc8785.dumps(config)).hexdigest()[:12]


def fold(rows: Iterable[Told], state: ProductState | None = None) -> ProductState:
    """The state of a product's stream, on top of `state`; rows that it holds already change nothing."""
    state = state or ProductState()
    revisions = list(state.revisions)
    engine, version = state.engine_version, state.version
    for row in rows:
        if row.version <= version:
            continue  # known already
        version = row.version
        if row.type == "config_activated":
            data = orjson.loads(row.data)
            revisions.append(Revision(data["revision"], row.at, row.position, data["config"]))
        elif row.type == "engine_activated":
            engine = orjson.loads(row.data)["engine_version"]
    return ProductState(version, tuple(revisions), engine)


def ruleset(product: str, revision: Revision | None, predicates: Predicates = no_predicates) -> Ruleset:
    """The rules of a revision; without one, no triggers and the default timings."""
    raw = revision.config if revision is not None else {"schema": 1, "product_id": product}
    return Ruleset(config_parse.parse(raw), revision.revision if revision else None, predicates)


def trigger_names(state: ProductState, trigger_ids: Iterable[str]) -> dict[str, str]:
    """The newest name of each of these triggers, by id; without those that no revision has."""
    lacking = set(trigger_ids)
    names: dict[str, str] = {}
    for revision in reversed(state.revisions):
        if not lacking:
            break
        for trigger in config_parse.parse(revision.config).triggers:
            if trigger.id in lacking:
                names[trigger.id] = trigger.name
                lacking.discard(trigger.id)
    return names
