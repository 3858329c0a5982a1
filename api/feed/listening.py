"""Who listens to a product's frames, and the one reader of the ledger that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from api.feed.shaping import Frame, Page, Shaper
from api.hub import Outlet
from domain.errors import NudgeledgerError
from domain.instants import SECOND
from eventstore.engine import Ledger

log = structlog.get_logger()

QUEUE = 2_000  # frames a listener may be behind
MOST = 8 * 1024 * 1024  # bytes of them
AGAIN_S = 1.0  # between two tries where the ledger does not answer
BURST, PAUSE_S = (
    200,
    0.1,
)  # frames in a row to who catches up: published clients queue 500 and drop the others
NEWS = 600 * SECOND  # what appears in the ledger older than this was imported, and is nobody's live activity


class Told(bytes):
    """A frame on the wire. `seq`: whoever has it has everything up to there; 0: more of its batch follows."""

    seq: int


class Waiting(asyncio.Queue[bytes | None]):
    """Frames not read yet, bounded by number and bytes. `taken`: the sequence of the last that was."""

    def __init__(self) -> None:
        super().__init__()
        self.size = self.taken = 0
        self.dropping = False
        self._read = asyncio.Event()

    def full(self) -> bool:
        return self.qsize() >= QUEUE or self.size >= MOST

    async def room(self) -> None:
        """Until it is less than half full."""
        while self.qsize() >= QUEUE // 2 or self.size >= MOST // 2:
            self._read.clear()
            await self._read.wait()

    def _put(self, item: bytes | None) -> None:
        self.size += len(item or b"")
        super()._put(item)

    def _get(self) -> bytes | None:
        item: bytes | None = super()._get()
        self.size -= len(item or b"")
        self._read.set()
        if isinstance(item, Told) and item.seq and not self.dropping:
            self.taken = item.seq
        return item


@dataclass(eq=False, slots=True)
class Listener(Outlet):
    """One open stream of a product's frames, or of one session's or user's among them."""

    product: str
    ids: bool = False  # whether frames carry the ids by which a reader resumes
    session_id: str | None = None
    user_id: str | None = None
    face: str = ""  # by what a client that comes back is known again
    after: int | None = None  # the sequence behind which it begins; None: as Feed finds right
    seq: int = 0  # how far it was served
    frames: Waiting = field(default_factory=Waiting)
    lost: bool = False

    def take(self, frame: Frame) -> None:
        """Send a frame that it has not had and wants."""
        if frame.seq <= self.seq:
            return
        for wanted, named in ((self.session_id, frame.session_id), (self.user_id, frame.user_id)):
            if wanted is not None and wanted != named:
                return
        # Of a batch's frames the last alone moves the reader's place: no batch is resumed in its middle.
        head = b"id: %d\n" % frame.seq if self.ids and frame.last else b""
        told = Told(b"%sdata: %s\n\n" % (head, frame.body))
        told.seq = frame.seq if frame.last else 0
        self.send(told)

    def send_end(self) -> None:
        self.frames.dropping = True
        Outlet.send_end(self)

    def finish(self) -> None:
        """End the stream behind what waits in it."""
        self.send(None)
        self.lost = True

    def served(self) -> int:
        """How far its client has surely been served, as far as this end can know."""
        return self.seq if self.frames.empty() and not self.frames.dropping else self.frames.taken


class Tail:
    """Reads what is recorded of one product, and gives it to whoever listens."""

    def __init__(self, ledger: Ledger, shaper: Shaper, seq: int, now: Callable[[], int]) -> None:
        self._ledger, self._shaper, self._now = ledger, shaper, now
        self.seq = seq
        self.listeners: list[Listener] = []
        self.joining: dict[Listener, asyncio.Task[None]] = {}  # those that catch up
        self.wake = asyncio.Event()
        self.sent = 0

    async def run(self) -> None:
        while True:
            self.wake.clear()  # before the read: what is set from here on was perhaps not seen
            page = await read(self._ledger, self._shaper, self.seq)
            if page is None:
                await self.wake.wait()
                continue
            oldest = self._now() - NEWS
            for listener in self.listeners:
                self._give(listener, page, oldest)
            self.seq = page.seq

    def _give(self, listener: Listener, page: Page, oldest: int) -> None:
        for frame in page.frames:
            if frame.recorded_at >= oldest:
                listener.take(frame)
                self.sent += 1
        if not listener.lost:
            listener.seq = max(listener.seq, page.seq)

    async def catch_up(self, listener: Listener, shaper: Shaper) -> None:
        """Give the listener what lies before the tail, as fast as it reads, in bursts; then let it join."""
        told = 0
        while listener.seq < self.seq and not listener.lost:
            page = await read(self._ledger, shaper, listener.seq)
            if page is None:
                break
            for frame in page.frames:
                await listener.frames.room()
                listener.take(frame)
                self.sent += 1
                told += 1
                if told % BURST == 0:
                    await asyncio.sleep(PAUSE_S)
            if not listener.lost:
                listener.seq = max(listener.seq, page.seq)
        self.joining.pop(listener, None)
        if not listener.lost:
            self.listeners.append(listener)


async def read(ledger: Ledger, shaper: Shaper, after: int) -> Page | None:
    """The page behind a sequence; asks again until the ledger answers."""
    failing = False
    while True:
        try:
            async with ledger.reader() as conn:
                return await shaper.page(conn, after)
        except NudgeledgerError as error:
            if not failing:
                log.warning("feed_cannot_read", error=str(error))
            failing = True
            await asyncio.sleep(AGAIN_S)
