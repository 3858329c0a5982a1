"""The published names, held against autoplay-sdk 0.13.0 itself wherever both say something."""

from __future__ import annotations

from typing import Any

import pytest
from autoplay_sdk.core import models
from autoplay_sdk.proactive import triggers as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from api.predicates import Registry
from api.published import triggers as ours
from domain.errors import InvalidConfig, InvalidInput
from domain.history import ActionFact
from domain.instants import SECOND

NOW = 1_800_000_000.0


def payload(*urls: str, step: float = 1.0, forwarded_at: float = NOW) -> dict[str, Any]:
    """A batch whose last action happens at NOW."""
    start = NOW - step * (len(urls) - 1)
    actions = [
        {"type": "pageview", "title": f"p{n}", "canonical_url": url, "index": n,
         "timestamp_start": start + n * step, "timestamp_end": start + n * step}
        for n, url in enumerate(urls)
    ]  # fmt: skip
    return {"type": "actions", "product_id": "acme", "session_id": "s1", "actions": actions,
            "count": len(actions), "forwarded_at": forwarded_at}  # fmt: skip


def context(*payloads: dict[str, Any], **more: Any) -> ours.ProactiveTriggerContext:
    fields = {"product_id": "acme", "session_id": "s1", "now": NOW, **more}
    read = [ours.ActionsPayload.from_dict(raw) for raw in payloads]
    return ours.build_proactive_context_from_payloads(read, **fields)


def theirs(*payloads: dict[str, Any], **more: Any) -> reference.ProactiveTriggerContext:
    fields = {"product_id": "acme", "session_id": "s1", "now": NOW, **more}
    read = [models.ActionsPayload.from_dict(raw) for raw in payloads]
    return reference.build_proactive_context_from_payloads(read, **fields)


def test_defaults_and_names_are_the_published_ones() -> None:
    for name in ("PROACTIVE_BODY_MAX_CHARS", "DEFAULT_PROACTIVE_CONTEXT_LOOKBACK_S",
                 "DEFAULT_PROACTIVE_CONTEXT_MAX_ACTIONS"):  # fmt: skip
        assert getattr(ours, name) == getattr(reference, name)
    assert ours.ProactiveTriggerTimings() == ours.ProactiveTriggerTimings(
        reference.ProactiveTriggerTimings().interaction_timeout_s,
        reference.ProactiveTriggerTimings().cooldown_s,
    )
    listed = [{k: row[k] for k in ("id", "name", "interaction_timeout_s", "cooldown_s")}
              for row in reference.list_builtin_trigger_catalog()]  # fmt: skip
    assert ours.list_builtin_trigger_catalog() == listed
    assert [p.value for p in ours.ScopePolicy] == [p.value for p in reference.ScopePolicy]
    default = reference.default_proactive_trigger_registry().triggers
    assert [t.trigger_id for t in ours.default_proactive_trigger_registry().triggers] == [
        t.trigger_id for t in default
    ]


ages = st.lists(st.tuples(st.floats(0, 300), st.integers(0, 30)), max_size=6)


@given(ages=ages, lookback=st.none() | st.floats(1, 300), most=st.none() | st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_lookback_and_cap_choose_the_same_actions(
    ages: Any, lookback: float | None, most: int | None
) -> None:
    batches = [
        payload(*(f"/p{n}" for n in range(size)), forwarded_at=NOW - age)
        for age, size in sorted(ages, reverse=True)
    ]
    bounds = {"lookback_seconds": lookback, "max_actions": most}
    assert list(context(*batches, **bounds).canonical_urls) == list(theirs(*batches, **bounds).canonical_urls)


@pytest.mark.parametrize("bound", [{"lookback_seconds": 0}, {"max_actions": 0}])
def test_bounds_that_are_not_above_zero_are_refused_by_name(bound: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        context(**bound)
    assert caught.value.faults[0].path == next(iter(bound))


def test_a_strict_scope_needs_product_and_session() -> None:
    with pytest.raises(InvalidInput) as caught:
        context(session_id=" ", conversation_id="", require_conversation=True)
    assert [fault.path for fault in caught.value.faults] == ["session_id", "conversation_id"]
    assert context(session_id="", scope_policy=ours.ScopePolicy.LENIENT).session_id == ""


pages = st.lists(st.sampled_from(["/a", "/b", "/c", "/d"]), min_size=1, max_size=8)


@given(urls=pages)
@settings(max_examples=150, deadline=None)
def test_ping_pong_fires_as_published_over_page_visits(urls: list[str]) -> None:
    visits = [url for n, url in enumerate(urls) if n == 0 or urls[n - 1] != url]  # ours: a visit is one
    found = ours.default_proactive_trigger_registry().evaluate_first(context(payload(*visits)))
    published = reference.default_proactive_trigger_registry().evaluate_first(theirs(payload(*visits)))
    assert (found is None) == (published is None)
    if found is not None and published is not None:
        assert (found.trigger_id, found.body) == (published.trigger_id, published.body)


@given(step=st.floats(1, 40), count=st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_dwell_fires_as_published_on_a_page_that_is_still_open(step: float, count: int) -> None:
    row = {"id": "user_page_dwell", "name": "n", "description": "d"}
    extra = {"dwell_threshold_seconds": 60, "eval_now": NOW}
    batch = payload(*["/a"] * count, step=step)
    found = ours.registry_from_builtin_specs([row]).evaluate_first(
        context(batch, context_extra=extra, lookback_seconds=None)
    )
    published = reference.registry_from_builtin_specs([row]).evaluate_first(
        theirs(batch, context_extra=extra, lookback_seconds=None)
    )
    assert (found is None) == (published is None)


def test_a_section_playbook_answers_with_its_row() -> None:
    extra = {
        "section_url_rules": [{"prefix": "https://app/billing", "section_id": "billing"}],
        "section_playbook": {"billing": {"body": "Invoices?", "reply_option_labels": ["Yes"]}, "else": "x"},
    }
    registry = ours.registry_from_builtin_specs(
        [{"id": "section_playbook_match", "name": "n", "description": "d"}]
    )
    found = registry.evaluate_first(
        context(payload("https://app/billing", "https://app/x"), context_extra=extra)
    )
    assert found is not None
    assert (found.body, found.reply_option_labels) == ("Invoices?", ("Yes",))
    assert registry.evaluate_first(context(payload("https://app/x"))) is None
    named = {**extra, "current_section_id": "else"}
    found = registry.evaluate_first(context(payload("https://app/x"), context_extra=named))
    assert found is not None and found.body == "x"


def busy(trigger_id: str = "busy", least: int = 2) -> ours.PredicateProactiveTrigger:
    return ours.PredicateProactiveTrigger(
        trigger_id,
        "Need a hand?",
        lambda ctx: len(ctx.recent_actions) >= least,
        reply_option_labels=["Yes"],
        metadata_fn=lambda ctx: {"seen": len(ctx.recent_actions)},
    )


def test_the_registry_gives_the_first_or_all_and_an_entity_its_timings() -> None:
    entity = ours.ProactiveTriggerEntity(busy("later"), ours.ProactiveTriggerTimings(15, 60))
    registry = ours.ProactiveTriggerRegistry([busy("never", 99), busy(), entity])
    ctx = context(payload("/a", "/b"))
    first = registry.evaluate_first(ctx)
    assert first is not None
    assert (first.trigger_id, first.metadata, first.cooldown_s) == ("busy", {"seen": 2}, 30.0)
    assert [(r.trigger_id, r.interaction_timeout_s) for r in registry.evaluate_all(ctx)] == [
        ("busy", 10.0),
        ("later", 15),
    ]


def test_specs_are_resolved_as_published_and_none_is_an_error() -> None:
    row = {"id": "user_page_dwell", "name": "n", "description": "d", "cooldown_s": 5}
    (entity,) = ours.registry_from_builtin_specs([row]).triggers
    assert isinstance(entity, ours.ProactiveTriggerEntity)
    assert entity.timings == ours.ProactiveTriggerTimings(10, 5)
    for bad in ([], [{**row, "id": "x"}]):
        with pytest.raises(InvalidConfig):
            ours.registry_from_builtin_specs(bad)


def test_a_trigger_in_code_becomes_a_registered_predicate() -> None:
    registry = Registry(1.0, {"busy": ours.predicate(busy(), version="7")})
    at = int(NOW) * SECOND
    window = [ActionFact(at - n, f"e{n}", n, "click", "Save", "/a", None) for n in (2, 1)]
    found = registry.run("busy", window, at)
    assert (found.verdict, found.observed, found.evidence) == (True, {"seen": 2}, ("e2", "e1"))
    assert registry.run("busy", window[:1], at).verdict is False
    assert registry.versions() == {"busy": "7"}
    registry.close()
