"""The published names for triggers written in code, on this service's own evaluator.

A host that brings triggers of its own (`PredicateProactiveTrigger`, or any class with `trigger_id` and
`evaluate(context)`) keeps them: `predicate` makes a registered predicate of one, for criteria to name. Names
and defaults are those of autoplay-sdk 0.13.0; the difference is that the instant is always an argument.
The builtins are not written a second time: they evaluate the leaves of `domain.criteria`, where consecutive
actions on one page are one visit.

Seconds are UNIX seconds, as published; inside, instants are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from api.published import integration_config
from api.published.integration_config import CATALOG_NAMES
from api.published.rows import DEFAULT_BODY
from domain import config, config_parse, criteria, sections
from domain.config_triggers import MAX_BODY
from domain.errors import Fault, InvalidConfig, InvalidInput
from domain.finding import Finding
from domain.history import ActionFact, History
from domain.instants import SECOND
from domain.view import Matcher, View, no_predicates

DEFAULT_INTERACTION_TIMEOUT_S = 10.0
DEFAULT_COOLDOWN_S = 30.0
DEFAULT_PROACTIVE_CONTEXT_LOOKBACK_S = 120.0
DEFAULT_PROACTIVE_CONTEXT_MAX_ACTIONS = 50
PROACTIVE_BODY_MAX_CHARS = MAX_BODY


class ScopePolicy(Enum):
    """Whether a context must say whose it is."""

    STRICT = "strict"  # product and session are required
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True)
class ProactiveTriggerTimings:
    interaction_timeout_s: float = DEFAULT_INTERACTION_TIMEOUT_S
    cooldown_s: float = DEFAULT_COOLDOWN_S


@dataclass(frozen=True, slots=True)
class SlimAction:
    """One labelled action, as `GET /stream/{product_id}` has it."""

    type: str = ""
    title: str = ""
    description: str = ""
    canonical_url: str = ""
    raw_url: str = ""
    timestamp_start: float = 0.0
    timestamp_end: float = 0.0
    index: int = 0


@dataclass(frozen=True, slots=True)
class ActionsPayload:
    """One batch of them."""

    actions: Sequence[SlimAction]
    forwarded_at: float = 0.0
    product_id: str = ""
    session_id: str | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ActionsPayload:
        """A payload as it stands on the wire; what is missing reads as empty."""
        names = SlimAction.__slots__
        actions = tuple(SlimAction(**{k: a[k] for k in names if a.get(k)}) for a in raw.get("actions", ()))
        session_id = raw.get("session_id")
        return cls(actions, raw.get("forwarded_at") or 0.0, raw.get("product_id") or "", session_id)


class RecentActionsPayloadSource(Protocol):
    """Where a host's own payloads come from, oldest first."""

    def load_payloads(self, *, product_id: str, session_id: str) -> Sequence[ActionsPayload]: ...


@dataclass(frozen=True, slots=True)
class ProactiveTriggerContext:
    """What a trigger may look at. `evaluated_at`: UNIX seconds."""

    evaluated_at: float
    canonical_urls: Sequence[str | None] = ()
    session_id: str = ""
    conversation_id: str = ""
    action_count: int = 0
    product_id: str = ""
    recent_actions: tuple[SlimAction, ...] = ()
    latest_summary_text: str = ""
    prior_session_summaries: tuple[str, ...] = ()
    context_extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_slim_actions(
        cls,
        actions: Sequence[SlimAction],
        *,
        now: float,
        scope_policy: ScopePolicy = ScopePolicy.STRICT,
        require_conversation: bool = False,
        **fields: Any,
    ) -> ProactiveTriggerContext:
        """The context of actions that were chosen already, oldest first.

        Raises InvalidInput where a strict scope lacks product, session or, if required, conversation.
        """
        urls = tuple(action.canonical_url or None for action in actions)
        made = cls(now, urls, recent_actions=tuple(actions), **fields)
        made.validate_scope(policy=scope_policy, require_conversation=require_conversation)
        return made

    @classmethod
    def from_actions_payloads(
        cls,
        payloads: Sequence[ActionsPayload],
        *,
        now: float,
        lookback_seconds: float | None = DEFAULT_PROACTIVE_CONTEXT_LOOKBACK_S,
        max_actions: int | None = DEFAULT_PROACTIVE_CONTEXT_MAX_ACTIONS,
        **fields: Any,
    ) -> ProactiveTriggerContext:
        """The context of batches forwarded in the last `lookback_seconds`, their newest `max_actions`.

        None: no bound. Raises InvalidInput for a bound that is not above 0.
        """
        for name, bound in (("lookback_seconds", lookback_seconds), ("max_actions", max_actions)):
            if bound is not None and bound <= 0:
                raise InvalidInput([Fault(name, "must be above 0, or None")])
        recent = [p for p in payloads if lookback_seconds is None or p.forwarded_at >= now - lookback_seconds]
        actions = [action for payload in recent for action in payload.actions]
        newest = actions if max_actions is None else actions[-max_actions:]
        return cls.from_slim_actions(newest, now=now, **fields)

    def validate_scope(
        self, *, policy: ScopePolicy = ScopePolicy.STRICT, require_conversation: bool = False
    ) -> None:
        if policy is not ScopePolicy.STRICT:
            return
        needed = ["product_id", "session_id", *(["conversation_id"] if require_conversation else [])]
        faults = [Fault(name, "is required") for name in needed if not getattr(self, name).strip()]
        if faults:
            raise InvalidInput(faults)


build_proactive_context_from_payloads = ProactiveTriggerContext.from_actions_payloads


@dataclass(frozen=True, slots=True)
class ProactiveTriggerResult:
    """What is to be shown."""

    trigger_id: str
    body: str
    reply_option_labels: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    interaction_timeout_s: float = DEFAULT_INTERACTION_TIMEOUT_S
    cooldown_s: float = DEFAULT_COOLDOWN_S


class ProactiveTrigger(Protocol):
    @property
    def trigger_id(self) -> str: ...

    def evaluate(self, ctx: ProactiveTriggerContext, /) -> ProactiveTriggerResult | None: ...


@dataclass(frozen=True, slots=True)
class PredicateProactiveTrigger:
    """Fires when `predicate(context)` is true. `metadata_fn` wins over `metadata`."""

    trigger_id: str
    body: str
    predicate: Callable[[ProactiveTriggerContext], bool]
    reply_option_labels: Sequence[str] = ()
    metadata: Mapping[str, Any] | None = None
    metadata_fn: Callable[[ProactiveTriggerContext], Mapping[str, Any]] | None = None

    def evaluate(self, ctx: ProactiveTriggerContext) -> ProactiveTriggerResult | None:
        if not self.predicate(ctx):
            return None
        metadata = self.metadata_fn(ctx) if self.metadata_fn is not None else self.metadata or {}
        return ProactiveTriggerResult(
            self.trigger_id, self.body, tuple(self.reply_option_labels), dict(metadata)
        )


@dataclass(frozen=True, slots=True)
class BuiltinTrigger:
    """A trigger of the catalog: a leaf of ours over the context's actions.

    `context_extra` may tune it by the published names: `dwell_threshold_seconds`,
    `user_page_dwell_max_actions`, `dwell_proactive_body`; `section_url_rules`, `section_playbook`,
    `current_section_id`.
    """

    trigger_id: str

    def evaluate(self, ctx: ProactiveTriggerContext) -> ProactiveTriggerResult | None:
        settings = self._settings(ctx)
        found = self._finding(ctx, settings)
        if found.verdict is not True:
            return None
        body = DEFAULT_BODY
        labels: tuple[str, ...] = ()
        if isinstance(settings.triggers[0].criteria, config.Dwell):
            body = str(ctx.context_extra.get("dwell_proactive_body") or body)
        for row in settings.playbook:
            if row.section_id == found.observed:
                body, labels = row.body, row.reply_option_labels
        metadata = {"observed": found.observed, "required": found.required}
        return ProactiveTriggerResult(self.trigger_id, body[:MAX_BODY], labels, metadata)

    def _finding(self, ctx: ProactiveTriggerContext, settings: config.Config) -> Finding:
        """The evaluator's own finding."""
        facts = [_fact(action, n) for n, action in enumerate(ctx.recent_actions)]
        section = ctx.context_extra.get(sections.HOST_PROPERTY)
        if facts and isinstance(section, str):
            facts[-1] = facts[-1]._replace(properties={sections.HOST_PROPERTY: section})
        at = round(ctx.evaluated_at * SECOND)
        matcher = Matcher()
        criterion = criteria.build(settings.triggers[0].criteria, settings, matcher)
        return criterion(View(History(sorted(facts)), at, settings, matcher, no_predicates), 0)

    def _settings(self, ctx: ProactiveTriggerContext) -> config.Config:
        """A config of this trigger alone. The context has chosen the window: none is cut from it here."""
        extra = ctx.context_extra
        keys = (
            "dwell_threshold_seconds",
            "user_page_dwell_max_actions",
            "section_url_rules",
            "section_playbook",
        )
        published = {key: extra[key] for key in keys if key in extra}
        row = {"id": self.trigger_id, "name": self.trigger_id, "description": self.trigger_id}
        published["proactive_triggers"] = {"builtins": [row]}
        made = config_parse.parse(integration_config.read(published, ctx.product_id or "context").config)
        if not made.triggers:  # a playbook without rules: nothing can match
            made = replace(made, triggers=(config.Trigger(self.trigger_id, "", config.Group("OR", ())),))
        oldest = min((a.timestamp_start for a in ctx.recent_actions), default=ctx.evaluated_at)
        lookback = round((ctx.evaluated_at - oldest) * SECOND) + 1
        return replace(made, lookback=max(lookback, 1), max_actions=len(ctx.recent_actions) + 1)


def _fact(action: SlimAction, index: int) -> ActionFact:
    at = round(action.timestamp_start * SECOND)
    url = action.canonical_url or None
    return ActionFact(at, f"{index:08d}", index + 1, action.type, action.title, url, None)


@dataclass(frozen=True, slots=True)
class ProactiveTriggerEntity:
    """A trigger with timings of its own."""

    inner: ProactiveTrigger
    timings: ProactiveTriggerTimings = ProactiveTriggerTimings()

    @property
    def trigger_id(self) -> str:
        return self.inner.trigger_id

    def evaluate(self, ctx: ProactiveTriggerContext) -> ProactiveTriggerResult | None:
        found = self.inner.evaluate(ctx)
        if found is None:
            return None
        timings = self.timings
        return replace(
            found, interaction_timeout_s=timings.interaction_timeout_s, cooldown_s=timings.cooldown_s
        )


@dataclass(frozen=True, slots=True)
class ProactiveTriggerRegistry:
    """Triggers in the order in which they are asked."""

    triggers: Sequence[ProactiveTrigger]

    def evaluate_first(self, ctx: ProactiveTriggerContext) -> ProactiveTriggerResult | None:
        """The first that fires; those behind it are not asked."""
        return next((found for t in self.triggers if (found := t.evaluate(ctx)) is not None), None)

    def evaluate_all(self, ctx: ProactiveTriggerContext) -> list[ProactiveTriggerResult]:
        found = (trigger.evaluate(ctx) for trigger in self.triggers)
        return [result for result in found if result is not None]


def list_builtin_trigger_catalog() -> list[dict[str, Any]]:
    """Id, name and default timings of each builtin, by id."""
    timings = {"interaction_timeout_s": DEFAULT_INTERACTION_TIMEOUT_S, "cooldown_s": DEFAULT_COOLDOWN_S}
    return [{"id": name, "name": CATALOG_NAMES[name], **timings} for name in sorted(CATALOG_NAMES)]


def registry_from_builtin_specs(specs: Sequence[Mapping[str, Any]]) -> ProactiveTriggerRegistry:
    """The registry of rows as `proactive_triggers.builtins` has them. Raises InvalidConfig, also for none."""
    if not specs:
        raise InvalidConfig((Fault("proactive_triggers.builtins", "must not be empty"),))
    resolved = integration_config.builtins(list(specs))
    return ProactiveTriggerRegistry(
        tuple(
            ProactiveTriggerEntity(
                BuiltinTrigger(row["id"]),
                ProactiveTriggerTimings(
                    float(row.get("interaction_timeout_s", DEFAULT_INTERACTION_TIMEOUT_S)),
                    float(row.get("cooldown_s", DEFAULT_COOLDOWN_S)),
                ),
            )
            for row in resolved
        )
    )


def default_proactive_trigger_registry() -> ProactiveTriggerRegistry:
    return ProactiveTriggerRegistry((ProactiveTriggerEntity(BuiltinTrigger("canonical_url_ping_pong")),))


def predicate(
    trigger: ProactiveTrigger, version: str = "1"
) -> Callable[[Sequence[ActionFact], int], Finding]:
    """The trigger as a registered predicate: name it under the entry-point group `nudgeledger.predicates`.

    `version`: raise it whenever the trigger decides otherwise; another version reads unknown on replay.
    """

    def evaluate(window: Sequence[ActionFact], at: int) -> Finding:
        actions = [
            SlimAction(
                a.type, a.title, "", a.url or "", "", a.occurred_at / SECOND, a.occurred_at / SECOND, n
            )
            for n, a in enumerate(window)
        ]
        ctx = ProactiveTriggerContext.from_slim_actions(
            actions, now=at / SECOND, scope_policy=ScopePolicy.LENIENT, action_count=len(actions)
        )
        found = trigger.evaluate(ctx)
        evidence = tuple(action.event_id for action in window[-20:])
        observed = dict(found.metadata) if found is not None else None
        return Finding("predicate", found is not None, observed, trigger.trigger_id, evidence)

    evaluate.version = version  # type: ignore[attr-defined]
    return evaluate
