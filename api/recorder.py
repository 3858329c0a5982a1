"""The one writer of this process: jobs that arrive together share a transaction.

A group is decided on cached state, outside the lock. Under the lock the store looks only whether somebody
else moved what was read; jobs that lost are decided anew in the next group. Callers are answered only after
the commit. A failure of the database fails the group's jobs with `Unavailable`; nothing of them is stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api import jobs
from api.book import Book, Overlay
from api.clock import Clock
from api.ingest.native import OutsideEvent
from api.jobs import BatchJob, EngineJob, Job, Known
from domain import errors, events
from domain.envelope import ENGINE, OUTSIDE, PRODUCT_STREAM, NewEvent, derived_id
from domain.run import Live, Missing, Stored, Turn, World
from domain.user import UserState
from domain.view import Predicates
from eventstore import keys, reader
from eventstore.appender import ANY, Appender, Unit
from eventstore.engine import Ledger
from projections import configs, facts, inline
from projections.inline import Written

log = structlog.get_logger()

MAX_JOBS = 256
MAX_EVENTS = 4_000


class Prepared:
    """A job that was decided: what it wants stored, and what it read."""

    __slots__ = ("book", "job", "rows", "stored", "turn", "world")

    def __init__(self, job: Job, book: Book, world: World, turn: Turn) -> None:
        self.job, self.book, self.world, self.turn = job, book, world, turn
        self.stored: Sequence[Stored] = turn.stored
        self.rows: list[NewEvent] = []


class Recorder:
    """Takes jobs, commits them in groups, keeps the books in step with the ledger."""

    def __init__(
        self, ledger: Ledger, clock: Clock, predicates: Predicates, engine: events.EngineActivated, cached: int
    ) -> None:
        self.ledger, self.clock = ledger, clock
        self.engine = engine
        self.books: dict[str, Book] = {}
        self.position = 0
        self.due: dict[tuple[str, str], int] = {}  # when each session is to be looked at next
        self.on_armed: Callable[[str, str, int], None] = lambda product, session, due: None
        self.on_written: Callable[[str, Sequence[Written]], None] = lambda product, written: None
        self.groups = 0
        self.counted: Counter[str] = Counter()  # outside, engine, offered, withheld, failed
        self._predicates, self._cached = predicates, cached
        self._appender = Appender(ledger)
        self._waiting: list[Job] = []
        self._wake = asyncio.Event()
        self._keys: dict[tuple[str, str], keys.DataKey] = {}
        self._task: asyncio.Task[None] | None = None

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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for job in self._waiting:
            self._fail(job, errors.Unavailable("the service is stopping"))

    async def submit(self, *wanted: Job) -> list[jobs.Outcome]:
        """Record jobs; answers when all of them are durable. Raises the first failure."""
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
                await self._load(conn, book, {f"session-{session_id}"})
            live = book.sessions.get(session_id)
        assert live is not None
        return live

    async def catch_up(self, own: Container[int] = ()) -> None:
        """Take in what other processes appended: drop what they touched, reload products they changed.

        `own`: positions that this process wrote itself and has taken in already.
        """
        touched: list[tuple[str, Written]] = []
        async with self.ledger.reader() as conn:
            while True:
                rows = await reader.read_all(conn, after=self.position, limit=1000)
                for row in rows:
                    book = self.books.get(row.product)
                    self.clock.observe(row.recorded_at)
                    if book is None or row.position in own:
                        continue
                    book.drop(row.stream)
                    if row.stream == PRODUCT_STREAM:
                        await book.load_product(conn)
                    elif row.type in ("nudge_offered", "nudge_closed", "nudge_shown"):
                        touched.append((row.product, Written(row, facts.fact(row).event)))
                if rows:
                    self.position = rows[-1].position
                if len(rows) < 1000:
                    break
        for product, written in touched:
            self.on_written(product, [written])

    # --- the loop --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(0)  # let requests that arrived together join the group
            self._wake.clear()
            while self._waiting:
                group = self._take()
                try:
                    await self._commit(group)
                except asyncio.CancelledError:
                    for job in group:
                        self._fail(job, errors.Unavailable("the service is stopping"))
                    raise
                except Exception as error:
                    if not isinstance(error, errors.NudgeledgerError):
                        log.exception("group_failed", jobs=len(group))
                    else:
                        log.warning("group_failed", jobs=len(group), error=str(error))
                    for job in group:
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
        self.groups += 1
        group = await self._with_engine(group)
        known = await self._prepare_reads(group)
        prepared, later = self._decide(group, known)
        if any(item.stored or item.world.changed_sessions for item in prepared):
            refused = await self._store(prepared)
        else:
            refused = []
        if refused:
            await self.catch_up()
        self._waiting[:0] = [*[item.job for item in refused], *later]
        lost = set(map(id, refused))
        for item in prepared:
            if id(item) not in lost:
                self._publish(item)

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
        names = [s.removeprefix("session-") for s in streams if s.startswith("session-")]
        due = {name: self.due.get((book.product, name)) for name in names}
        self.clock.observe(await book.load(conn, streams, due))

    def _decide(
        self, group: Sequence[Job], known: dict[str, dict[str, Known]]
    ) -> tuple[list[Prepared], list[Job]]:
        """Every job on top of what the ones before it in the group changed."""
        overlays: dict[str, tuple[Overlay[Live], Overlay[UserState]]] = {}
        product_versions: dict[str, int] = {}
        prepared: list[Prepared] = []
        later: list[Job] = []
        taken: set[tuple[str, str]] = set()
        now = self.clock.now()
        for job in group:
            book = self.books[job.product]
            sessions, users = overlays.setdefault(
                job.product, (Overlay(book.sessions), Overlay(book.users))
            )
            ids = {(job.product, event_id) for event_id in job.ids()}
            if ids & taken:  # the same event twice in one group: the second must see the first stored
                later.append(job)
                continue
            world = World(sessions, users)
            turn = Turn(job.product, book.rules, world, now)
            try:
                job.run(turn, known.get(job.product, {}), book.state)
            except Missing as missing:  # found on the way; the next group loads it
                job.needs.add(missing.stream)
                later.append(job)
                continue
            except errors.NudgeledgerError as error:
                self._fail(job, error)
                continue
            taken |= ids
            item = Prepared(job, book, world, turn)
            version = product_versions.setdefault(job.product, book.state.version)
            if any(stored.stream == PRODUCT_STREAM for stored in item.stored):
                item.world.read[PRODUCT_STREAM] = version
                product_versions[job.product] = version + sum(
                    stored.stream == PRODUCT_STREAM for stored in item.stored
                )
            sessions.changed.update(world.changed_sessions)
            users.changed.update(world.changed_users)
            prepared.append(item)
        return prepared, later

    async def _store(self, prepared: list[Prepared]) -> list[Prepared]:
        """One transaction for the group; gives the jobs that somebody else's append overtook."""
        persons = {
            (item.job.product, person)
            for item in prepared
            for stored in item.stored
            if (person := _person(stored)) is not None
        }
        new_keys: dict[tuple[str, str], keys.DataKey] = {}
        unknown = [pair for pair in persons if pair not in self._keys]
        if not unknown:
            self._build(prepared, self._keys)
        async with self.ledger.transaction() as conn:
            if unknown:
                for product in dict.fromkeys(product for product, _ in unknown):
                    names = sorted(name for owner, name in unknown if owner == product)
                    made = await keys.ensure_keys(conn, product, names, at=self.clock.now())
                    new_keys |= {(product, name): key for name, key in made.items()}
                self._build(prepared, {**self._keys, **new_keys})
            units = [
                Unit(item.job.product, _expected(item), item.rows) for item in prepared if item.stored
            ]
            appended = iter(await self._appender.append(conn, units, after=self.position))
            refused: list[Prepared] = []
            written: list[Written] = []
            lives: dict[tuple[str, str], Live] = {}
            own: list[int] = []
            for item in prepared:
                recorded = next(appended).recorded if item.stored else ()
                if recorded is None or (refused and not item.stored):
                    # Without events there is nothing to refuse, but it may rest on what was.
                    refused.append(item)
                    continue
                if recorded:
                    item.job.outcome.written = [
                        Written(row, stored.event)
                        for row, stored in zip(recorded, item.stored, strict=True)
                    ]
                    written += item.job.outcome.written
                    own += [row.position for row in recorded]
                for session_id, live in item.world.changed_sessions.items():
                    lives[item.job.product, session_id] = live
            await inline.apply(conn, written, [(product, live) for (product, _), live in lives.items()])
        self._remember(new_keys)
        if own and own[0] != self.position + 1:
            await self.catch_up(frozenset(own))  # others appended in between
        elif own:
            self.position = own[-1]
        return refused

    def _remember(self, new_keys: dict[tuple[str, str], keys.DataKey]) -> None:
        self._keys.update(new_keys)
        while len(self._keys) > 100_000:
            del self._keys[next(iter(self._keys))]

    def _build(self, prepared: Iterable[Prepared], data_keys: dict[tuple[str, str], keys.DataKey]) -> None:
        for item in prepared:
            item.rows = [
                self._row(item, index, stored, data_keys) for index, stored in enumerate(item.stored)
            ]

    def _row(
        self,
        item: Prepared,
        index: int,
        stored: Stored,
        data_keys: dict[tuple[str, str], keys.DataKey],
    ) -> NewEvent:
        product, incoming = item.job.product, stored.incoming
        clear, personal = jobs.stored_form(stored.event, stored.user_id)
        sealed = key_id = None
        if personal:
            person = _person(stored)
            assert person is not None
            key = data_keys[product, person]
            key_id = key.key_id
            aad = keys.binding(product, stored.event_id)
            sealed = keys.seal(key.key, orjson.dumps(personal), aad)
        outside = incoming if isinstance(incoming, OutsideEvent) else None
        batch_id = item.job.batch_id
        if index < item.turn.own:  # came due before the batch: an evaluation of its own
            batch_id = derived_id(stored.at, product, stored.stream, "timer", str(stored.at))
        return NewEvent(
            product=product,
            stream=stored.stream,
            type=stored.event.TYPE,
            schema_version=stored.event.VERSION,
            origin=OUTSIDE if outside is not None else ENGINE,
            event_id=stored.event_id,
            at=stored.at,
            recorded_at=max(item.turn.now, stored.at),
            occurred_at=min(outside.occurred_at, stored.at) if outside is not None else stored.at,
            occurred_raw=outside.occurred_raw if outside is not None else None,
            sent_raw=outside.sent_raw if outside is not None else None,
            clock_suspect=outside.clock_suspect if outside is not None else False,
            batch_id=batch_id,
            correlation_id=outside.correlation_id if outside is not None else None,
            causation_id=stored.cause,
            source=outside.source if outside is not None else "engine",
            config_revision=item.book.rules.revision,
            engine_version=self.engine.engine_version,
            data=orjson.dumps(clear),
            sealed=sealed,
            key_id=key_id,
        )

    def _publish(self, item: Prepared) -> None:
        """The group is durable: the cache moves on, callers get their answers, streams are woken."""
        job, book = item.job, item.book
        outcome = job.outcome
        for session_id, live in item.world.changed_sessions.items():
            book.sessions.put(session_id, live)
            self._arm(job.product, session_id, live.due())
        for user_id, state in item.world.changed_users.items():
            book.users.put(user_id, state)
        if outcome.written:
            outcome.last_position = outcome.written[-1].row.position
            outcome.decided = [
                written
                for written in outcome.written[item.turn.own :]
                if isinstance(written.event, (events.NudgeOffered, events.NudgeWithheld))
            ]
            if any(written.row.stream == PRODUCT_STREAM for written in outcome.written):
                book.take(_product_state(book, outcome.written))
            self._note(outcome.written)
            self.on_written(job.product, outcome.written)
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
            self.counted[row.origin] += 1
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


def _product_state(book: Book, written: Sequence[Written]) -> configs.ProductState:
    return configs.fold([w.row for w in written if w.row.stream == PRODUCT_STREAM], book.state)


def _person(stored: Stored) -> str | None:
    """Whose key seals this event: the user's, else the session's; None where nothing is personal."""
    if not stored.event.PERSONAL:
        return None
    _, personal = jobs.stored_form(stored.event, None)
    if not personal:
        return None
    return f"user-{stored.user_id}" if stored.user_id else stored.stream


def _expected(item: Prepared) -> dict[str, int]:
    expected = dict(item.world.read)
    for stored in item.stored:
        expected.setdefault(stored.stream, ANY)
    return expected
