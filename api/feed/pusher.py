"""Frames pushed to an endpoint of the host's: one request a frame, in the order of the ledger, at least once.

How far the endpoint has taken them is a checkpoint, saved behind success only: neither a restart nor a crash
loses a frame, and the last ones before a crash may come twice. The body of a frame is the same each time, and
`Idempotency-Key` names it. An endpoint that is down is waited for. One that answers, and refuses the same
frame for an hour (or fails over it for a day), does not get it: that is recorded, and the next one follows.

It begins where the config that names the endpoint came into force. Of several processes one pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api import secret
from api.delivery import backoff
from api.delivery.calls import Calls
from api.delivery.port import DeliveryError
from api.delivery.webhook import LATER, USER_AGENT
from api.feed import marks
from api.feed.leading import Leading
from api.feed.shaping import Frame, Shaper
from api.jobs import EngineJob
from api.recorder import Recorder
from domain import events
from domain.config_around import Hook
from domain.envelope import PRODUCT_STREAM
from domain.errors import NudgeledgerError
from domain.instants import DAY, HOUR, SECOND
from eventstore import subscription
from projections import configs
from projections.views import activity

log = structlog.get_logger()

ASKED_S = 300.0  # the longest wait that an endpoint can ask for
REFUSED, BROKEN = HOUR, DAY  # how long one frame may be answered 4xx, and otherwise
SAVED = SECOND  # between two saved checkpoints while frames flow
AGAIN_S = 1.0  # between two tries for a lock that another process holds, and after a failure


class _Moved(NudgeledgerError):
    """Somebody else pushed meanwhile."""


class Pusher:
    """Pushes one product's frames until it is cancelled."""

    def __init__(
        self,
        product: str,
        recorder: Recorder,
        leading: Leading,
        calls: Calls,
        shaper: Callable[[str], Shaper],
    ) -> None:
        self.product = product
        self.wake = asyncio.Event()
        self.behind: int | None = None  # when the oldest frame that waits was recorded; None: none does
        self.pushed = self.retried = self.skipped = 0
        self._recorder, self._clock = recorder, recorder.clock
        self._leading, self._calls, self._shaper = leading, calls, shaper
        self._name = marks.pushed(product)
        self._saved = self._at = 0  # positions: of the checkpoint as last read or written; pushed up to
        self._saved_at = 0

    async def run(self) -> None:
        failing = ""
        while True:
            try:
                if await self._leading.take(self._name):
                    await self._lead()
                failing = ""
            except NudgeledgerError as error:
                if str(error) != failing:
                    log.warning("push_waits", product=self.product, error=str(error))
                failing = str(error)
            except Exception as error:  # whatever it is, the frames stay where they are
                log.error("push_failed", product=self.product, error=type(error).__name__, exc_info=True)
            await asyncio.sleep(AGAIN_S)

    async def stop(self) -> None:
        """After the task ended: save what was pushed."""
        with contextlib.suppress(NudgeledgerError):
            if self._leading.holds(self._name):
                await self._save()
        await self._leading.free(self._name)

    async def _lead(self) -> None:
        """Push for as long as this process holds the lock."""
        ledger, shaper = self._recorder.ledger, self._shaper(self.product)
        async with ledger.reader() as conn:
            await self._begin(conn)
            seq = await activity.newest_seq(conn, self.product, position=self._at)
        while self._leading.holds(self._name):
            self.wake.clear()
            async with ledger.reader() as conn:
                page = await shaper.page(conn, seq)
            if page is None:
                self.behind = None
                await self._save()
                await self.wake.wait()
                continue
            for frame in page.frames:
                self.behind = frame.recorded_at
                await self._push(frame)
                if frame.last:
                    self._at = frame.position
                if self._clock.now() - self._saved_at >= SAVED:
                    await self._save()
            seq, self._at = page.seq, page.position

    async def _begin(self, conn: AsyncConnection) -> None:
        """At the checkpoint, unless the endpoint was named anew behind it."""
        self._saved = await subscription.load_checkpoint(conn, self._name)
        self._at = max(self._saved, _named_at((await self._recorder.book(self.product)).state))

    async def _save(self) -> None:
        self._saved_at = self._clock.now()
        if self._at == self._saved:
            return
        async with self._recorder.ledger.transaction() as conn:
            if await subscription.load_checkpoint(conn, self._name) != self._saved:
                raise _Moved("another process pushes too")
            await subscription.save_checkpoint(conn, self._name, self._at)
        self._saved = self._at

    # --- one frame -------------------------------------------------------------------------------

    async def _push(self, frame: Frame) -> None:
        """Until it is taken, or given up. Raises Unavailable where the secret is not set."""
        attempt = since = 0
        while True:
            hook = await self._hook()
            attempt += 1
            status, after = await self._post(hook, frame)
            if status is not None and 200 <= status < 300:
                self.pushed += 1
                return
            self.retried += 1
            if attempt == 1:
                log.warning("push_not_taken", product=self.product, status=status, seq=frame.seq)
            if status is not None:
                since = since or self._clock.now()
                most = REFUSED if 400 <= status < 500 and status not in LATER else BROKEN
                if self._clock.now() - since >= most:
                    await self._skip(frame, attempt, status)
                    return
            pause = backoff.delay(attempt, self.product) / SECOND
            await asyncio.sleep(max(pause, min(after, ASKED_S)))
            if not self._leading.holds(self._name):
                raise _Moved("the lock was lost")

    async def _hook(self) -> Hook:
        hook = (await self._recorder.book(self.product)).rules.config.channels.push
        if hook is None:
            raise _Moved("the config names no endpoint any more")
        return hook

    async def _post(self, hook: Hook, frame: Frame) -> tuple[int | None, float]:
        """The status, None where none came, and the seconds that the endpoint asked to be left alone."""
        headers = {
            "content-type": "application/json",
            "idempotency-key": f"{self.product}:{frame.seq}:{hashlib.sha256(frame.body).hexdigest()[:16]}",
            "user-agent": USER_AGENT,
        }
        key = secret.of(hook.secret)
        if key is not None:
            signature = hmac.new(key.encode(), frame.body, hashlib.sha256).hexdigest()
            headers["x-connector-signature"] = f"sha256={signature}"
        within = hook.timeout / SECOND
        try:
            async with asyncio.timeout(within):
                answer = await self._calls.post(hook.url, frame.body, headers, within)
        except (DeliveryError, TimeoutError):
            return None, 0.0
        return answer.status, answer.after(self._clock.now()) or 0.0

    async def _skip(self, frame: Frame, attempt: int, status: int) -> None:
        self.skipped += 1
        log.error("push_skipped", product=self.product, status=status, seq=frame.seq, attempts=attempt)
        error = f"the frame of sequence {frame.seq} was not taken and is left out"
        fact = events.DeliveryFailed("push", attempt, error, status)
        job_id = self._clock.new_id()
        facts = ((PRODUCT_STREAM, fact, f"push\0{frame.seq}"),)
        await self._recorder.submit(EngineJob(self.product, job_id, facts=facts))


def _named_at(state: configs.ProductState) -> int:
    """The position of the revision since which every config names an endpoint; 0: the newest does not."""
    position = 0
    for revision in reversed(state.revisions):
        channels = revision.config.get("channels")
        if not isinstance(channels, Mapping) or not channels.get("push"):
            break
        position = revision.position
    return position
