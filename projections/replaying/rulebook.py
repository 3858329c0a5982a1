"""The rules of every revision of a product, with predicates served from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.errors import InvalidInput
from domain.finding import Finding
from domain.history import ActionFact
from domain.triggers import Ruleset
from projections import configs
from projections.configs import ProductState


class Rulebook:
    """Rulesets by revision. `served`: what predicates found, by name; they are never called."""

    def __init__(self, product: str, state: ProductState) -> None:
        self._product, self._state = product, state
        self._known: dict[str | None, Ruleset | None] = {}
        self.served: Mapping[str, Finding] = {}
        self.asked = False  # whether a finding was asked for that is not among the served
        revisions = [None, *(revision.revision for revision in state.revisions)]
        self.reads_properties = any(
            rules is not None and rules.reads_properties for rules in map(self.of, revisions)
        )

    def of(self, revision: str | None) -> Ruleset | None:
        """The rules of a revision; None where the ledger does not know it or this code cannot read it."""
        if revision not in self._known:
            self._known[revision] = self._made(revision)
        return self._known[revision]

    def _made(self, revision: str | None) -> Ruleset | None:
        found = self._state.of(revision)
        if revision is not None and found is None:
            return None
        try:
            return configs.ruleset(self._product, found, self._serve)
        except InvalidInput:
            return None

    def _serve(self, name: str, window: Sequence[ActionFact], at: int) -> Finding:
        found = self.served.get(name)
        if found is None:
            self.asked = True
            return Finding("predicate", None, required=name, detail="not recorded")
        return found
