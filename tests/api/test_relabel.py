"""A label that was wrong is mended by an event; what was decided on the old one stays what it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import arriving, cli, labels, log
from api.ingest import labelling, naming, posthog
from api.ingest.acts import Act
from api.ingest.native import OutsideEvent
from api.service import Service
from domain import events, instants, session
from domain.config_labels import Labels
from domain.envelope import Recorded, session_stream
from domain.instants import SECOND
from domain.session import SessionState
from eventstore import keys, reader, statements
from eventstore.engine import Ledger
from projections import facts, rederive
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.api.serving import config, saves
from tests.conftest import Run

RECORDED = Path(__file__).parent.parent / "data" / "posthog" / "flat.jsonl"
NOW = instants.parse("2026-11-20T09:26:00Z")
NONE = Labels()
_KEYS = st.sampled_from(
    ("event", "event_type", "type", "name", "merged", "page", "own", "elements_chain", "text")
)
LABELLER = labelling.labeller(posthog.WEBHOOK, NONE)


def click(n: int, session_id: str = "ps", **changes: str) -> dict[str, str]:
    return {
        "event": "$autocapture",
        "event_type": "click",
        "timestamp": instants.text(START + n * SECOND),
        "distinct_id": "u_1",
        "session_id": session_id,
        "current_url": "https://app.example/projects/102/edit?token=secret",
        "elements_chain": 'svg:nth-child="1";button.btn:attr__type="submit"text="Save changes"',
        "button_or_link_text": "Cancel",
        "email": "ana@example.com",
        **changes,
    }


async def send(service: Service, *bodies: dict[str, str]) -> None:
    for body in bodies:
        await arriving.take(service, "acme", posthog.translate(body, service.clock.now()))


def outside(body: dict[str, str], received_at: int = START) -> list[OutsideEvent]:
    return labelling.outside([a.seen for a in posthog.translate(body, received_at).events], NONE).events


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: the body's own text is believed, and pages are not told apart."""

    def believed(act: Act, rules: Labels) -> naming.Name:
        return naming.Name(act.text or "", naming.SAID)

    monkeypatch.setattr(labelling, "VERSION", 0)
    monkeypatch.setattr(labelling, "name_of", believed)
    monkeypatch.setattr(labelling, "address", lambda url, rules: "https://app.example/projects")


async def proposed(
    ledger: Ledger, session_id: str | None = None
) -> tuple[list[labels.Change], labels.Looked]:
    looked = labels.Looked()
    async with ledger.reader() as conn:
        return [change async for change in labels.changes(conn, "acme", looked, session_id)], looked


def titles(rows: Sequence[Recorded], version: int | None = None) -> list[tuple[str, str | None]]:
    folded = session.fold(SessionState("ps"), facts.facts(rows[:version]))
    return [(action.title, action.url) for action in folded.actions]


async def stream(ledger: Ledger, session_id: str = "ps") -> list[Recorded]:
    async with ledger.reader() as conn:
        return await reader.read_stream(conn, "acme", session_stream(session_id))


async def all_reproduced(ledger: Ledger) -> int:
    async with ledger.reader() as conn:
        inputs = rederive.Inputs(conn, "acme")
        decisions = [row for row in await stream(ledger) if row.type in rederive.DECISIONS]
        assert all([await rederive.reproduced(inputs, row) for row in decisions])
    return len(decisions)


def seen(label: session.Label) -> tuple[str, str | None]:
    return label.title, label.url


OLD = ("Cancel", "https://app.example/projects")
NEW = ("Save changes", "https://app.example/projects/:id/edit")


def test_a_labelling_bug_is_repaired_and_earlier_decisions_keep_the_label_they_saw(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    where = {"type": "count", "where": {"title_contains": "cancel"}, "at_least": 2, "within_s": 120}

    async def record() -> None:
        async with serving(ledger, clock) as service:
            raw = config("acme")
            raw["triggers"][0]["criteria"] = where
            await service.put_config("acme", raw)
            await send(service, click(0), click(1))
            await post(service, "acme", *saves("native", "u_2", 1))

    async def relabel() -> int:
        found, looked = await proposed(ledger)
        assert [(c.session_id, c.version, seen(c.before), seen(c.after)) for c in found] == [
            ("ps", 1, OLD, NEW),
            ("ps", 2, OLD, NEW),
        ]
        assert looked == labels.Looked(actions=2)
        async with serving(ledger, clock) as service:
            return await labels.apply(service.recorder, service.clock, "acme", found)

    with monkeypatch.context() as bug:
        plant(bug)
        run(record())
    before = run(stream(ledger))
    assert [row.type for row in before] == ["action", "action", "nudge_offered"]
    clock.instant += SECOND
    assert run(relabel()) == 2
    rows = run(stream(ledger))
    assert [row.type for row in rows[3:]] == ["action_relabelled"] * 2
    assert titles(rows) == [NEW, NEW]
    assert titles(rows, 4) == [NEW, OLD]
    assert titles(rows, 3) == [OLD, OLD]
    assert run(all_reproduced(ledger)) == 1
    assert orjson.loads(rows[3].data)["labeller"] == LABELLER
    assert run(stored(ledger, "acme"))  # the chain holds
    assert run(proposed(ledger))[0] == []  # a second run changes nothing


def test_corrections_that_somebody_else_made_meanwhile_are_not_made_twice(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> tuple[int, int]:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            with monkeypatch.context() as bug:
                plant(bug)
                await send(service, click(0))
            found, _ = await proposed(ledger, "ps")
            first = await labels.apply(service.recorder, clock, "acme", found)
            return first, await labels.apply(service.recorder, clock, "acme", found)

    assert run(scenario()) == (1, 0)


def test_nothing_is_evaluated_and_the_session_goes_on_with_its_new_labels(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three saves under a wrong title fire nothing, not when relabelled either; the next fact does."""

    async def scenario() -> list[str]:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            with monkeypatch.context() as bug:
                plant(bug)
                await send(service, click(0), click(1), click(2))
            found, _ = await proposed(ledger)
            await labels.apply(service.recorder, clock, "acme", found)
            kinds = [row.type for row in await stream(ledger)]
            assert kinds == ["action"] * 3 + ["action_relabelled"] * 3
            await send(service, click(3, button_or_link_text="Save changes"))
        return [row.type for row in await stream(ledger)][6:]

    assert run(scenario()) == ["action", "nudge_offered"]
    assert run(all_reproduced(ledger)) == 1


def test_what_cannot_be_labelled_again_is_counted(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> labels.Looked:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            (bodiless,) = outside(click(1, distinct_id="u_2", session_id="other"))
            assert isinstance(bodiless.event, events.Action)
            old = bodiless._replace(event=replace(bodiless.event, body=None, labeller=None))
            await service.record_events("acme", [old])
            await send(service, click(2, distinct_id="gone", session_id="third"))
        async with ledger.transaction() as conn:
            await statements.execute(conn, "DELETE FROM data_keys WHERE person = $1", "user-gone")
        return (await proposed(ledger))[1]

    looked = run(scenario())
    assert (looked.actions, looked.without_body, looked.erased) == (2, 1, 1)


# --- what is kept --------------------------------------------------------------------------------


def test_a_body_is_kept_sealed_and_nothing_of_it_twice(ledger: Ledger, run: Run) -> None:
    async def scenario() -> tuple[Recorded, dict[str, Any]]:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            await send(service, click(0))
        (row,) = await stream(ledger)
        async with ledger.reader() as conn:
            found = await keys.load_keys(conn, [row.key_id or ""])
        personal = facts.personal_of(row, found)
        assert personal is not None
        return row, personal

    row, personal = run(scenario())
    clear = orjson.loads(row.data)
    assert clear["labeller"] == LABELLER
    assert "body" not in clear
    assert personal["body"] == {
        "event": "$autocapture",
        "event_type": "click",
        "button_or_link_text": "Cancel",
    }
    assert b"secret" not in row.data
    assert b"Cancel" not in row.data


@pytest.mark.parametrize("number", range(23))
def test_every_recorded_body_is_labelled_the_same_again(number: int) -> None:
    body = json.loads(RECORDED.read_text().splitlines()[number])
    for event in outside(body, NOW):
        if isinstance(event.event, events.Action):
            act = posthog.act_again(event.event)
            assert act is not None
            again = labelling.again(act, event.event, NONE, posthog.WEBHOOK)
            assert replace(again, timestamp_end=event.event.timestamp_end) == event.event


@pytest.mark.parametrize(
    "chain",
    [
        'input:attr__name="pin"attr__value="4711"nth-child="2";form:nth-child="1"',
        'input:attr__value="C:\\"attr__name="path";form:attr__value="x"text="Go"',
        'input:attr__name="q"attr__value="say \\"4711\\" twice";form:nth-child="1"',
        'input:attr__name="q"attr__value="4711',
        'input:attr__name="q"attr__value="4711\\',
        'input:attr__name="q"attr__value="4711\\"',
        'input:attr__name="q"attr__value="4711;div:not"text="Go"',
    ],
)
def test_an_inputs_value_is_kept_nowhere_whatever_it_holds(chain: str) -> None:
    (event,) = outside(click(0, elements_chain=chain))
    action = event.event
    assert isinstance(action, events.Action)
    kept = json.dumps([action.properties, action.body, action.title])
    assert "4711" not in kept
    assert "attr__value" not in kept
    if "path" in chain:
        assert action.properties is not None
        assert action.properties["elements_chain"] == 'input:attr__name="path";form:text="Go"'


def test_a_retry_that_was_labelled_by_another_version_is_no_conflict(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> tuple[int, int, int]:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            with monkeypatch.context() as bug:
                plant(bug)
                await send(service, click(0))
            again = outside(click(0), service.clock.now())
            (another,) = outside(click(0, referrer="x"))
            changed = [event._replace(event=another.event) for event in again]
            same = await service.record_events("acme", again)
            other = await service.record_events("acme", changed)
            return same.duplicates, same.conflicting, other.conflicting

    assert run(scenario()) == (1, 0, 1)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
_table = st.none() | st.dictionaries(_KEYS, _json, max_size=5)


@pytest.mark.parametrize("source", sorted(labels.SOURCES))
@given(body=_table, properties=_table, url=st.none() | st.text(max_size=10))
def test_whatever_was_kept_an_act_is_made_of_it_or_none(
    source: str, body: dict[str, Any] | None, properties: dict[str, Any] | None, url: str | None
) -> None:
    """A backfilled ledger may hold bodies that no source here would have written."""
    action = events.Action("click", "x", raw_url=url, body=body, properties=properties)
    act = labels.SOURCES[source](action)
    if act is not None:
        assert labelling.again(act, action, NONE, source).title


# --- the command ---------------------------------------------------------------------------------


def test_the_command_shows_and_only_with_apply_appends(
    ledger: Ledger,
    ledger_url: str,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def record() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            with monkeypatch.context() as bug:
                plant(bug)
                await send(service, click(0))

    def relabel(*options: str) -> str:
        capsys.readouterr()
        assert cli.main(["relabel", "--product", "acme", "--database-url", ledger_url, *options]) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(log, "configure", lambda form: None)  # it would keep the captured stream for ever
    run(record())
    url = "url 'https://app.example/projects' -> 'https://app.example/projects/:id/edit'"
    said = "description 'User clicked Cancel on Projects' -> 'User clicked Save changes on Projects / Edit'"
    assert relabel().splitlines() == [
        f"ps version 1: title 'Cancel' -> 'Save changes', {said}, {url}",
        "1 actions of sources that are labelled here: 1 would change, 0 without a kept body, 0 erased",
    ]
    assert len(run(stream(ledger))) == 1
    assert "1 corrections appended" in relabel("--apply")
    assert [row.type for row in run(stream(ledger))] == ["action", "action_relabelled"]
    assert "0 would change" in relabel("--apply")
    assert cli.main(["replay", "--processes", "1", "--database-url", ledger_url]) == 0
    assert cli.main(["relabel", "--product", "acme", "--session", "x", "--database-url", ledger_url]) == 2
