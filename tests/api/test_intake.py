"""What sources send in several requests, and what two of them send: one act stays one action.

Chains recorded off posthog-js 1.449.2.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from api import intake, labels
from api.ingest import labelling, posthog, remembered
from api.ingest.acts import Act, Seen
from api.ingest.remembered import Known, Memory
from api.service import Receipt, Service
from domain import events, instants
from domain.envelope import Recorded
from domain.errors import Unavailable
from domain.instants import SECOND
from eventstore import keys
from eventstore.engine import Ledger
from projections import facts
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.api.serving import config
from tests.conftest import Run
from tests.ingest.test_merging import BOX, BUTTON, CHECKBOX, FORM, NONE, event

URL = "https://app.test/projects"
AT = START - 60 * SECOND  # when it was done: a minute before it is recorded
CLOCK_OF_EVENTS = 1_800_000_000_000_000


def sent(kind: str, chain: str, ms: int, event_id: str | None = None, **changes: Any) -> Seen:
    item = event(kind, chain, ms, event_id, **changes)
    at = item.occurred_at - CLOCK_OF_EVENTS + AT
    return item._replace(
        received_at=START, occurred_at=at, what=_as_posthog(item.what, kind) if changes == {} else item.what
    )


def _as_posthog(what: Any, kind: str) -> Act:
    assert isinstance(what, Act)
    body = {"event": "$autocapture", "event_type": kind}
    return Act(kind, url=what.url, chain=what.chain, properties=what.properties, body=body)


def native(ms: int, source: str = "host", kind: str = "click", url: str = URL) -> dict[str, Any]:
    return {
        "event_id": f"{source}-{ms}-{kind}",
        "type": "action",
        "session_id": "s",
        "user_id": "u",
        "source": source,
        "occurred_at": instants.text(AT + ms * 1000),
        "data": {"type": kind, "title": "Search it", "raw_url": url},
    }


async def acts(ledger: Ledger) -> list[Recorded]:
    kept = ("action", "action_relabelled")
    return [row for row in await stored(ledger, "acme") if row.type in kept]


def told(rows: list[Recorded]) -> list[tuple[str, str | None, str | None]]:
    data = [orjson.loads(row.data) for row in rows]
    return [(row.type, d.get("type"), d.get("title")) for row, d in zip(rows, data, strict=True)]


async def with_config(service: Service, **more: Any) -> None:
    await service.put_config("acme", {**config("acme"), **more})


# --- several requests ----------------------------------------------------------------------------


def test_a_webhook_that_sends_each_event_alone_gives_one_action(ledger: Ledger, run: Run) -> None:
    """The first is stored, what follows corrects its label; retries of any of them change nothing."""
    enter = [sent("click", BUTTON, 2), sent("submit", FORM, 5)]

    async def scenario() -> list[intake.Taken]:
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            taken = [await intake.take(service, "acme", [item]) for item in (*enter, *reversed(enter))]
            live = await service.recorder.session("acme", "s")
            assert [(a.type, a.title, a.event_id) for a in live.state.actions] == [
                ("submit", "Search", "click-2")
            ]
            return taken

    assert [(t.accepted, t.duplicates, t.merged) for t in run(scenario())] == [
        (1, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 0),
    ]
    rows = run(acts(ledger))
    assert told(rows) == [("action", "click", "Search"), ("action_relabelled", "submit", None)]
    correction = orjson.loads(rows[1].data)
    assert correction["merged"] == ["submit-5"]
    assert correction["description"] == "User submitted Search on Projects"


def test_a_flush_between_the_events_of_an_act_makes_no_second_action(ledger: Ledger, run: Run) -> None:
    async def scenario() -> tuple[intake.Taken, intake.Taken]:
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            first = await intake.take(service, "acme", [sent("change", BOX, 0)])
            rest = [sent("click", BUTTON, 2), sent("submit", FORM, 5)]
            return first, await intake.take(service, "acme", rest)

    first, second = run(scenario())
    assert (first.accepted, second.accepted, second.merged) == (1, 0, 2)
    assert told(run(acts(ledger))) == [
        ("action", "change", "q"),
        ("action_relabelled", "submit", "Search"),
    ]


def test_requests_that_arrive_together_are_not_both_the_first(ledger: Ledger, run: Run) -> None:
    async def scenario() -> list[intake.Taken]:
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            both = (sent("click", CHECKBOX, 0), sent("change", CHECKBOX, 4))
            return list(await asyncio.gather(*[intake.take(service, "acme", [item]) for item in both]))

    assert sorted((t.accepted, t.merged) for t in run(scenario())) == [(0, 1), (1, 0)]
    kinds = [kind for kind, *_ in told(run(acts(ledger)))]  # the second may correct the first's label
    assert kinds[0] == "action" and kinds.count("action") == 1


def test_what_went_to_an_act_that_could_not_be_stored_is_to_be_sent_again(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> tuple[list[Any], list[intake.Taken]]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            items = (sent("click", BUTTON, 0), sent("submit", FORM, 5))
            broken = asyncio.Event()

            async def unavailable(product: str, batch: object) -> Receipt:
                await broken.wait()
                raise Unavailable("no database")

            with monkeypatch.context() as fault:
                fault.setattr(service, "record", unavailable)
                tries = [asyncio.ensure_future(intake.take(service, "acme", [item])) for item in items]
                await asyncio.sleep(0.01)
                broken.set()
                failed = await asyncio.gather(*tries, return_exceptions=True)
            return failed, [await intake.take(service, "acme", [item]) for item in items]

    failed, again = run(scenario())
    assert [type(error) for error in failed] == [Unavailable, Unavailable]
    assert [(t.accepted, t.merged) for t in again] == [(1, 0), (0, 1)]
    assert told(run(acts(sqlite_ledger)))[0] == ("action", "click", "Search")


def test_a_batch_that_comes_again_after_a_restart_changes_nothing(ledger: Ledger, run: Run) -> None:
    """The memory is gone; the ledger knows the act by the id of its first event."""
    batch = [sent("change", BOX, 0), sent("click", BUTTON, 2), sent("submit", FORM, 5)]

    async def once() -> tuple[int, int, int]:
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            taken = await intake.take(service, "acme", batch)
            return taken.accepted, taken.duplicates, taken.merged

    assert run(once()) == (1, 0, 2)
    assert run(once()) == (0, 1, 2)
    assert told(run(acts(ledger))) == [("action", "submit", "Search")]


def test_a_part_of_an_act_that_comes_again_is_no_conflict(sqlite_ledger: Ledger, run: Run) -> None:
    """As an SDK's beacon at unload may cut its batch elsewhere: its label is of the whole act."""
    batch = [sent("change", BOX, 0), sent("click", BUTTON, 2), sent("submit", FORM, 5)]

    async def scenario() -> Receipt:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            await intake.take(service, "acme", batch)
            return await service.record_events("acme", labelling.outside(batch[:1], NONE).events)

    receipt = run(scenario())
    assert (receipt.duplicates, receipt.conflicting) == (1, 0)


# --- two sources ---------------------------------------------------------------------------------


def test_a_click_that_two_sources_report_counts_once(ledger: Ledger, run: Run) -> None:
    """Our own script and posthog-js on one page: the vendor's report is merged, also after a restart."""
    other = {"url": URL, "source": "posthog"}

    async def scenario() -> list[tuple[int, int]]:
        found = []
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            await post(service, "acme", native(0), native(200))
            for ms, name in ((40, "a"), (230, "b"), (260, "c")):  # the third had no report of the script's
                taken = await intake.take(service, "acme", [sent("click", CHECKBOX, ms, name, **other)])
                found.append((taken.accepted, taken.merged))
            await post(service, "acme", native(10_000))
        async with serving(ledger, FakeClock(START + SECOND)) as service:
            taken = await intake.take(service, "acme", [sent("click", CHECKBOX, 10_100, "d", **other)])
            return [*found, (taken.accepted, taken.merged)]

    assert run(scenario()) == [(0, 1), (0, 1), (1, 0), (0, 1)]
    assert [row.event_id for row in run(acts(ledger))] == [
        "host-0-click",
        "host-200-click",
        "c",
        "host-10000-click",
    ]


@pytest.mark.parametrize(
    "other",
    [
        native(501),  # too far apart
        native(0, kind="pageview"),
        native(0, url="https://app.test/elsewhere"),
        native(0, source="posthog"),  # the same source: a second click
    ],
)
def test_what_is_not_the_same_click_counts(sqlite_ledger: Ledger, run: Run, other: dict[str, Any]) -> None:
    async def scenario() -> tuple[int, int]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            await post(service, "acme", other)
            taken = await intake.take(service, "acme", [sent("click", CHECKBOX, 0)])
            return taken.accepted, taken.merged

    assert run(scenario()) == (1, 0)


def test_two_vendors_that_report_a_click_at_the_same_time(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> list[tuple[int, int]]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            both = [
                sent("click", CHECKBOX, 0, "a"),
                sent("click", CHECKBOX, 30, "b", url=URL, source="amplitude"),
            ]
            taken = await asyncio.gather(*[intake.take(service, "acme", [item]) for item in both])
            return sorted((t.accepted, t.merged) for t in taken)

    assert run(scenario()) == [(0, 1), (1, 0)]


def test_events_of_one_act_that_two_sources_report_one_by_one_are_one_action(
    sqlite_ledger: Ledger, run: Run
) -> None:
    """posthog-js and a webhook of PostHog's on one page: the second source tells of each event alone."""
    parts = [("change", BOX, 0), ("click", BUTTON, 5), ("submit", FORM, 6)]

    async def scenario() -> list[tuple[int, int]]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            ours = [sent(kind, chain, ms, f"a{ms}") for kind, chain, ms in parts]
            await intake.take(service, "acme", ours)
            others = [
                sent(kind, chain, ms, f"b{ms}", url=URL, source="posthog-webhook")
                for kind, chain, ms in parts
            ]
            told = [await intake.take(service, "acme", [item]) for item in others]
            return [(taken.accepted, taken.merged) for taken in told]

    assert run(scenario()) == [(0, 1)] * 3


def test_two_corrections_of_one_clock_make_no_second_click(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> tuple[int, int]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            first = sent("click", CHECKBOX, 0, "a")._replace(occurred_raw="2026-11-20T09:25:20.810Z")
            other = sent("click", CHECKBOX, 9_000, "b", url=URL, source="posthog-webhook")
            await intake.take(service, "acme", [first])
            taken = await intake.take(service, "acme", [other._replace(occurred_raw=first.occurred_raw)])
            return taken.accepted, taken.merged

    assert run(scenario()) == (0, 1)


def test_all_clicks_of_one_source_stay(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> int:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            for n in range(40):
                await intake.take(service, "acme", [sent("click", BUTTON, 20 * n, f"c{n}")])
            return len((await service.recorder.session("acme", "s")).state.actions)

    assert run(scenario()) == 40


# --- rules, faults, ids --------------------------------------------------------------------------


def test_rules_in_force_name_what_comes_and_relabel_carries_them_to_what_came(
    ledger: Ledger, run: Run
) -> None:
    """A merged act keeps what its later events made of it."""
    ruled = {"labels": {"elements": [{"match": {"text": "search"}, "name": "Find a project"}]}}

    async def scenario() -> list[tuple[str, str, str]]:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await with_config(service)
            await intake.take(service, "acme", [sent("click", BUTTON, 0)])
            await intake.take(service, "acme", [sent("submit", FORM, 3)])
            enter = [sent("change", BOX, 5_000), sent("click", BUTTON, 5_002), sent("submit", FORM, 5_004)]
            await intake.take(service, "acme", enter)
            assert await _proposed(ledger) == []
            await with_config(service, **ruled)
            await intake.take(service, "acme", [sent("click", BUTTON, 9_000, "last")])
            found = await _proposed(ledger)
            clock.instant += SECOND
            assert await labels.apply(service.recorder, clock, "acme", found) == 2
            assert await _proposed(ledger) == []
            actions = (await service.recorder.session("acme", "s")).state.actions
            return [(action.event_id, action.type, action.title) for action in actions]

    assert run(scenario()) == [
        ("click-0", "submit", "Find a project"),
        ("change-5000", "submit", "Find a project"),
        ("last", "click", "Find a project"),
    ]
    newest = run(acts(ledger))[-1]
    assert orjson.loads(newest.data)["labeller"].startswith("posthog-2+")


async def _proposed(ledger: Ledger) -> list[labels.Change]:
    async with ledger.reader() as conn:
        return [change async for change in labels.changes(conn, "acme", labels.Looked())]


def test_native_addresses_are_collapsed_by_the_rules_and_a_retry_is_no_conflict(
    ledger: Ledger, run: Run
) -> None:
    ruled = {"labels": {"collapse": ["/orgs/:org"]}}
    before, after = (native(ms, url="https://app.test/orgs/acme/members") for ms in (0, 900))

    async def scenario() -> tuple[Receipt, Receipt]:
        async with serving(ledger, FakeClock()) as service:
            await with_config(service)
            await post(service, "acme", before)
            await with_config(service, **ruled)
            return await post(service, "acme", before, after), await post(service, "acme", before, after)

    first, second = run(scenario())
    assert (first.accepted, first.duplicates, first.conflicting) == (1, 1, 0)
    assert (second.accepted, second.duplicates, second.conflicting) == (0, 2, 0)
    pages = [orjson.loads(row.data)["canonical_url"] for row in run(acts(ledger))]
    assert pages == ["https://app.test/orgs/acme/members", "https://app.test/orgs/:org/members"]


def test_faults_are_noted_and_what_is_ignored_is_counted(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> intake.Taken:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service, labels={"ignore": [{"match": {"text": "search"}}]})
            items = [sent("click", BUTTON, 0), sent("click", CHECKBOX, 3)._replace(event_id=None)]
            return await intake.take(service, "acme", items, [("[2].event", "is required")])

    assert run(scenario()) == intake.Taken(1, 0, 0, 1, 1)
    rows = run(stored(sqlite_ledger, "acme"))
    (refused,) = [orjson.loads(row.data) for row in rows if row.type == "rejected_input"]
    assert refused["faults"] == [{"path": "[2].event", "detail": "is required"}]


def test_facts_and_events_of_nobodys_session_pass(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> intake.Taken:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            fact = sent("click", BOX, 0, "who")._replace(what=events.UserIdentified(email="a@b.test"))
            lone = sent("click", BUTTON, 1, "lone")._replace(session_id=None)
            return await intake.take(service, "acme", [fact, lone])

    assert run(scenario()) == intake.Taken(2, 0, 0, 0, 0)


def test_the_kept_body_names_what_was_merged_and_holds_no_value(sqlite_ledger: Ledger, run: Run) -> None:
    chain = BOX.replace('attr__name="q"', 'attr__name="q"attr__value="4711"')

    async def scenario() -> dict[str, Any]:
        async with serving(sqlite_ledger, FakeClock()) as service:
            await with_config(service)
            await intake.take(service, "acme", [sent("change", chain, 0), sent("submit", FORM, 2)])
        (row,) = await acts(sqlite_ledger)
        assert b"4711" not in row.data
        async with sqlite_ledger.reader() as conn:
            found = await keys.load_keys(conn, [row.key_id or ""])
        return facts.personal_of(row, found) or {}

    personal = run(scenario())
    assert "4711" not in repr(personal)
    assert [each["kind"] for each in personal["body"]["merged"]] == ["change", "submit"]


# --- the memory ----------------------------------------------------------------------------------


def test_the_memory_is_bounded() -> None:
    memory = Memory()
    for n in range(remembered.SESSIONS + 10):
        memory.of("acme", f"s{n}")
    assert len(memory._sessions) == remembered.SESSIONS
    for n in range(100):
        memory.enter("acme", "s9999", Known(f"e{n}", posthog.SOURCE, "click", "/", n))
    assert [known.event_id for known in memory.of("acme", "s9999")] == [f"e{n}" for n in range(84, 100)]
