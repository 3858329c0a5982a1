"""Carries out what is to be delivered: rows derived from offers, closed by outcome events.

Wakes when an offer was committed and when a delivery comes due; what another process left behind is found at
the start and, on PostgreSQL, by a look at the table every few seconds. All that is kept here may be lost: the
table says what is open, and the nudge's own stream decides who makes an attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog

from api.delivery import jobs
from api.delivery.attempt import Attempts
from api.delivery.breaker import HALF_OPEN, Breaker
from api.delivery.jobs import SLACK, Answer, Decide, DeliveryJob
from api.delivery.lanes import Lanes
from api.delivery.message import Offered, message, offered
from api.delivery.port import Channel, Target
from api.recorder import Recorder
from domain import events
from domain.config_around import Channels
from domain.errors import NudgeledgerError, Unavailable
from domain.instants import SECOND
from domain.nudge import OPEN, TRYING
from projections import inline, lookups
from projections.inline import Written

log = structlog.get_logger()

Key = tuple[str, str, str]  # product, nudge, channel

RETRY: Final = SECOND  # after a failure of the database
PAUSE_S = 60.0  # at most: the machine's clock may be set, or the machine sleep
SWEEP_S = 5.0
GRACE: Final = 1 * SECOND  # how long whoever is at a delivery has before others look
MOST = 1_000  # taken over in one sweep
STOP_S = 2.0  # that attempts under way have to end when the service stops
SETTLE_S = (0.2, 1.0, 3.0)  # pauses before an outcome is recorded again that the database did not take


class Deliveries:
    def __init__(self, recorder: Recorder, channels: Mapping[str, Channel]) -> None:
        self._recorder, self._channels = recorder, channels
        self.counted: Counter[tuple[str, str]] = Counter()  # channel; attempted, delivered, failed, unknown
        self.breakers: dict[tuple[str, str, str], Breaker] = {}  # product, channel, host
        self._due: dict[Key, int] = {}  # when each is to be looked at next
        self._heap: list[tuple[int, Key]] = []  # an entry counts while `_due` still names its instant
        self._busy: set[Key] = set()  # waiting in a lane, or under way
        self._held: set[Key] = set()  # of which the ledger says already that a circuit is open
        self._lanes: Lanes[Key] = Lanes(self._work)
        self._attempts = Attempts()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        """How many deliveries are open here."""
        return len(self._due) + len(self._busy)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin with what an earlier process left."""
        async with self._recorder.ledger.reader() as conn:
            for *key, at in await lookups.deliveries_open(conn):
                self._arm((key[0], key[1], key[2]), at)
        self._tasks = [asyncio.create_task(self._run())]
        if self._recorder.ledger.dialect == "postgresql":
            self._tasks.append(asyncio.create_task(self._sweep()))

    async def stop(self) -> None:
        """Let attempts under way end, for a moment, and stop. What is cut off is recorded as unknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lanes.idle(STOP_S)
        self._attempts.cut()
        await self._lanes.idle(STOP_S)
        await self._lanes.stop()

    def written(self, product: str, written: Sequence[Written]) -> None:
        """Look whether these events leave something to deliver. After the commit."""
        for row, event in written:
            if isinstance(event, events.NudgeOffered):
                for channel in inline.called(event):
                    self._arm((product, row.event_id, channel), self._recorder.clock.now())

    # --- when ------------------------------------------------------------------------------------

    def _arm(self, key: Key, at: int) -> None:
        if key in self._busy:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        if self._heap[0][0] == at:
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while (key := self._taken()) is not None:
                await self._queue(key)
            pause = PAUSE_S
            if self._heap:
                pause = min(pause, (self._heap[0][0] - self._recorder.clock.now()) / SECOND)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _taken(self) -> Key | None:
        """The next delivery that is due; now it is busy."""
        now = self._recorder.clock.now()
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self._busy.add(key)
                return key
        return None

    async def _queue(self, key: Key) -> None:
        try:
            settings = await self._settings(key[0])
        except NudgeledgerError as error:
            log.warning("delivery_postponed", error=str(error))
            self._leave(key, self._recorder.clock.now() + RETRY)
            return
        _, target = self._called(key[2], settings)
        self._lanes.put(_host(target), key)

    async def _sweep(self) -> None:
        """Deliveries of a process that died, and notices that never came."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._recorder.clock.now()
            try:
                async with self._recorder.ledger.reader() as conn:
                    late = await lookups.deliveries_open(conn, now - GRACE, MOST)
            except NudgeledgerError as error:
                log.warning("sweep_failed", error=str(error))
                continue
            for product, nudge_id, channel, _ in late:
                if (product, nudge_id, channel) not in self._due:
                    self._arm((product, nudge_id, channel), now)

    def _leave(self, key: Key, again: int | None) -> None:
        """Done with it for now; `again`: when to look at it next, None: it is closed."""
        self._busy.discard(key)
        if again is None:
            self._held.discard(key)
        else:
            self._arm(key, again)

    # --- what ------------------------------------------------------------------------------------

    async def _work(self, key: Key) -> None:
        again: int | None = None
        try:
            again = await self._deliver(key)
        except Exception as error:  # whatever it is, the other deliveries go on
            reason = str(error) if isinstance(error, NudgeledgerError) else type(error).__name__
            log.warning("delivery_postponed", nudge=key[1], channel=key[2], error=reason)
            again = self._recorder.clock.now() + RETRY
        finally:
            self._leave(key, again)

    async def _deliver(self, key: Key) -> int | None:
        """One step further; the instant of the next, None: there is none."""
        product, nudge_id, name = key
        async with self._recorder.ledger.reader() as conn:
            found = await offered(conn, product, nudge_id)
        if found is None:
            log.warning("delivery_without_offer", nudge=nudge_id, channel=name)
            return None
        settings = await self._settings(product)
        channel, target = self._called(name, settings)
        if channel is None or target is None:
            error = f"the config in force has no channels.{name}"
            return _next(await self._step(key, jobs.give_up(name, found.offer, error)))
        breaker = self.breakers.setdefault((product, name, _host(target)), Breaker())
        conversation = (await self._recorder.session(product, found.session_id)).state.conversation_id
        wait = breaker.wait(self._recorder.clock.now())
        if wait is not None:
            return await self._hold(key, found, channel, breaker, _host(target), wait)
        decide = jobs.begin(name, found.offer, target.timeout, channel.idempotent)
        breaker.begin(self._recorder.clock.now() + target.timeout + SLACK)  # a probe is one attempt alone
        begun = await self._step(key, decide)
        if not isinstance(begun.event, events.DeliveryAttempted):
            breaker.ended()
            return _next(begun)
        now = self._recorder.clock.now()
        said = message(found, conversation, begun.event.attempt, now)
        within = max(begun.event.until - SLACK - now, 0)
        result = await self._attempts.make(channel, said, settings, within)
        now = self._recorder.clock.now()
        result.tell(breaker, now)
        return _next(await self._settle(key, jobs.settle(result.event(channel, said, now))))

    async def _hold(
        self, key: Key, found: Offered, channel: Channel, breaker: Breaker, host: str, wait: int
    ) -> int | None:
        """No attempt before `wait`. Said once of each delivery, and where its end comes before."""
        said = key in self._held or breaker.state(self._recorder.clock.now()) == HALF_OPEN
        if said and wait < found.offer.expires_at:
            return wait
        self._held.add(key)
        decide = jobs.hold(channel.name, found.offer, channel.idempotent, breaker.why(host), wait)
        return _next(await self._step(key, decide))

    async def _step(self, key: Key, decide: Decide) -> Answer:
        product, nudge_id, channel = key
        job = DeliveryJob(
            product, self._recorder.clock.new_id(), nudge_id=nudge_id, channel=channel, decide=decide
        )
        answer: Answer = (await self._recorder.submit(job))[0].value
        if answer.event is not None:
            kind = answer.event.TYPE.rpartition("_")[2]
            self.counted[channel, kind] += 1
            log.info(
                f"delivery_{kind}",
                product=product,
                nudge=nudge_id,
                channel=channel,
                attempt=answer.event.attempt,
                error=getattr(answer.event, "error", None),
            )
        return answer

    async def _settle(self, key: Key, decide: Decide) -> Answer:
        """Record an outcome, though the database may be away for a moment."""
        for pause in SETTLE_S:
            with contextlib.suppress(Unavailable):
                return await self._step(key, decide)
            await asyncio.sleep(pause)
        return await self._step(key, decide)

    async def _settings(self, product: str) -> Channels:
        return (await self._recorder.book(product)).rules.config.channels

    def _called(self, name: str, settings: Channels) -> tuple[Channel | None, Target | None]:
        channel = self._channels.get(name)
        return channel, channel.target(settings) if channel is not None else None


def _host(target: Target | None) -> str:
    return urlsplit(target.url).netloc if target is not None else ""


def _next(answer: Answer) -> int | None:
    event, standing = answer
    if event is not None:
        return getattr(event, "retry_at", None)
    if standing.status not in OPEN or standing.next_at is None:
        return None
    # Somebody else's: look whether they did it.
    return standing.next_at + (2 * GRACE if standing.status == TRYING else GRACE)
