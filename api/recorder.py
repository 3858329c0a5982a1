"""The one writer of this process: jobs that arrive together share a transaction.

A group is decided on cached state, outside the lock. Under the lock the store looks only whether somebody
else moved what was read; jobs that lost are decided anew in the next group. Callers are answered only after
the commit. A failure of the database fails the group's jobs with `Unavailable`; nothing of them is stored.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap, Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api import jobs, rows
from api.book import Book, Overlay
from api.clock import Clock
from api.jobs import BatchJob, EngineJob, Job, Known
from api.rows import Prepared
from domain import errors, events
from domain.envelope import OUTSIDE, PRODUCT_STREAM, name_in, session_stream, user_stream
from domain.run import Live, Missing, Turn, World
from domain.session import SessionState
from domain.user import UserState
from domain.view import Predicates
from eventstore import keys, reader
from eventstore.appender import Appender
from eventstore.engine import Ledger
from projections import configs, facts, inline, lookups, poison
from projections.inline import Written
from projections.poison import Poisoned

log = structlog.get_logger()

MAX_JOBS = 128
MAX_EVENTS = 4_000
# Events that streams wait for, also where another process wrote them.
TOLD = frozenset({"nudge_offered", "nudge_withheld", "nudge_closed", "nudge_shown", "tour_started"})
MAX_POISONED = 10_000  # poison events remembered, so that each is said once


class Recorder:
    """Takes jobs, commits them in groups, keeps the books in step with the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        predicates: Predicates,
        engine: events.EngineActivated,
        cached: int,
    ) -> None:
        self.ledger, self.clock = ledger, clock
        self.engine = engine
        self._engine_version = engine.engine_version
        self.books: dict[str, Book] = {}
        self.position = 0
        self.due: dict[tuple[str, str], int] = {}  # when each session is to be looked at next
        self.on_armed: Callable[[str, str, int], None] = lambda product, session, due: None
        self.on_written: Callable[[str, Sequence[Written]], None] = lambda product, written: None
        self.on_moved: Callable[[str, Mapping[str, Live | None]], None] = lambda product, sessions: None
        self.groups = 0
        self.counted: Counter[str] = Counter()  # outside, engine, offered, withheld, failed, poisoned
        self._predicates, self._cached = predicates, cached
        self._appender = Appender(ledger)
        self._waiting: list[Job] = []
        self._wake = asyncio.Event()
        self._keys: dict[tuple[str, str], keys.DataKey] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._poisoned: set[tuple[str, str, str, int]] = set()  # said already
        self._moves = 0  # how often the cache was overtaken by others
        self._foreign: set[tuple[str, str]] = set()  # (product, stream) that others wrote during this group
        self._head = 0  # the newest position that somebody told of

    # --- from outside ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin at the ledger's head."""
        async with self.ledger.reader() as conn:
            self.position = await reader.head(conn)
            if self.position:
                last = await reader.read_positions(conn, [self.position])
                self.clock.observe(last[-1].recorded_at)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish what was taken, then stop."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._appender.close()

    async def submit(self, *wanted: Job) -> list[jobs.Outcome]:
        """Record jobs; answers when all of them are durable. Raises the first failure."""
        if self._stopping:
            raise errors.Unavailable("the service is stopping")
        loop = asyncio.get_running_loop()
        for job in wanted:
            job.future = loop.create_future()
        self._waiting.extend(wanted)
        self._wake.set()
        futures = [job.future for job in wanted if job.future is not None]
        if len(futures) == 1:
            return [await futures[0]]
        done = await asyncio.gather(*futures, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return [result for result in done if isinstance(result, jobs.Outcome)]

    def look(self, position: int = 0) -> None:
        """The ledger holds `position` (0: perhaps something new): take in what others wrote, soon."""
        self._head = max(self._head, position or self.position + 1)
        self._wake.set()

    async def book(self, product: str) -> Book:
        """The product's book, read from the ledger when first asked for."""
        known = self.books.get(product)
        if known is None:
            known = Book(product, self._predicates, self._cached)
            async with self.ledger.reader() as conn:
                await known.load_product(conn)
            known = self.books.setdefault(product, known)
        return known

    async def session(self, product: str, session_id: str) -> Live:
        """The session as folded up to now."""
        book = await self.book(product)
        live = book.sessions.get(session_id)
        if live is None:
            async with self.ledger.reader() as conn:
                await self._load(conn, book, {session_stream(session_id)})
            live = book.sessions.get(session_id)
        assert live is not None
        return live

    async def user(self, product: str, user_id: str) -> UserState:
        """The user as folded up to now."""
        book = await self.book(product)
        who = book.users.get(user_id)
        if who is None:
            async with self.ledger.reader() as conn:
                await self._load(conn, book, {user_stream(user_id)})
            who = book.users.get(user_id)
        assert who is not None
        return who

    async def catch_up(self, own: Container[int] = ()) -> None:
        """Take in what other processes appended: drop what they touched, reload products they changed.

        `own`: positions that this process wrote itself and has taken in already.
        """
        touched: list[tuple[str, Written]] = []
        moved: dict[str, dict[str, None]] = {}
        async with self.ledger.reader() as conn:
            while True:
                read = await reader.read_all(conn, after=self.position, limit=1000)
                for row in read:
                    book = self.books.get(row.product)
                    self.clock.observe(row.recorded_at)
                    if row.position in own:
                        continue
                    self._moves += 1
                    self._foreign.add((row.product, row.stream))
                    self._give_up(row.product, row.stream)
                    if book is None:
                        continue
                    if row.stream.startswith("session-"):
                        moved.setdefault(row.product, {})[name_in(row.stream)] = None
                    if row.stream == PRODUCT_STREAM:
                        await book.load_product(conn)
                    elif row.type in TOLD:
                        touched.append((row.product, Written(row, facts.fact(row).event)))
                if read:
                    self.position = read[-1].position
                if len(read) < 1000:
                    break
        for product, written in touched:
            self.on_written(product, [written])
        for product, sessions in moved.items():
            self.on_moved(product, sessions)

    def _give_up(self, product: str, stream: str) -> None:
        """Somebody else wrote last to this stream: what is kept of it is old, and its timer is theirs."""
        if stream.startswith("session-"):
            self.due.pop((product, name_in(stream)), None)
        if product in self.books:
            self.books[product].drop(stream)

    # --- the loop --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting or not self._stopping:
            if not self._waiting:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(0)  # let requests that arrived together join the group
            await self._follow()
            group = self._take()
            if group:
                await self._commit(group)

    async def _follow(self) -> None:
        """Catch up where others wrote. Only between two groups: it moves what they stand on."""
        if self._head <= self.position:
            return
        try:
            await self.catch_up()
        except errors.Unavailable as error:
            log.warning("follow_failed", error=str(error))
        else:
            self._head = self.position

    def _failed(self, group: Iterable[Job], error: Exception) -> None:
        jobs_lost = list(group)
        if isinstance(error, errors.NudgeledgerError):
            log.warning("group_failed", jobs=len(jobs_lost), error=str(error))
        else:
            log.error("group_failed", jobs=len(jobs_lost), exc_info=error)
        for job in jobs_lost:
            self._fail(job, error)

    def _take(self) -> list[Job]:
        count = size = 0
        for job in self._waiting:
            size += len(job.items) if isinstance(job, BatchJob) else 1
            if count and (count >= MAX_JOBS or size > MAX_EVENTS):
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _fail(self, job: Job, error: BaseException) -> None:
        if job.future is not None and not job.future.done():
            job.future.set_exception(error)

    async def _commit(self, group: list[Job]) -> None:
        """Decide a group, store it, answer its callers. Jobs that must wait go to the next group."""
        self.groups += 1
        self._foreign.clear()
        prepared: list[Prepared] = []
        refused: list[Prepared] = []
        try:
            group = await self._with_engine(group)
            known = await self._prepare_reads(group)
            prepared, later = self._decide(group, known)
            if any(item.stored or item.world.changed_sessions for item in prepared):
                refused = await self._store(prepared)
            if refused:
                _drop_reads(refused)  # decided anew, they must not stand on the same entries
                await self.catch_up()
        except Exception as error:
            self._failed(group, error)
            # The commit may have happened all the same: keep nothing that it would have changed, and look.
            _drop_reads(prepared)
            self.look()
            return
        lost = set(map(id, refused))
        for item in prepared:
            if id(item) not in lost:
                self._publish(item)
        for product, stream in self._foreign:  # perhaps behind what was published just now
            self._give_up(product, stream)
        # Announcements of the recorder's own, which nobody waits for, are made anew.
        again = [job for job in (*[item.job for item in refused], *later) if job.future is not None]
        self._waiting[:0] = again

    async def _with_engine(self, group: list[Job]) -> list[Job]:
        """Where a product last saw other code, say first which code decides from here on."""
        first: list[Job] = []
        for product in dict.fromkeys(job.product for job in group):
            book = await self.book(product)
            if book.state.engine_version != self.engine.engine_version:
                fact = (PRODUCT_STREAM, self.engine, self.engine.engine_version)
                first.append(EngineJob(product, self.clock.new_id(), facts=(fact,)))
        return [*first, *group]

    async def _prepare_reads(self, group: list[Job]) -> dict[str, dict[str, Known]]:
        """Load what the group will read; per product, the ids that the ledger knows already."""
        known: dict[str, dict[str, Known]] = {}
        ids: dict[str, list[str]] = {}
        for job in group:
            ids.setdefault(job.product, []).extend(job.ids())
        wanted = self._missing(group)
        if not wanted and not any(ids.values()):
            return known
        async with self.ledger.reader() as conn:
            for product, listed in ids.items():
                if listed:
                    found = await reader.find_ids(conn, product, OUTSIDE, listed)
                    if found:
                        data_keys = await facts.keys_of(conn, list(found.values()))
                        known[product] = {
                            event_id: Known(row, facts.personal_of(row, data_keys))
                            for event_id, row in found.items()
                        }
            while wanted:
                for product, streams in wanted.items():
                    await self._load(conn, self.books[product], streams)
                wanted = self._missing(group)
        return known

    def _missing(self, group: Iterable[Job]) -> dict[str, set[str]]:
        wanted: dict[str, set[str]] = {}
        for job in group:
            streams = self.books[job.product].missing(job.session(), job.users(), job.needs)
            if streams:
                wanted.setdefault(job.product, set()).update(streams)
        return wanted

    async def _load(self, conn: AsyncConnection, book: Book, streams: Iterable[str]) -> None:
        while True:
            moves = self._moves
            loaded = await book.read(conn, streams)
            due = await self._due(conn, book.product, loaded.sessions)
            self.clock.observe(loaded.newest)
            if moves == self._moves:
                book.keep(loaded, due)
                await self._set_aside(loaded.poisoned)
                return
            # Others wrote while this was read, and what they touched was dropped: it may be among it.

    async def _due(
        self, conn: AsyncConnection, product: str, sessions: Iterable[SessionState]
    ) -> Mapping[tuple[str, str], int]:
        """When sessions are due: as this process knows it, else as whoever wrote last to them left it."""
        names = [s.session_id for s in sessions if s.version and (product, s.session_id) not in self.due]
        if not names:
            return self.due
        return ChainMap(self.due, await lookups.due_of(conn, product, names))

    def _decide(
        self, group: Sequence[Job], known: dict[str, dict[str, Known]]
    ) -> tuple[list[Prepared], list[Job]]:
        """Every job on top of what the ones before it changed; and those that wait for the next group."""
        overlays: dict[str, tuple[Overlay[Live], Overlay[UserState]]] = {}
        product_versions: dict[str, int] = {}
        later: list[Job] = []
        taken: set[tuple[str, str]] = set()
        prepared: list[Prepared] = []
        for job in group:
            book = self.books[job.product]
            if job.product not in overlays:
                overlays[job.product] = Overlay(book.sessions), Overlay(book.users)
            sessions, users = overlays[job.product]
            ids = {(job.product, event_id) for event_id in job.ids()}
            if ids & taken:
                later.append(job)  # the same event twice: the second must see the first stored
                continue
            world = World(sessions, users, nudges=book.nudges)
            turn = Turn(job.product, book.rules, world, self.clock.next())
            try:
                job.run(turn, known.get(job.product, {}), book.state)
            except Missing as missing:  # found on the way; the next group loads it
                job.needs.add(missing.stream)
                later.append(job)
                continue
            except Exception as error:  # whatever it is, it costs this job alone
                self._failed([job], error)
                continue
            taken |= ids
            item = Prepared(job, book, world, turn)
            item.build(self._keys, self._engine_version)
            if any(stored.stream == PRODUCT_STREAM for stored in item.stored):
                version = product_versions.get(job.product, book.state.version)
                item.world.read[PRODUCT_STREAM] = version
                product_versions[job.product] = version + len(item.stored)
            sessions.changed.update(world.changed_sessions)
            users.changed.update(world.changed_users)
            prepared.append(item)
        return prepared, later

    async def _store(self, prepared: list[Prepared]) -> list[Prepared]:
        """One transaction for the group; gives the jobs that somebody else's append overtook."""
        lacking = [item for item in prepared if item.lacks]
        if not lacking:
            done = await self._store_at_once(prepared)
            if done is not None:
                return done
        new_keys: dict[tuple[str, str], keys.DataKey] = {}
        async with self.ledger.transaction() as conn:
            for product in dict.fromkeys(item.job.product for item in lacking):
                persons = {p for item in lacking if item.job.product == product for p in item.lacks}
                made = await keys.ensure_keys(conn, product, sorted(persons), at=self.clock.now())
                new_keys |= {(product, person): key for person, key in made.items()}
            for item in lacking:
                item.build(ChainMap(new_keys, self._keys), self._engine_version)
            answers = await self._appender.append(conn, rows.units(prepared), after=self.position)
            result = rows.placed(prepared, answers)
            changes = inline.changes(result.written, result.lives, result.poisoned)
            await inline.apply(conn, changes)
        self._say_poisoned(changes.poisoned)
        self._remember(new_keys)
        if result.first and result.first != self.position + 1:
            await self.catch_up(range(result.first, result.last + 1))  # others appended in between
        elif result.first:
            self.position = result.last
        return result.refused

    async def _store_at_once(self, prepared: list[Prepared]) -> list[Prepared] | None:
        """The same where the database needs not be asked first; None, with nothing stored, where it does."""
        plan = self._appender.plan(rows.units(prepared), after=self.position)
        if plan is None:
            return None
        result = rows.placed(prepared, plan.answers)
        changes = inline.changes(result.written, result.lives, result.poisoned)
        if not await self._appender.carry_out(plan, inline.statements_of(changes)):
            return None
        self._say_poisoned(changes.poisoned)
        self.position = result.last or self.position
        return result.refused

    async def _set_aside(self, poisoned: Sequence[Poisoned]) -> None:
        """Name events that a fold had to skip, once for each; a failure to note them stops nobody."""
        fresh = [each for each in poisoned if each[:4] not in self._poisoned]
        if not fresh:
            return
        self._say_poisoned(fresh)
        try:
            async with self.ledger.transaction() as conn:
                await poison.note(conn, fresh, self.clock.now())
        except errors.Unavailable as error:
            log.warning("poison_not_noted", events=len(fresh), error=str(error))

    def _say_poisoned(self, poisoned: Iterable[Poisoned]) -> None:
        for each in poisoned:
            if len(self._poisoned) >= MAX_POISONED:
                self._poisoned.clear()
            self._poisoned.add(each[:4])
            self.counted["poisoned"] += 1
            log.error("event_poisoned", **each._asdict())

    def _remember(self, new_keys: dict[tuple[str, str], keys.DataKey]) -> None:
        self._keys.update(new_keys)
        while len(self._keys) > 100_000:
            del self._keys[next(iter(self._keys))]

    def _publish(self, item: Prepared) -> None:
        """The group is durable: the cache moves on, callers get their answers, streams are woken."""
        job, book = item.job, item.book
        outcome = job.outcome
        for session_id, live in item.world.changed_sessions.items():
            book.sessions.put(session_id, live)
            self._arm(job.product, session_id, live.due())
        for user_id, state in item.world.changed_users.items():
            book.users.put(user_id, state)
        self.counted["outside"] += outcome.accepted
        self.counted["engine"] += len(item.stored) - outcome.accepted
        if outcome.written:
            if any(written.row.stream == PRODUCT_STREAM for written in outcome.written):
                book.take(_product_state(book, outcome.written))
            self._note(outcome.written)
            for row, _ in outcome.written:
                if row.stream.startswith("nudge-"):
                    book.drop(row.stream)  # its state is folded anew when a delivery asks
            self.on_written(job.product, outcome.written)
        if item.stored:
            self.on_moved(job.product, item.world.changed_sessions)
        if job.future is not None and not job.future.done():
            job.future.set_result(outcome)

    def _arm(self, product: str, session_id: str, due: int | None) -> None:
        if due is None:
            self.due.pop((product, session_id), None)
        elif self.due.get((product, session_id)) != due:
            self.due[product, session_id] = due
            self.on_armed(product, session_id, due)

    def _note(self, written: Sequence[Written]) -> None:
        for row, event in written:
            match event:
                case events.NudgeOffered() | events.NudgeWithheld():
                    self.counted[row.type.removeprefix("nudge_")] += 1
                    log.info(
                        row.type,
                        product=row.product,
                        decision=row.event_id,
                        trigger=event.trigger_id,
                        stream=row.stream,
                        position=row.position,
                        revision=row.config_revision,
                        reason=getattr(event, "reason", "ok"),
                    )
                case events.EvaluationFailed():
                    self.counted["failed"] += 1
                    log.error(row.type, product=row.product, stream=row.stream, position=row.position)
                case events.ConfigActivated():
                    log.info(row.type, product=row.product, revision=event.revision, position=row.position)


def _drop_reads(prepared: Iterable[Prepared]) -> None:
    for item in prepared:
        for stream in item.world.read:
            item.book.drop(stream)


def _product_state(book: Book, written: Sequence[Written]) -> configs.ProductState:
    return configs.fold([w.row for w in written if w.row.stream == PRODUCT_STREAM], book.state)
