"""What holds of deliveries whatever the vendor does and whenever the service stops.

Inside the test's process, with a clock that the test sets and a channel that does what a script says.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.delivery import backoff, jobs
from api.delivery.breaker import CLOSED, FAILURES, FIRST, HALF_OPEN, OPEN, Breaker
from api.delivery.calls import Answer
from api.delivery.deliveries import Deliveries
from api.delivery.port import Delivered, Message, Refused, Target, TryLater, Uncertain
from api.delivery.webhook import failure, reference
from api.recorder import Recorder
from api.service import Service
from domain import nudge
from domain.config_around import Channels
from domain.instants import SECOND
from domain.nudge import NudgeState
from eventstore import reader
from eventstore.engine import Ledger, open_ledger
from projections import facts, tables
from projections.rebuilding import rebuild
from tests.api.inside import START, FakeClock, post, serving
from tests.api.serving import config, saves, trigger
from tests.conftest import Run

CONFIG = config(
    "acme",
    triggers=[trigger(channels=["webhook"])],
    channels={"webhook": {"url": "http://vendor.test/hook"}},
)


class Crash(Exception):
    """The process ends between an attempt and its outcome."""


class Scripted:
    """A channel that does the n-th thing at its n-th call, and the last one from there on."""

    name = "webhook"

    def __init__(self, idempotent: bool, script: Sequence[str]) -> None:
        self.idempotent, self._script = idempotent, script
        self.calls: list[str] = []

    def target(self, settings: Channels) -> Target | None:
        return Target("http://vendor.test/hook", 10 * SECOND)

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        act = self._script[min(len(self.calls), len(self._script) - 1)]
        self.calls.append(act)
        match act:
            case "takes it":
                return Delivered("ref")
            case "refuses":
                raise Refused("no", 401)
            case "later":
                raise TryLater("busy", 503)
            case "much later":
                raise TryLater("busy", 429, 90)
            case "who knows":
                raise Uncertain("no answer")
            case "breaks":
                raise RuntimeError("a bug in the channel")
            case _:
                return Delivered()  # and then the process ends


class Crashing(Deliveries):
    """Where the script says so, no outcome is ever recorded."""

    channel: Scripted

    async def _settle(self, key: Any, decide: Any) -> Any:
        if self.channel.calls[-1] == "crash":
            raise Crash
        return await super()._settle(key, decide)


ACTS = ("takes it", "refuses", "later", "much later", "who knows", "breaks", "crash")
UNCERTAIN = {"who knows", "breaks", "crash"}


class Absent(Deliveries):
    """Nobody delivers anything."""

    async def start(self) -> None: ...

    def written(self, product: str, written: Any) -> None: ...


@contextlib.asynccontextmanager
async def delivering(
    ledger: Ledger, clock: FakeClock, channel: Scripted | None
) -> AsyncIterator[tuple[Service, Deliveries]]:
    """A service with this channel alone; None: one that delivers nothing."""

    def made(recorder: Recorder, channels: Any) -> Deliveries:
        if channel is None:
            return Absent(recorder, {})
        crashing = Crashing(recorder, {channel.name: channel})
        crashing.channel = channel
        return crashing

    with mock.patch("api.service.Deliveries", made):
        async with serving(ledger, clock) as service:
            yield service, service.deliveries


async def idle(deliveries: Deliveries) -> None:
    """Everything that is due by the clock is done."""
    for _ in range(2_000):
        deliveries._wake.set()
        await asyncio.sleep(0.001)
        due = min(deliveries._due.values(), default=None)
        if not deliveries._busy and (due is None or due > deliveries._recorder.clock.now()):
            return
    raise AssertionError("it does not come to rest")


async def to_the_end(deliveries: Deliveries, clock: FakeClock) -> None:
    """Let time go from one due instant to the next, until nothing is open."""
    for _ in range(100):
        await idle(deliveries)
        if not deliveries._due:
            return
        clock.instant = max(clock.instant, min(deliveries._due.values())) + 1
    raise AssertionError("it never ends")


async def told(ledger: Ledger, nudge_id: str) -> tuple[NudgeState, list[Any]]:
    async with ledger.reader() as conn:
        rows = await reader.read_stream(conn, "acme", f"nudge-{nudge_id}")
    return facts.folded_nudge(NudgeState(nudge_id), rows)[0], rows


async def row_of(ledger: Ledger) -> dict[str, Any]:
    async with ledger.reader() as conn:
        return dict((await conn.execute(sa.select(tables.deliveries))).mappings().one())


@settings(max_examples=25, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from(ACTS), min_size=1, max_size=10))
@example(True, ["later"])
@example(True, ["who knows"])
@example(False, ["later", "crash"])
def test_every_offer_ends_once_by_its_expiry_and_nobody_is_asked_twice_who_may_have_it(
    sqlite_template: Path, idempotent: bool, script: list[str]
) -> None:
    async def story(url: str) -> None:
        ledger, clock = open_ledger(url), FakeClock()
        channel = Scripted(idempotent, script)
        async with delivering(ledger, clock, channel) as (service, deliveries):
            await service.put_config("acme", CONFIG)
            (decision,) = (await post(service, "acme", *saves("s"))).decisions
            await to_the_end(deliveries, clock)
            state, rows = await told(ledger, decision["nudge_id"])
        standing = state.standing("webhook")
        assert standing.status not in nudge.OPEN
        final = [r for r in rows if (s := nudge.step(facts.fact(r).event)) and s[1].status not in nudge.OPEN]
        assert final == rows[-1:]
        expires_at = START + 600 * SECOND
        assert rows[-1].at <= expires_at + jobs.SLACK + 3 * SECOND
        assert 1 <= len(channel.calls) <= backoff.MOST_ATTEMPTS
        assert standing.attempt == len(channel.calls)
        first = next((n for n, act in enumerate(channel.calls) if act in UNCERTAIN), None)
        if not idempotent and first is not None:
            assert len(channel.calls) == first + 1 and standing.status == nudge.UNKNOWN
        if channel.calls[-1] == "takes it":
            assert standing.status == nudge.DELIVERED
        row = await row_of(ledger)
        assert (row["status"], row["attempt"], row["next_at"]) == (standing.status, standing.attempt, None)
        assert (await rebuild.rebuild(ledger, now=clock.instant, dry_run=True)).changes == []
        await ledger.close()

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(sqlite_template, Path(folder) / "ledger.db")
        asyncio.run(story(f"sqlite:///{folder}/ledger.db"))


# --- what an earlier process left ----------------------------------------------------------------


async def left(ledger: Ledger) -> str:
    """An offer that nobody has begun to deliver: what an import, or a stop after the commit, leaves."""
    async with delivering(ledger, FakeClock(), None) as (service, _):
        await service.put_config("acme", CONFIG)
        nudge_id: str = (await post(service, "acme", *saves("s"))).decisions[0]["nudge_id"]
        return nudge_id


@pytest.mark.parametrize(
    ("later", "error"),
    [
        (30, None),
        (61, "noticed 61 s after the offer: too late to be news"),
        (700, "noticed 700 s after the offer, when it had expired"),
    ],
)
@pytest.mark.parametrize("rebuilt", [False, True])
def test_only_news_is_delivered(
    ledger: Ledger, run: Run, later: int, error: str | None, rebuilt: bool
) -> None:
    """What an import brought, what a rebuild put back and what a long stop left is old: it says so, once."""

    async def story() -> None:
        nudge_id = await left(ledger)
        clock = FakeClock(START + later * SECOND)
        if rebuilt:
            async with ledger.transaction() as conn:
                await conn.execute(sa.delete(tables.deliveries))
            report = await rebuild.rebuild(ledger, now=clock.instant)
            assert [(c.projection, c.kind) for c in report.changes] == [("deliveries", "added")]
        for _ in range(2):
            channel = Scripted(True, ["takes it"])
            async with delivering(ledger, clock, channel) as (service, deliveries):
                await idle(deliveries)
            state, rows = await told(ledger, nudge_id)
            events = [facts.fact(row).event for row in rows]
            if error is None:
                assert state.standing("webhook").status == nudge.DELIVERED and len(rows) == 2
            else:
                assert channel.calls == [] and len(rows) == 1
                assert getattr(events[0], "error", None) == error
                assert (await service.decision("acme", nudge_id))["causes"][0]["text"].endswith(f"{error}.")

    run(story())


def test_a_vendor_that_is_down_is_left_alone_and_each_delivery_says_so_once(
    sqlite_ledger: Ledger, run: Run
) -> None:
    """Six users' offers: five fail, the circuit opens; the sixth waits. A probe fails, the next succeeds."""

    async def story() -> None:
        clock = FakeClock()
        channel = Scripted(True, ["later"] * (FAILURES + 1) + ["takes it"])
        async with delivering(sqlite_ledger, clock, channel) as (service, deliveries):
            await service.put_config("acme", CONFIG)
            for n in range(FAILURES):
                await post(service, "acme", *saves(f"s{n}", f"u{n}"))
                await idle(deliveries)
            (breaker,) = deliveries.breakers.values()
            assert breaker.state(clock.now()) == OPEN
            (last,) = (await post(service, "acme", *saves("s", "u"))).decisions
            await idle(deliveries)
            clock.instant += 3 * SECOND  # the first five are due again, and wait as well
            await idle(deliveries)
            assert len(channel.calls) == FAILURES
            explained = await service.decision("acme", last["nudge_id"])
            (pending,) = [c["text"] for c in explained["causes"] if c["cause"] == "delivery_pending"]
            assert "circuit open: vendor.test failed 5 times in a row" in pending
            await to_the_end(deliveries, clock)
            _, rows = await told(sqlite_ledger, last["nudge_id"])
            assert (rows[0].type, rows[-1].type) == ("delivery_failed", "nudge_delivered")
            assert breaker.state(clock.now()) == CLOSED and len(channel.calls) == 2 * FAILURES + 2
        async with sqlite_ledger.reader() as conn:
            held = await conn.scalar(sa.text("SELECT count(*) FROM events WHERE instr(data, 'circuit')"))
        assert held == FAILURES + 1
        assert (await rebuild.rebuild(sqlite_ledger, now=clock.instant, dry_run=True)).changes == []

    run(story())


# --- parts ---------------------------------------------------------------------------------------


def test_a_breaker_opens_for_longer_each_time_its_probe_fails_and_lets_one_probe_through() -> None:
    breaker, now = Breaker(), START
    for _ in range(FAILURES):
        assert (breaker.state(now), breaker.wait(now)) == (CLOSED, None)
        breaker.failed(now)
    for opening in range(8):
        pause = min(FIRST << opening, 300 * SECOND)
        assert (breaker.state(now), breaker.wait(now)) == (OPEN, now + pause)
        now += pause
        assert (breaker.state(now), breaker.wait(now)) == (HALF_OPEN, None)
        breaker.begin(now + 5 * SECOND)
        assert breaker.wait(now) == now + SECOND  # one probe at once
        breaker.failed(now)
    now += 300 * SECOND
    breaker.begin(now + SECOND)
    breaker.ended()  # it said nothing of the vendor: the next may be the probe
    assert breaker.wait(now) is None
    breaker.succeeded()
    assert (breaker.state(now), breaker.wait(now)) == (CLOSED, None)
    breaker.failed(now, after_s=7)
    assert (breaker.wait(now), "asked to be left alone" in breaker.why("host")) == (now + 7 * SECOND, True)


@given(st.integers(1, 20), st.integers(1, 10**9), st.none() | st.floats(0, 10**5), st.text(max_size=5))
def test_the_next_attempt_comes_before_the_expiry_and_not_before_it_was_asked_for(
    attempt: int, life: int, after: float | None, key: str
) -> None:
    at, why_not = backoff.next_at(attempt, START, START + life, after, key)
    assert (at is None) == bool(why_not)
    if at is not None:
        assert attempt < backoff.MOST_ATTEMPTS and START < at < START + life
        assert after is None or at >= START + int(after * SECOND)
    assert backoff.delay(attempt, key) == backoff.delay(attempt, key) <= backoff.LONGEST


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("99999999999", 86_400.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2010 08:01:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str, seconds: float | None) -> None:
    assert Answer(429, {"retry-after": header}, b"").after(START) == seconds


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"id": "m1"}', "m1"),
        (b'{"id": 7}', "7"),
        (b'{"id": true}', None),
        (b'{"id": "a\\nb"}', None),
        (b'{"id": "' + b"x" * 201 + b'"}', None),
        (b'["id"]', None),
        (b"not json", None),
        (b"[" * 60_000, None),
    ],
)
def test_an_answers_id_is_kept_where_it_is_one(body: bytes, found: str | None) -> None:
    assert reference(Answer(200, {}, body)) == found


STATUSES: dict[int, type[Exception]] = {
    **dict.fromkeys((301, 302, 400, 401, 403, 404, 410, 422), Refused),
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504), TryLater),
}


@pytest.mark.parametrize("status", STATUSES)
def test_what_statuses_mean(status: int) -> None:
    assert type(failure(Answer(status, {}, b""), START)) is STATUSES[status]
