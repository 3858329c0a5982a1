"""Backtests as jobs: what a request means, what a job says, and that nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from api import backtests, predicates, simulating, workers
from api.backtests import Backtests
from api.hub import Connection
from api.service import Service
from domain.errors import InvalidInput, NotFound, UnknownProduct
from domain.finding import Finding
from domain.instants import DAY, SECOND, text
from eventstore import schema
from eventstore.engine import Ledger
from projections.backtesting import backtest_jobs
from projections.backtesting.backtest_jobs import DecisionQuery
from tests.api import inside
from tests.api.inside import START, FakeClock
from tests.api.serving import Server, action, config, fact, product_id, saves, trigger, until
from tests.conftest import Run

Json = dict[str, Any]


@contextlib.asynccontextmanager
async def acme(ledger: Ledger, **more: Any) -> AsyncIterator[tuple[Service, FakeClock]]:
    """A product with one offer: three saves in one session, two in another."""
    clock = FakeClock()
    async with inside.serving(ledger, clock, **more) as service:
        await service.put_config("acme", config("acme"))
        for second, session in ((10, "s1"), (20, "s1"), (30, "s1"), (40, "s2"), (50, "s2")):
            clock.instant = START + second * SECOND
            await inside.post(service, "acme", action(session, user=f"u-{session}"))
        clock.instant = START + 100 * SECOND
        yield service, clock


def asked(at_least: int = 2, end: int = 60, **changes: Any) -> Json:
    """A request: the candidate wants so many saves."""
    made = trigger()
    made["criteria"]["at_least"] = at_least
    body = {"config": config("acme", triggers=[made]), "from": text(START), "to": text(START + end * SECOND)}
    return body | changes


async def done(service: Service, body: Json, product: str = "acme") -> Json:
    """The job, when it has ended."""
    job = await service.backtest(product, body)
    return plain(await service.backtests.wait(product, job["backtest_id"], 20))


def plain(job: Json) -> Json:
    found: Json = orjson.loads(orjson.dumps(job))
    return found


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Simulations go on only once they are let go, or cancelled."""
    import threading

    gate = threading.Event()
    real = simulating.carry_out

    def waiting(plan: Any, *, on_progress: Any, cancelled: threading.Event) -> Any:
        on_progress(1)
        while not gate.wait(0.01):
            if cancelled.is_set():
                raise workers.Cancelled
        return real(plan, on_progress=on_progress, cancelled=cancelled)

    monkeypatch.setattr(simulating, "carry_out", waiting)
    return gate.set


async def status(service: Service, job: Json, wanted: str) -> Json:
    """The job, once it says so."""
    async with asyncio.timeout(10):
        while (found := await service.backtests.job("acme", job["backtest_id"]))["status"] != wanted:
            await asyncio.sleep(0.01)
    return plain(found)


# --- what a job says ---------------------------------------------------------------------------------


def test_a_job_says_what_was_asked_and_what_it_came_to(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with acme(ledger) as (service, _):
            job = await done(service, asked(until_s=5))
            assert list(job) == [
                "backtest_id", "product_id", "status", "progress", "request", "config",
                "created_at", "finished_at", "error", "result",
            ]  # fmt: skip
            assert (job["status"], job["error"], job["product_id"]) == ("done", None, "acme")
            assert job["progress"]["done"] == job["progress"]["total"] > 5
            assert job["progress"]["fraction"] == 1.0
            assert job["config"] == asked()["config"]
            request = job["request"]
            assert (request["from"], request["until_s"]) == (text(START), 5)
            assert 0 < request["from_position"] < request["to_position"] <= request["known_position"]
            assert request["in_force_revision"].startswith("r1-")
            assert request["engine_version"] == service.engine.engine_version
            result = job["result"]
            assert (result["events"], result["sessions_seen"], result["users"]) == (5, 2, 2)
            assert result["candidate"]["offered"] == 2
            assert result["in_force"]["offered"] == 1
            assert [s["session_id"] for s in result["sessions"]] == ["s1", "s2"]
            listed = await service.backtests.newest("acme")
            assert [list(each) for each in listed["backtests"]] == [list(job)[:-1]]

    run(scenario())


def test_every_simulated_decision_can_be_read_with_its_explanation(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with acme(ledger) as (service, _):
            job = await done(service, asked())
            name = job["backtest_id"]

            async def page(**query: Any) -> Json:
                return await service.backtests.decisions("acme", name, DecisionQuery(**query))

            whole = (await page())["decisions"]
            assert [row["side"] for row in whole] == ["candidate"] * 4 + ["in_force"] * 2
            assert [row["n"] for row in whole] == [1, 2, 3, 4, 1, 2]
            assert [r["session_id"] for r in (await page(outcome="offered"))["decisions"]] == [
                "s1",
                "s2",
                "s1",
            ]
            assert [r["outcome"] for r in (await page(session_id="s1", side="candidate"))["decisions"]] == [
                "offered",
                "withheld",
            ]
            assert (await page(trigger_id="none"))["decisions"] == []
            first = await page(limit=2)
            side, _, number = first["next"].partition(":")
            rest = await page(limit=10, after=(side, int(number)))
            assert first["decisions"] + rest["decisions"] == whole
            assert rest["next"] is None
            one = plain(await service.backtests.decision("acme", name, "candidate", 1))
            assert one["explanation"]["criteria"]["observed"] == 2
            assert one["summary"] == one["explanation"]["summary"]
            with pytest.raises(NotFound):
                await service.backtests.decision("acme", name, "candidate", 99)
            with pytest.raises(NotFound):
                await service.backtests.decisions("acme", "bt-none", DecisionQuery())

    run(scenario())


def test_asking_the_same_again_gives_the_same_job_and_running_it_again_the_same_bytes(
    ledger: Ledger, run: Run
) -> None:
    async def scenario() -> None:
        async with acme(ledger) as (service, clock):
            first = await service.backtest("acme", asked())
            job = await service.backtests.wait("acme", first["backtest_id"], 20)
            clock.instant += SECOND
            again = await service.backtest("acme", asked())
            assert orjson.dumps(again) == orjson.dumps(job)
            async with ledger.transaction() as conn:
                t = sa.table("backtests", sa.column("status"))
                await conn.execute(sa.update(t).values(status="failed"))
            anew = await done(service, asked())
            assert orjson.dumps(anew["result"]) == orjson.dumps(plain(job)["result"])
            assert anew["created_at"] > job["created_at"]
            request = anew["request"]
            assert {"engine_version", "predicates", "tzdata"} <= request.keys()
            assert anew["backtest_id"] == backtests.identity("acme", request)
            for name in request:
                assert backtests.identity("acme", request | {name: "other"}) != anew["backtest_id"]
            others = [asked(3), asked(end=55), asked(until_s=1)]
            names = {(await done(service, body))["backtest_id"] for body in others}
            assert len(names | {job["backtest_id"]}) == 4
            await inside.post(service, "acme", *saves("s3"))  # later than the window: known positions moved
            assert (await done(service, asked()))["backtest_id"] != job["backtest_id"]

    run(scenario())


def test_nothing_but_the_two_tables_is_touched(ledger: Ledger, run: Run) -> None:
    """Ledger, projections, caches, timers and streams are as before; the recorder took no job."""

    listening: list[Connection] = []

    async def state(service: Service) -> Any:
        tables: dict[str, Any] = {}
        async with ledger.reader() as conn:
            for table in schema.metadata.sorted_tables:
                if not table.name.startswith("backtest"):
                    rows = (await conn.execute(sa.select(table))).all()
                    tables[table.name] = sorted(map(repr, rows))
        recorder, book = service.recorder, await service.product("acme")
        cached = {name: book.sessions.get(name) for name in sorted(("s1", "s2"))}
        users = {name: book.users.get(name) for name in ("u-s1", "u-s2")}
        return (
            tables,
            (cached, users, len(book.sessions), len(book.users)),
            (recorder.groups, dict(recorder.counted), recorder.position, dict(recorder.due), recorder._moves),
            (len(service.hub), [connection.frames.qsize() for connection in listening]),
            (dict(service.predicates._workers), len(service._background)),
        )

    async def scenario() -> None:
        async with acme(ledger) as (service, _):
            for user in ("u-s1", "u-s2"):
                listening.append(Connection("acme", user, native=True))
                service.hub.join(listening[-1])
            before = await state(service)
            assert before[1][0]["s1"] is not None
            job = await done(service, asked(1))
            assert job["result"]["candidate"]["offered"] >= 2
            await service.dry_run("acme", asked(1)["config"])
            await service.validate_config("acme", asked(1)["config"])
            assert await state(service) == before

    run(scenario())


# --- one at a time, cancelled, interrupted -----------------------------------------------------------


def test_one_runs_and_the_others_wait_and_both_can_be_cancelled(
    ledger: Ledger, run: Run, held: Callable[[], None]
) -> None:
    async def scenario() -> None:
        async with acme(ledger) as (service, _):
            first, second, third = [await service.backtest("acme", asked(n)) for n in (1, 2, 3)]
            shown = await status(service, first, "running")
            assert shown["progress"]["done"] == 1
            assert 0 < shown["progress"]["fraction"] < 1
            assert (await service.backtests.job("acme", second["backtest_id"]))["status"] == "queued"
            assert (await service.backtest("acme", asked(1)))["status"] == "running"
            assert (await service.backtests.cancel("acme", second["backtest_id"]))["status"] == "cancelled"
            assert (await service.backtests.cancel("acme", first["backtest_id"]))["status"] == "cancelled"
            await status(service, third, "running")
            # Asked again while the third runs: it waits anew.
            assert (await service.backtest("acme", asked(1)))["status"] == "queued"
            held()
            await status(service, third, "done")
            assert (await status(service, first, "done"))["result"]["candidate"]["offered"] >= 1
            assert (await service.backtests.cancel("acme", first["backtest_id"]))["status"] == "done"
            assert (await service.backtests.job("acme", second["backtest_id"]))["status"] == "cancelled"
            with pytest.raises(NotFound):
                await service.backtests.cancel("acme", "bt-none")

    run(scenario())


def test_what_a_stop_or_a_death_takes_along_is_interrupted_and_can_be_asked_again(
    ledger: Ledger, run: Run, held: Callable[[], None]
) -> None:
    async def scenario() -> None:
        async with acme(ledger) as (service, clock):
            running = await service.backtest("acme", asked(1))
            waiting = await service.backtest("acme", asked(2))
            await status(service, running, "running")
        async with inside.serving(ledger, clock) as service:
            for job in (running, waiting):
                found = await service.backtests.job("acme", job["backtest_id"])
                assert (found["status"], found["error"]) == ("failed", "interrupted")
            # The same job, unless what came due meanwhile gave its window another end.
            running = await service.backtest("acme", asked(1))
            await status(service, running, "running")
            # A process that died says nothing any more: others see it after a while, a restart at once.
            other = Backtests(ledger, clock, service.settings)
            clock.instant += backtests.LOST // 2
            assert (await other.job("acme", running["backtest_id"]))["status"] == "running"
            clock.instant += backtests.LOST
            lost = await other.job("acme", running["backtest_id"])
            assert (lost["status"], lost["error"]) == ("failed", "interrupted")
            await other.start()
            async with ledger.reader() as conn:
                rows = await conn.execute(
                    sa.text("SELECT status, error FROM backtests WHERE error IS NOT NULL")
                )
                assert ("failed", "interrupted") in [tuple(row) for row in rows]
            await other.stop()
            held()

    run(scenario())


def test_a_failure_ends_one_job_and_the_next_runs(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = simulating.carry_out

    def failing(plan: Any, **more: Any) -> Any:
        if plan.candidate.config["triggers"][0]["criteria"]["at_least"] == 1:
            raise RuntimeError("what a user wrote")
        return real(plan, **more)

    monkeypatch.setattr(simulating, "carry_out", failing)

    async def scenario() -> None:
        async with acme(ledger) as (service, _):
            broken = await done(service, asked(1))
            assert (broken["status"], broken["error"], broken["result"]) == ("failed", "RuntimeError", None)
            assert (await done(service, asked(2)))["status"] == "done"

    run(scenario())


def test_time_that_runs_on_past_the_window_can_be_cancelled(sqlite_ledger: Ledger, run: Run) -> None:
    always = trigger(id="a", cooldown_s=1, criteria={"type": "absent", "where": {"title_contains": "never"}})
    candidate = config("acme", triggers=[always])

    async def scenario() -> None:
        async with acme(sqlite_ledger) as (service, _):
            job = await service.backtest("acme", asked(config=candidate, until_s=31 * 86_400))
            async with asyncio.timeout(10):
                while not (found := await service.backtests.job("acme", job["backtest_id"]))["progress"][
                    "done"
                ]:
                    await asyncio.sleep(0.01)
                assert found["status"] == "running"
                await service.backtests.cancel("acme", job["backtest_id"])
                ended = await service.backtests.wait("acme", job["backtest_id"], 10)
                assert ended["status"] == "cancelled"
                assert (await done(service, asked(2)))["status"] == "done"

    run(scenario())


def test_only_the_newest_jobs_of_a_product_are_kept(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_jobs, "MOST_KEPT", 2)
    monkeypatch.setattr(backtests, "CHUNK", 1)

    async def scenario() -> None:
        async with acme(ledger) as (service, clock):
            await service.put_config("other", config("other"))
            other = await done(service, asked(config=config("other")), "other")
            jobs = []
            for at_least in (1, 2, 3, 4):
                clock.instant += SECOND
                jobs.append((await done(service, asked(at_least)))["backtest_id"])
            listed = (await service.backtests.newest("acme"))["backtests"]
            assert [job["backtest_id"] for job in listed] == [jobs[3], jobs[2]]
            async with ledger.reader() as conn:
                kept = await conn.scalars(sa.text("SELECT DISTINCT backtest_id FROM backtest_decisions"))
            assert set(kept) == set(jobs[2:])
            with pytest.raises(NotFound):
                await service.backtests.job("acme", jobs[0])
            assert (await service.backtests.job("other", other["backtest_id"]))["status"] == "done"
            again = await service.backtest("acme", asked(1))
            assert (again["backtest_id"], again["status"]) == (jobs[0], "queued")

    run(scenario())


def test_predicates_run_as_they_do_live(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(window: Any, at: int) -> Finding:
        return Finding("predicate", len(window) >= 2, len(window), "busy")

    functions = {"busy": busy}
    monkeypatch.setattr(predicates, "_installed", lambda: functions)
    criteria = {"type": "predicate", "predicate": "busy"}
    candidate = config("acme", triggers=[{"id": "busy", "criteria": criteria}])

    async def scenario() -> None:
        async with acme(sqlite_ledger, predicates=functions) as (service, _):
            job = await done(service, asked(config=candidate))
            assert job["result"]["candidate"]["offered"] == 2
            assert job["request"]["predicates"] == {"busy": "0"}

    run(scenario())


# --- bad input ---------------------------------------------------------------------------------------

FAULTS = [
    ([], [""]),
    ({}, ["config", "from", "to"]),
    (asked(more=1), ["more"]),
    (asked(config=None), ["config"]),
    (asked(config={"schema": 1, "product_id": "acme", "triggers": [{"id": 7}]}), ["config.triggers[0].id"]),
    (asked(config=config("other")), ["config.product_id"]),
    (asked(config_text="a: 1"), ["config"]),
    (asked() | {"from": "yesterday"}, ["from"]),
    (asked() | {"from": text(START + 60 * SECOND)}, ["from"]),
    (asked() | {"from": text(START + DAY), "to": text(START + 2 * DAY)}, ["from"]),
    (asked(until_s=-1), ["until_s"]),
    (asked(until_s=True), ["until_s"]),
    (asked(until_s="5"), ["until_s"]),
    (asked(until_s=1e12), ["until_s"]),
]


def test_every_fault_of_a_request_is_named_by_its_path(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with acme(sqlite_ledger) as (service, _):
            for body, paths in FAULTS:
                with pytest.raises(InvalidInput) as caught:
                    await service.backtest("acme", body)
                found = [fault.path for fault in caught.value.faults]
                assert set(paths) <= set(found), (body, found)
                assert all(path in paths or path.startswith("config.") for path in found), found
            written = {k: v for k, v in asked().items() if k != "config"}
            with pytest.raises(InvalidInput) as caught:
                await service.backtest("acme", written | {"config_text": "triggers: [\n"})
            assert caught.value.faults[0].path.startswith("config_text: line 2")
            with pytest.raises(UnknownProduct):
                await service.backtest("unheard-of", asked())
            assert (await service.backtests.newest("acme"))["backtests"] == []
            job = await done(service, written | {"config_text": orjson.dumps(asked()["config"]).decode()})
            assert job["config"] == asked()["config"]
            ahead = await done(service, asked() | {"to": text(START + DAY)})
            assert ahead["request"]["to"] < text(START + 101 * SECOND)

    run(scenario())


# --- over HTTP ---------------------------------------------------------------------------------------


def test_the_endpoints_over_http(server: Server, product: str) -> None:
    first = server.post(product, action("s0"))
    base = f"/v1/products/{product}"
    for save in saves("s1"):
        server.post(product, save)
    server.post(product, fact("goal_reached", "s1", goal_id="x"))
    session = server.session(product, "s1")
    candidate = config(product)
    candidate["triggers"][0]["criteria"]["at_least"] = 2
    window = {"from": "2020-01-01T00:00:00Z", "to": session["at"]}

    answer = server.http.post(f"{base}/backtests", json={"config": candidate, **window})
    assert answer.status_code == 202, answer.text
    name = answer.json()["backtest_id"]

    def ended() -> Any:
        found = server.get(f"{base}/backtests/{name}")
        return found if found["status"] == "done" else None

    job = until(ended)
    assert job["request"]["from_position"] <= first["last_position"] < job["request"]["to_position"]
    again = server.http.post(f"{base}/backtests", json={"config": candidate, **window})
    assert (again.status_code, again.json()) == (200, job)
    assert server.get(f"{base}/backtests")["backtests"][0]["backtest_id"] == name
    (differing,) = job["result"]["sessions"]
    link = differing["link"]
    assert server.get(link)["decisions"]
    rows = server.get(f"{base}/backtests/{name}/decisions", limit=1, side="candidate")
    assert rows["decisions"][0]["n"] == 1
    assert server.get(f"{base}/backtests/{name}/decisions/candidate/1")["explanation"]["gates"]
    cancelled = server.http.post(f"{base}/backtests/{name}/cancel")
    assert cancelled.json()["status"] == "done"
    for path, code in (
        ("/backtests/bt-none", 404),
        (f"/backtests/{name}/decisions?side=other", 422),
        (f"/backtests/{name}/decisions?outcome=silent", 422),
        (f"/backtests/{name}/decisions?after=x:1", 422),
        (f"/backtests/{name}/decisions/candidate/0", 422),
        (f"/backtests/{name}/decisions/candidate/999", 404),
    ):
        assert server.http.get(base + path).status_code == code, path
    assert server.http.get("/v1/products/unheard-of/backtests").status_code == 404
    wrong = server.http.post(f"{base}/backtests", json={"config": {"schema": 2}, **window})
    assert wrong.status_code == 422
    assert {e["path"] for e in wrong.json()["errors"]} >= {"config.schema"}


def test_a_config_is_checked_or_tried_without_being_put(server: Server, product: str) -> None:
    base = f"/v1/products/{product}/config"
    server.post(product, *saves("s1", count=2))
    before = server.get(base)
    candidate = config(product)
    candidate["triggers"][0]["criteria"]["at_least"] = 2

    checked = server.http.post(f"{base}/validate", json=candidate).json()
    assert checked["valid"] is True
    assert checked["in_force"] is False
    assert server.http.post(f"{base}/validate", json=before["config"]).json()["in_force"] is True
    bad = server.http.post(f"{base}/validate", json=candidate | {"triggers": [{}]})
    assert bad.status_code == 422
    assert all(error["path"].startswith("triggers[0]") for error in bad.json()["errors"])
    new = product_id()
    assert server.http.post(f"/v1/products/{new}/config/validate", json=config(new)).json()["valid"]
    assert server.http.get(f"/v1/products/{new}/config").status_code == 404

    tried = server.http.put(base, params={"dry_run": "true"}, json=candidate)
    assert tried.status_code in (200, 202), tried.text
    said = tried.json()
    assert (said["dry_run"], said["revision"]) == (True, f"r2-{checked['digest']}")
    job = until(lambda: _done(server, product, said["backtest"]["backtest_id"]))
    assert job["result"]["candidate"]["offered"] == 1
    assert job["result"]["in_force"]["offered"] == 0
    same = server.http.put(base, params={"dry_run": "true"}, json=before["config"]).json()
    assert same["revision"] == before["revision"]
    assert server.http.put(base, params={"dry_run": "true"}, json={"schema": 1}).status_code == 422
    assert server.http.put(f"/v1/products/{new}/config?dry_run=true", json=config(new)).status_code == 404
    assert server.get(base) == before
    assert len(server.get(f"{base}/revisions")["revisions"]) == 1


def _done(server: Server, product: str, name: str) -> Any:
    found = server.get(f"/v1/products/{product}/backtests/{name}")
    return found if found["status"] == "done" else None
