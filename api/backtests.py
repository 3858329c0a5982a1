"""Backtests over the ledger as jobs: one runs at a time, the others wait; each is named by what it asks.

A job's id is derived from all that its result is a function of, so asking the same again gives the same job.
The simulation runs in a thread and in processes of its own (`api.simulating`), on connections of its own,
and reads only; what is written are the two tables of `projections.backtesting.backtest_jobs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api import simulating, workers
from api.backtest_request import Asked
from api.clock import Clock
from api.settings import Settings
from api.simulating import Plan
from domain.errors import NotFound, NudgeledgerError, Unavailable
from domain.events import EngineActivated
from domain.instants import SECOND, optional_text, text
from eventstore.engine import Ledger
from projections import configs
from projections.backtesting import backtest_jobs, window
from projections.backtesting.backtest_jobs import WAITING, DecisionQuery, Key, Row
from projections.backtesting.results import Outcome
from projections.backtesting.window import Window
from projections.configs import ProductState, Revision

log = structlog.get_logger()

Json = dict[str, Any]
BEAT_S = 1.0  # between two signs of life of a job
LOST = 10 * SECOND  # a job without one for so long has lost its process
CHUNK = 500  # decisions of a side written or deleted in one transaction: others wait for it


@dataclass(slots=True, eq=False)
class _Job:
    """A job of this process that has not ended yet."""

    plan: Plan
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    done: int = 0  # positions gone through; written by the job's thread


class Backtests:
    """The jobs of this process. Others may share the database: each runs what it was asked."""

    def __init__(self, ledger: Ledger, clock: Clock, settings: Settings) -> None:
        self._ledger, self._clock, self._settings = ledger, clock, settings
        self._jobs: dict[Key, _Job] = {}  # in the order in which they run
        self._running: Key | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Say of jobs that a process took with it that they were interrupted; then take new ones."""
        now = self._clock.now()
        # SQLite is one process's own: whatever still runs there, nobody runs.
        before = now + 1 if self._ledger.dialect == "sqlite" else now - LOST
        async with self._ledger.reader() as conn:
            some = await backtest_jobs.lost(conn, before)
        if some:
            async with self._ledger.transaction() as conn:
                await backtest_jobs.interrupt(conn, before, now)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give up what runs and what waits; whoever asks the same again gets it from the start."""
        self._stopping = True
        for job in self._jobs.values():
            job.cancelled.set()
        self._wake.set()
        if self._task is not None:
            await self._task

    # --- what callers ask ------------------------------------------------------------------------

    async def post(self, product: str, state: ProductState, engine: EngineActivated, asked: Asked) -> Json:
        """The job of a request: the one there is, else a new one that waits for its turn."""
        if self._stopping:
            raise Unavailable("the service is stopping")
        async with self._ledger.reader() as conn:
            prepared = await prepare(conn, self._ledger.url, self._settings, product, state, engine, asked)
        key = (product, prepared.backtest_id)
        stored = orjson.dumps({"request": prepared.request, "config": asked.config}).decode()
        while True:
            async with self._ledger.transaction() as conn:  # the lock: nobody else queues it meanwhile
                row = await backtest_jobs.load(conn, key)
                if row is not None and self._status(row)[0] not in ("failed", "cancelled"):
                    return self._json(row)
                before = self._jobs.get(key)
                if before is None:
                    await backtest_jobs.queue(conn, key, stored, prepared.total, self._clock.now())
                    break
            await before.ended.wait()  # it was cancelled and is about to end
        self._jobs[key] = _Job(prepared.plan)
        self._wake.set()
        return await self.job(*key)

    async def wait(self, product: str, backtest_id: str, seconds: float) -> Json:
        """The job, once it has ended or so much time has passed."""
        job = self._jobs.get((product, backtest_id))
        if job is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await job.ended.wait()
        return await self.job(product, backtest_id)

    async def job(self, product: str, backtest_id: str) -> Json:
        """Raises NotFound."""
        async with self._ledger.reader() as conn:
            return self._json(await self._row(conn, (product, backtest_id)))

    async def newest(self, product: str) -> Json:
        async with self._ledger.reader() as conn:
            rows = await backtest_jobs.newest(conn, product)
        return {"backtests": [self._json(row) for row in rows]}

    async def cancel(self, product: str, backtest_id: str) -> Json:
        """End the job, unless it has ended. Raises NotFound."""
        key = (product, backtest_id)
        async with self._ledger.transaction() as conn:
            await self._row(conn, key)
            await backtest_jobs.finish(conn, key, "cancelled", self._clock.now())
        job = self._jobs.get(key)
        if job is not None:
            job.cancelled.set()
            if key != self._running:
                self._ended(key, job)
        return await self.job(product, backtest_id)

    async def decisions(self, product: str, backtest_id: str, query: DecisionQuery) -> Json:
        """A page of simulated decisions, the candidate's first. Raises NotFound."""
        key = (product, backtest_id)
        async with self._ledger.reader() as conn:
            await self._row(conn, key)
            rows = await backtest_jobs.decisions(conn, key, query)
        following = f"{rows[-1]['side']}:{rows[-1]['n']}" if len(rows) == query.limit else None
        return {"decisions": [_decision(row) for row in rows], "next": following}

    async def decision(self, product: str, backtest_id: str, side: str, number: int) -> Json:
        """One simulated decision with its explanation. Raises NotFound."""
        async with self._ledger.reader() as conn:
            row = await backtest_jobs.decision(conn, (product, backtest_id), side, number)
        if row is None:
            raise NotFound(f"backtest {backtest_id!r} has no decision {number} of its side {side!r}")
        return _decision(row) | {"explanation": orjson.Fragment(row["explanation"])}

    # --- the loop --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not self._jobs:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            key, job = next(iter(self._jobs.items()))
            self._running = key
            try:
                await self._tidy(key[0])
                await self._carry_out(key, job)
            except Exception as error:  # whatever it is, other jobs go on; this one is found lost
                log.error("backtest_not_ended", backtest=key[1], error=type(error).__name__)
            finally:
                self._running = None
                self._ended(key, job)

    def _ended(self, key: Key, job: _Job) -> None:
        del self._jobs[key]
        job.ended.set()

    async def _tidy(self, product: str) -> None:
        """Delete what the product has too many of."""
        async with self._ledger.reader() as conn:
            outdated = await backtest_jobs.outdated(conn, product)
        for key in outdated:
            for upto in itertools.count(CHUNK, CHUNK):
                async with self._ledger.transaction() as conn:
                    if await backtest_jobs.forget(conn, key, upto):
                        break

    async def _carry_out(self, key: Key, job: _Job) -> None:
        async with self._ledger.transaction() as conn:
            if not await backtest_jobs.begin(conn, key, self._clock.now()):
                return  # another process cancelled it
        status, result, error = "failed", None, None
        try:
            async with self._beating():
                outcome = await asyncio.to_thread(_simulated, job)
                await self._keep(key, job, outcome)
            status, result = "done", orjson.dumps(outcome.result).decode()
        except workers.Cancelled:
            status, error = ("failed", "interrupted") if self._stopping else ("cancelled", None)
        except (NudgeledgerError, workers.WorkFailed) as failed:
            error = str(failed)
            log.warning("backtest_failed", backtest=key[1], error=error)
        except Exception as failed:  # its words may quote what people wrote
            error = type(failed).__name__
            log.error("backtest_failed", backtest=key[1], exc_info=True)
        async with self._ledger.transaction() as conn:
            now = self._clock.now()
            await backtest_jobs.finish(conn, key, status, now, result=result, error=error)

    async def _keep(self, key: Key, job: _Job, outcome: Outcome) -> None:
        for side, decisions in outcome.decisions.items():
            for start in range(0, len(decisions), CHUNK):
                if job.cancelled.is_set():
                    raise workers.Cancelled
                async with self._ledger.transaction() as conn:
                    await backtest_jobs.keep(conn, key, side, start + 1, decisions[start : start + CHUNK])

    @contextlib.asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        """Meanwhile all jobs of this process show that they are somebody's, and how far they are."""
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with contextlib.suppress(Unavailable):
                async with self._ledger.transaction() as conn:
                    for key, job in list(self._jobs.items()):
                        if not await backtest_jobs.touch(conn, key, job.done, self._clock.now()):
                            job.cancelled.set()  # by another process

    # --- inside ----------------------------------------------------------------------------------

    async def _row(self, conn: AsyncConnection, key: Key) -> Row:
        row = await backtest_jobs.load(conn, key)
        if row is None:
            raise NotFound(f"no backtest {key[1]!r} in product {key[0]!r}")
        return row

    def _status(self, row: Row) -> tuple[str, str | None]:
        """Status and error; a job that lost its process has failed, whatever the table says."""
        key = (row["product"], row["backtest_id"])
        lost = key not in self._jobs and row["touched_at"] < self._clock.now() - LOST
        if row["status"] in WAITING and lost:
            return "failed", "interrupted"
        return row["status"], row["error"]

    def _json(self, row: Row) -> Json:
        job = self._jobs.get((row["product"], row["backtest_id"]))
        status, error = self._status(row)
        done = job.done if job is not None and status == "running" else row["done"]
        done, total = min(done, row["total"]), row["total"]
        fraction = 1.0 if status == "done" else round(done / total, 4) if total else 0.0
        stored = orjson.loads(row["request"])
        found: Json = {
            "backtest_id": row["backtest_id"],
            "product_id": row["product"],
            "status": status,
            "progress": {"done": done, "total": total, "fraction": fraction},
            "request": stored["request"],
            "config": stored["config"],
            "created_at": text(row["created_at"]),
            "finished_at": optional_text(row["finished_at"]),
            "error": error,
        }
        if "result" in row:
            found["result"] = orjson.Fragment(row["result"]) if row["result"] is not None else None
        return found


class Prepared(NamedTuple):
    """A backtest before it runs."""

    backtest_id: str
    request: Json  # all that its result is a function of, but for the config itself
    total: int  # positions to go through
    plan: Plan


async def prepare(
    conn: AsyncConnection,
    url: str,
    settings: Settings,
    product: str,
    state: ProductState,
    engine: EngineActivated,
    asked: Asked,
) -> Prepared:
    """What was asked, over the window as the ledger at `url` holds it now."""
    found = await window.locate(conn, product, asked.start, asked.end)
    request = _request(found, asked, state, engine)
    backtest_id = identity(product, request)
    plan = Plan(
        url,
        found,
        asked.until,
        candidate(state, asked.config),
        state.current,
        f"/v1/products/{product}/backtests/{backtest_id}",
        settings.predicate_budget_ms / 1000,
        settings.log,
    )
    total = found.to_position - found.from_position + 1 if found.to_position else 0
    return Prepared(backtest_id, request, total, plan)


def _simulated(job: _Job) -> Outcome:
    """In a thread."""
    if job.cancelled.is_set():
        raise workers.Cancelled

    def progressed(done: int) -> None:
        job.done = done

    return simulating.carry_out(job.plan, on_progress=progressed, cancelled=job.cancelled)


def candidate(state: ProductState, config: Any) -> Revision:
    """The revision that a config would get if it were put now."""
    digest, current = configs.digest(config), state.current
    if current is not None and current.revision.endswith(f"-{digest}"):
        return current
    return Revision(f"r{len(state.revisions) + 1}-{digest}", 0, 0, config)


def identity(product: str, request: Json) -> str:
    """The id of the job that answers a request: derived from all that its result is a function of."""
    said = orjson.dumps([product, request], option=orjson.OPT_SORT_KEYS)
    return f"bt-{hashlib.sha256(said).hexdigest()[:24]}"


def _request(found: Window, asked: Asked, state: ProductState, engine: EngineActivated) -> Json:
    return {
        "from": text(asked.start),
        "to": text(asked.end),
        "from_position": found.from_position,
        "to_position": found.to_position,
        "known_position": found.known_position,
        "config_digest": configs.digest(asked.config),
        "in_force_revision": state.current.revision if state.current is not None else None,
        "engine_version": engine.engine_version,
        "predicates": dict(engine.predicates),
        "tzdata": engine.tzdata,
        "until_s": asked.until / SECOND,
    }


def _decision(row: Row) -> Json:
    return {
        "n": row["n"],
        "side": row["side"],
        "at": text(row["at"]),
        "session_id": row["session_id"],
        "user_id": row["user_id"],
        "trigger_id": row["trigger_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "summary": orjson.loads(row["explanation"])["summary"],
    }
