"""Frozen histories: small ledgers with the decisions they led to.

Where one changes, the engine's version must rise.

A file holds a config (of `api/examples` by name, or inline), facts with their seconds of recording, the
second until which timers run, and what is expected: every decision, transition and close.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from domain import codec, events
from projections.rederive import agrees
from tests.domain.builders import Sent, at
from tests.domain.given import Given

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "histories").glob("*.json"))
EXPLAINED = ("summary", "criteria", "read")  # what of an explanation is approved


def case_of(path: Path) -> Given:
    """The history, played with timers on time."""
    history = json.loads(path.read_text())
    config = history["config"]
    if isinstance(config, str):
        config = yaml.safe_load((ROOT.parent / "api" / "examples" / config).read_text())
    triggers = config.pop("triggers")
    for name in ("schema", "product_id"):
        config.pop(name, None)
    case = Given(*triggers, **config)
    ids = iter(range(1, 10_000))
    for batch in history["batches"]:
        case.on_time(batch["at"])
        sent = []
        for fact in batch["facts"]:
            event = codec.decode(fact["type"], 1, fact["data"], None)
            assert isinstance(event, events.Outside)
            sent.append(
                Sent(f"e{next(ids)}", event, batch.get("user"), at(fact.get("occurred", batch["at"])))
            )
        case.when(batch["at"], *sent, session=batch["session"])
    return case.on_time(history["until"])


def told(case: Given) -> dict[str, list[Any]]:
    sessions = [s for s in case.stored if s.stream.startswith("session-")]
    decided = [
        [
            (s.at - at(0)) / 1e6,
            s.stream,
            s.event.TYPE,
            s.event.trigger_id,
            getattr(s.event, "reason", None),
            s.event_id,
        ]
        for s in sessions
        if isinstance(s.event, (events.NudgeOffered, events.NudgeWithheld))
    ]
    moved = [
        [(t.at - at(0)) / 1e6, t.session_id, t.target, t.cause]
        for turn in case.turns
        for t in turn.transitions
    ]
    others = [
        [s.stream, s.event.TYPE, codec.encode(s.event)[0].get("reason")]
        for s in case.stored
        if not s.stream.startswith("session-")
    ]
    why = [
        [s.event.explanation[part] for part in EXPLAINED]
        for s in sessions
        if isinstance(s.event, (events.NudgeOffered, events.NudgeWithheld))
    ]
    return {"decisions": decided, "transitions": moved, "elsewhere": others, "explanations": why}


def test_there_are_frozen_histories() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_history_leads_to_the_same_decisions(path: Path) -> None:
    now, approved = told(case_of(path)), json.loads(path.read_text())["expected"]
    explained, explanations = now.pop("explanations"), approved.pop("explanations")
    assert now == approved
    for row, recorded in zip(explained, explanations, strict=True):  # as replay does: prose may be reworded
        assert agrees(dict(zip(EXPLAINED, recorded, strict=True)), dict(zip(EXPLAINED, row, strict=True)))
