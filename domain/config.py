"""A product's config as frozen data, defaults resolved.

`domain.config_parse.parse` makes it from what a host wrote. Durations are microseconds. Texts of a
`Where` are case-folded, because matching is case-insensitive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.config_around import Channels, Judge, Model
from domain.config_labels import Labels
from domain.instants import SECOND


@dataclass(frozen=True, slots=True)
class Where:
    """Which actions a leaf is about. Every given field must match; a field's values are alternatives.

    Empty tuples and an empty `properties` mean "not given". URLs are compared with the canonical URL.
    """

    type: tuple[str, ...] = ()
    title_contains: tuple[str, ...] = ()
    title_equals: tuple[str, ...] = ()
    url_contains: tuple[str, ...] = ()
    url_prefix: tuple[str, ...] = ()
    # (property name, accepted values): texts case-folded, other values as they are
    properties: tuple[tuple[str, tuple[Any, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    operator: str  # AND | OR | NOT; NOT is true when none of its conditions is true
    conditions: tuple[Node, ...]
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Count:
    where: Where
    at_least: int | None
    at_most: int | None
    within: int | None  # µs; None: the context window
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    where: Where
    within: int | None  # µs; None: the context window
    session: bool = False  # within: session
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    steps: tuple[Where, ...]
    within: int | None  # µs from the first step to the last; None: the context window's lookback
    without: tuple[Where, ...] = ()  # none of these between first and last step
    strict: bool = False  # contiguity: no other action between the steps
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class CurrentPage:
    url_contains: tuple[str, ...] = ()
    url_prefix: tuple[str, ...] = ()
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ActionCount:
    at_least: int
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PingPong:
    min_cycles: int = 1
    hesitation_min_distinct: int = 3
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Dwell:
    threshold: int = 60 * SECOND  # µs
    max_actions: int = 5
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SectionMatch:
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Predicate:
    predicate: str  # name of the registered function
    id: str | None = None
    name: str | None = None


Leaf = Count | Absent | Sequence | CurrentPage | ActionCount | PingPong | Dwell | SectionMatch | Predicate
Node = Group | Leaf


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `times` offers per user in one `per`."""

    times: int
    per: str  # day | hour | week | month | ever


@dataclass(frozen=True, slots=True)
class Limits:
    per_session: int | None = None
    per_user: Budget | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    start: int  # minutes after midnight, included
    end: int  # minutes after midnight, excluded; smaller than start where the night is crossed


@dataclass(frozen=True, slots=True)
class Option:
    id: str
    label: str
    user_tour_exists: bool = False
    user_tour_id: str | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    id: str
    name: str
    criteria: Node
    body: str = "Need my expert help?"
    how_to: str | None = None
    tours: tuple[str, ...] = ()  # registry ids
    options: tuple[Option, ...] = ()
    target: str | None = None  # CSS selector of the element that the nudge is about
    channels: tuple[str, ...] = ("toast",)
    interaction_timeout: int | None = None  # µs; None: the session's
    cooldown: int = 30 * SECOND  # µs from an offer to this trigger's next
    expires: int = 600 * SECOND  # µs that an offer stays open
    limits: Limits = Limits()
    holdout: float = 0.0  # share of users, 0 to 1, from whom the nudge is held back
    goal: str | None = None
    builtin: str | None = None


@dataclass(frozen=True, slots=True)
class Tour:
    id: str
    user_tour_id: str  # the provider's flow id; the registry id where none is given
    user_tour_name: str
    page_contains: str | None = None  # case-folded; offered only where the user's page contains it
    interaction_timeout: int = 20 * SECOND
    cooldown_period: int = 120 * SECOND


@dataclass(frozen=True, slots=True)
class SectionRule:
    prefix: str
    section_id: str


@dataclass(frozen=True, slots=True)
class PlaybookRow:
    section_id: str
    body: str
    reply_option_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    product_id: str
    triggers: tuple[Trigger, ...] = ()
    tours: tuple[Tour, ...] = ()
    interaction_timeout: int = 20 * SECOND
    cooldown_period: int = 60 * SECOND
    lookback: int = 120 * SECOND
    max_actions: int = 50
    min_gap: int = 0
    per_user: Budget | None = None
    quiet_hours: QuietHours | None = None
    timezone: str = "UTC"
    section_rules: tuple[SectionRule, ...] = ()
    section_fallback: str | None = None
    playbook: tuple[PlaybookRow, ...] = ()
    origins: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()  # public keys under which analytics SDKs send for this product
    labels: Labels = field(default_factory=Labels)
    channels: Channels = field(default_factory=Channels)
    model: Model | None = None
    judge: Judge | None = None
    reserved: Mapping[str, Any] | None = None  # workflows, attribution

    def trigger(self, trigger_id: str) -> Trigger | None:
        return next((t for t in self.triggers if t.id == trigger_id), None)

    def judged(self, trigger_id: str) -> bool:
        """Whether a judge is heard before this trigger's nudge is offered."""
        judge = self.judge
        return judge is not None and (not judge.triggers or trigger_id in judge.triggers)

    def tour(self, any_id: str) -> Tour | None:
        """The tour of that registry id, else of that provider flow id."""
        by_id = next((t for t in self.tours if t.id == any_id), None)
        return by_id or next((t for t in self.tours if t.user_tour_id == any_id), None)
