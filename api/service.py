"""What nudgeledger does, without HTTP: the command line, the worker and the tests take the same path.

Every answer comes after the commit. Raises the errors of `domain.errors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from api import backtest_request
from api.backtest_request import Asked
from api.backtests import Backtests, candidate
from api.book import Book
from api.chat.guidance import Guidance
from api.chat.injecting import Injecting
from api.chat.replies import Replies
from api.clock import Clock
from api.delivery.calls import Calls
from api.delivery.channels import all_channels
from api.delivery.deliveries import Deliveries
from api.delivery.intercom import Intercom
from api.delivery.jobs import NEWS
from api.delivery.parts import Parts
from api.delivery.rasa import Rasa
from api.directory import Directory
from api.explaining import Explaining
from api.feed.feed import Feed
from api.follower import Follower
from api.hub import Connection, Hub
from api.ingest import labelling
from api.ingest.native import OutsideEvent, ParsedBatch
from api.ingest.remembered import Memory
from api.jobs import BatchJob, ConfigJob, EngineJob, Job, Outcome, RearmJob, by_stream
from api.model.assistant import Assistant
from api.model.endpoint import Endpoint
from api.model.judging import Judging
from api.predicates import Registry
from api.recorder import Recorder
from api.sessionizing import Sessionizing
from api.settings import Settings
from api.timers import Timers
from api.unattended import Unattended
from api.vendors.following import Following
from api.watching import Watching
from domain import codec, events
from domain.envelope import PRODUCT_STREAM, Recorded, name_in, nudge_stream, session_stream
from domain.errors import Fault, InvalidInput, NotFound, UnknownProduct, WrongSecret
from domain.instants import DAY, optional_text, text
from domain.machine import PROACTIVE
from domain.run import Live
from domain.session import SessionState
from eventstore import reader
from eventstore.engine import Ledger
from projections import configs, facts, inline, lookups, version
from projections.inline import Written
from projections.why import explain

log = structlog.get_logger()

DRY_RUN_S = 2.0  # how long a dry run waits for its backtest


class Receipt(NamedTuple):
    """What became of a request's events."""

    accepted: int
    duplicates: int
    conflicting: int
    rejected: list[dict[str, Any]]
    last_position: int
    decisions: list[dict[str, Any]]


class Service:
    """One running nudgeledger."""

    def __init__(self, ledger: Ledger, settings: Settings, clock: Clock | None = None) -> None:
        self.ledger, self.settings = ledger, settings
        self.clock = clock or Clock()
        self.hub = Hub()
        self.predicates = Registry(settings.predicate_budget_ms / 1000)
        self.engine = version.engine(self.predicates.versions())
        self.recorder = Recorder(
            ledger, self.clock, self.predicates.run, self.engine, settings.cached_sessions
        )
        self.timers = Timers(self.recorder)
        self.follower = Follower(self.recorder)
        self._background = Unattended("background_failed")
        self.watching = Watching(self.recorder, settings, self._background.spawn)
        self.recorder.on_written = self._written
        self.explaining = Explaining(ledger, self.clock, self.predicates, self.hub)
        self.recorder.on_moved = self._moved
        self.backtests = Backtests(ledger, self.clock, settings)
        self.directory = Directory(self.recorder, self.clock)
        self.sessionizing = Sessionizing(self.recorder, self.clock)
        self.models = Endpoint(ledger, self.clock)
        self.assistant = Assistant(self.recorder, self.models)
        self.judging = Judging(self.recorder, self.models)
        self.calls = Calls()
        parts = Parts(self.recorder)
        self.deliveries = Deliveries(self.recorder, all_channels(self.calls, parts))
        self.guidance = Guidance(self, self._background.spawn)
        self.injecting = Injecting(self, Rasa(self.calls))
        self.following = Following(self, Intercom(self.calls, parts), parts)
        self.replies = Replies(self)
        self.feed = Feed(self.recorder, settings, self.directory)
        self.acts = Memory()

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin where the ledger stands. Raises Unreadable for a history that this code cannot read."""
        async with self.ledger.reader() as conn:
            await reader.check_readable(conn, set(codec.KNOWN))
            armed = await lookups.armed(conn)
        await self.recorder.start()
        for product, session_id, due in armed:
            self.recorder.due[product, session_id] = due
            self.timers.arm(product, session_id, due)
        self.timers.start()
        self.follower.start()
        await self.backtests.start()
        for part in self._parts:
            await part.start()

    def end_streams(self) -> None:
        """No open stream keeps a shutdown waiting; clients come back by themselves."""
        self.hub.close()
        self.watching.close()
        self.feed.close()

    async def stop(self) -> None:
        """Finish what was taken, end the streams, stop."""
        self.end_streams()
        self.guidance.close()
        await self.backtests.stop()
        for part in reversed(self._parts):
            await part.stop()
        await self.follower.stop()
        await self.timers.stop()
        await self._background.stop()
        await self.recorder.stop()
        await self.models.stop()
        await self.calls.stop()
        self.predicates.close()

    @property
    def _parts(self) -> tuple[Assistant, Judging, Deliveries, Feed, Injecting, Following, Replies]:
        return (
            self.assistant,
            self.judging,
            self.deliveries,
            self.feed,
            self.injecting,
            self.following,
            self.replies,
        )

    async def ready(self) -> None:
        """Raises Unavailable where the database does not answer."""
        async with self.ledger.reader() as conn:
            await reader.head(conn)

    # --- products and configs --------------------------------------------------------------------

    async def product(self, product: str) -> Book:
        """The product's book. Raises UnknownProduct."""
        try:
            book = await self.recorder.book(product)
        except InvalidInput:  # no product can have such a name
            raise UnknownProduct(f"no product {product!r}") from None
        if book.state.version == 0:
            async with self.ledger.reader() as conn:
                known = await lookups.secrets(conn, product)
                await book.load_product(conn)
            if known is None and book.state.version == 0:
                self.recorder.books.pop(product, None)
                raise UnknownProduct(f"no product {product!r}; put a config for it, or `product add` it")
        return book

    async def put_config(self, product: str, raw: Any) -> dict[str, Any]:
        """Activate a config. Raises InvalidConfig with every fault; the config in force stays then."""
        backtest_request.check(raw, product)
        job = ConfigJob(product, self.clock.new_id(), config=raw, digest=configs.digest(raw))
        outcome = (await self.recorder.submit(job))[0]
        if outcome.written:
            self.directory.forget()
            self._background.spawn(self._rearm(product))
        return {"product_id": product, "revision": outcome.value, "activated": bool(outcome.written)}

    async def validate_config(self, product: str, raw: Any) -> dict[str, Any]:
        """Check a config and do nothing with it; the product need not exist. Raises InvalidConfig."""
        backtest_request.check(raw, product)
        try:
            current = (await self.product(product)).state.current
        except UnknownProduct:
            current = None
        digest = configs.digest(raw)
        in_force = current is not None and current.revision.endswith(f"-{digest}")
        return {"valid": True, "digest": digest, "in_force": in_force}

    async def dry_run(self, product: str, raw: Any) -> dict[str, Any]:
        """What putting a config would change: a backtest over the last day; nothing is activated.

        Waits a little for the job. Raises InvalidConfig.
        """
        state = (await self.product(product)).state
        backtest_request.check(raw, product)
        now = self.clock.now()
        job = await self.backtests.post(product, state, self.engine, Asked(raw, now - DAY, now))
        job = await self.backtests.wait(product, job["backtest_id"], DRY_RUN_S)
        return {"dry_run": True, "revision": candidate(state, raw).revision, "backtest": job}

    async def backtest(self, product: str, body: Any) -> dict[str, Any]:
        """The job that simulates a config over a window of the ledger. Raises InvalidInput."""
        state = (await self.product(product)).state
        asked = backtest_request.parse(body, product, self.clock.now())
        return await self.backtests.post(product, state, self.engine, asked)

    async def config(self, product: str) -> dict[str, Any]:
        """The config in force, as it was put, with its revision. Raises NotFound where none was."""
        current = (await self.product(product)).state.current
        if current is None:
            raise NotFound(f"product {product!r} has no config yet")
        return {"revision": current.revision, "activated_at": text(current.at), "config": current.config}

    async def revisions(self, product: str) -> dict[str, Any]:
        """Every activation, newest first."""
        listed = (await self.product(product)).state.revisions
        return {
            "revisions": [
                {"revision": r.revision, "activated_at": text(r.at), "config": r.config}
                for r in reversed(listed)
            ]
        }

    async def _rearm(self, product: str) -> None:
        """After a config put the due instants of recently active sessions are computed anew."""
        async with self.ledger.reader() as conn:
            names = await lookups.active_since(conn, product, self.clock.now() - DAY)
        for start in range(0, len(names), 200):
            jobs = [
                RearmJob(product, self.clock.new_id(), session_id=name) for name in names[start : start + 200]
            ]
            await self.recorder.submit(*jobs)

    async def check_webhook_secret(self, product: str, given: str | None) -> None:
        """Raises WrongSecret where the product has a webhook secret and `given` is not it."""
        hashed = hashlib.sha256((given or "").encode()).hexdigest()
        if not await self.directory.holds_secret(product, hashed):
            raise WrongSecret("x-posthog-secret is missing or is not this product's webhook secret")

    # --- facts in --------------------------------------------------------------------------------

    async def record(self, product: str, batch: ParsedBatch) -> Receipt:
        """Store a request's events, each session's as one batch, and what they made the engine decide.

        Raises InvalidInput, with nothing stored, where the request is atomic and one event is bad.
        """
        labels = (await self.product(product)).rules.config.labels
        if batch.rejected and batch.atomic:
            raise InvalidInput([Fault(r.path, r.detail) for r in batch.rejected])
        listed = labelling.collapsed(batch.events, labels) if labels.collapse else batch.events
        jobs: list[Job] = [*self._jobs(product, listed)]
        if batch.rejected:
            jobs.append(self._rejection(product, [(r.path, r.detail) for r in batch.rejected]))
        outcomes = await self.recorder.submit(*jobs)
        rejected = [{"index": r.index, "path": r.path, "detail": r.detail} for r in batch.rejected]
        return await self._receipt(product, outcomes, rejected)

    async def record_events(self, product: str, batch: Sequence[OutsideEvent]) -> Receipt:
        return await self.record(product, ParsedBatch(list(batch), [], True))

    async def reject(self, product: str, faults: Sequence[tuple[str, str]]) -> None:
        """Note what a source sent that could not be stored, by path; never a value."""
        await self.recorder.submit(self._rejection(product, faults))

    def _rejection(self, product: str, faults: Sequence[tuple[str, str]]) -> Job:
        kept = tuple({"path": path, "detail": detail} for path, detail in faults[:50])
        job_id = self.clock.new_id()
        fact = (PRODUCT_STREAM, events.RejectedInput(kept), job_id)
        return EngineJob(product, job_id, facts=(fact,))

    def _jobs(self, product: str, batch: Sequence[OutsideEvent]) -> list[BatchJob]:
        named = [item if item.event_id else item._replace(event_id=self.clock.new_id()) for item in batch]
        made_ids = all(item.event_id is None for item in batch)
        return [
            BatchJob(
                product,
                self.clock.new_id(),
                session_id=session_id,
                user_id=user_id,
                items=items,
                made_ids=made_ids,
            )
            for session_id, user_id, items in by_stream(named)
        ]

    async def _receipt(
        self, product: str, outcomes: Sequence[Outcome], rejected: list[dict[str, Any]]
    ) -> Receipt:
        decided = [inline.decision_row(w) for outcome in outcomes for w in outcome.decided]
        earlier = {batch: row for outcome in outcomes for batch, row in outcome.earlier.items()}
        if earlier:
            judged = (await self.recorder.book(product)).rules.config.judge is not None
            async with self.ledger.reader() as conn:
                again = await lookups.decisions_of_batches(conn, product, list(earlier))
                for row in earlier.values() if judged else ():
                    again += await lookups.decisions_upon_proposals(conn, product, row)
            known = {row["decision_id"] for row in decided}
            decided += [row for row in again if row["decision_id"] not in known]
        decided.sort(key=lambda row: row["position"])
        return Receipt(
            sum(outcome.accepted for outcome in outcomes),
            sum(outcome.duplicates for outcome in outcomes),
            sum(outcome.conflicting for outcome in outcomes),
            rejected,
            max((outcome.last_position for outcome in outcomes), default=0),
            [inline.decision_json(row) for row in decided],
        )

    # --- answers ---------------------------------------------------------------------------------

    async def session(
        self, product: str, session_id: str, *, at: int | None = None, upto: int | None = None
    ) -> dict[str, Any]:
        """The session now, as of a version, or as of an instant. Raises NotFound."""
        book = await self.product(product)
        now = self.clock.now()
        if at is not None and at > now:
            raise InvalidInput([Fault("at", "lies in the future")])
        if at is None and upto is None:
            state = (await self.recorder.session(product, session_id)).state
            if state.version == 0:
                raise NotFound(f"no session {session_id!r} in product {product!r}")
            return await self._session_json(book, state, now)
        async with self.ledger.reader() as conn:
            rows = await reader.read_stream(conn, product, session_stream(session_id), up_to=upto)
        if at is not None:
            rows = [row for row in rows if row.at <= at]
        if not rows:
            raise NotFound(f"no session {session_id!r} in product {product!r} then")
        state = lookups.session_of(session_id, rows)
        return await self._session_json(book, state, rows[-1].at if at is None else at)

    async def _session_json(self, book: Book, state: SessionState, at: int) -> dict[str, Any]:
        offer = state.open_offer(at)
        if offer is not None:
            async with self.ledger.reader() as conn:
                nudge = await lookups.nudge(conn, book.product, offer.nudge_id)
            if nudge is not None and nudge["closed_at"] is not None and nudge["closed_at"] <= at:
                offer = None  # superseded by an offer in another session of the same user
        ticked = state.tick(at)
        revision = book.state.in_force(at)
        return {
            "session_id": state.session_id,
            "user_id": state.user_id,
            "version": state.version,
            "at": text(at),
            "current_state": ticked.current_state,
            "cooldown_active": ticked.cooldown_active(at),
            "cooldown_until": optional_text(ticked.cooldown_until or None),
            "last_interaction_at": optional_text(state.last_interaction_at),
            "timeout_due_at": optional_text(ticked.timeout_due),
            "visual_guidance_active": ticked.tour_running(at),
            "active_tour_id": ticked.active_tour_id if ticked.tour_running(at) else None,
            "conversation_id": state.conversation_id,
            "open_nudge_id": offer.nudge_id if offer is not None else None,
            "config_revision": revision.revision if revision is not None else None,
        }

    async def session_events(self, product: str, session_id: str, after: int, limit: int) -> dict[str, Any]:
        """A page of the session's stream, by version."""
        await self.product(product)
        async with self.ledger.reader() as conn:
            rows = await reader.read_stream(
                conn, product, session_stream(session_id), after_version=after, limit=limit
            )
            if not rows and after == 0:
                raise NotFound(f"no session {session_id!r} in product {product!r}")
            keys = await facts.keys_of(conn, rows)
        listed = [facts.event_json(row, keys) for row in rows]
        return {"events": listed, "next": rows[-1].version if len(rows) == limit else None}

    async def decisions(self, product: str, query: lookups.DecisionQuery) -> dict[str, Any]:
        """Decisions, newest first, a page at a time."""
        await self.product(product)
        async with self.ledger.reader() as conn:
            rows = await lookups.decisions(conn, product, query)
        following = rows[-1]["position"] if len(rows) == query.limit else None
        return {"decisions": [inline.decision_json(row) for row in rows], "next": following}

    async def decision(self, product: str, decision_id: str) -> dict[str, Any]:
        """The explanation of a decision, by its id or its nudge's. Raises NotFound."""
        await self.product(product)
        return await self.explaining.decision(product, decision_id)

    async def why_not(self, product: str, session_id: str, trigger_id: str, at: int | None) -> dict[str, Any]:
        """Why a trigger did not fire in a session at `at`, or now. Raises NotFound for an unknown session."""
        await self.product(product)
        return await self.explaining.why_not(product, session_id, trigger_id, at)

    async def evaluation(
        self, product: str, session_id: str, *, at: int | None = None, upto: int | None = None
    ) -> dict[str, Any]:
        """Every trigger's verdict as of a version of the session, as of an instant, or now."""
        book = await self.product(product)
        moment = await self.explaining.moment(product, session_id, at=at, upto=upto)
        told = await self._session_json(book, moment.state(), moment.at)
        return {"session": told, **explain.evaluation(moment)}

    # --- users, tours, streams -------------------------------------------------------------------

    async def user_session(self, product: str, user_id: str) -> str | None:
        """ "The user's session": with a running tour or open offer, else with the newest outside event."""
        async with self.ledger.reader() as conn:
            return await lookups.user_session(conn, product, user_id, self.clock.now())

    async def tour(
        self,
        product: str,
        user_id: str,
        make: Callable[[SessionState], events.Outside | None],
        session_id: str | None = None,
        event_id: str | None = None,
    ) -> bool:
        """Record a tour's event in the user's session; False where the user has none."""
        session_id = session_id or await self.user_session(product, user_id)
        if session_id is None:
            return False
        state = (await self.recorder.session(product, session_id)).state
        event = make(state)
        if event is None:
            return False
        now = self.clock.now()
        item = OutsideEvent(event_id, event, session_id, user_id, now, now, None, None, False, "host", None)
        await self.record_events(product, [item])
        return True

    async def open_nudges(self, product: str, user_id: str) -> list[tuple[int, dict[str, Any], bool]]:
        """The user's nudges that are open and not shown: position, message, and whether the session is
        still in proactive assistance."""
        now = self.clock.now()
        async with self.ledger.reader() as conn:
            rows = await lookups.open_nudges(conn, product, user_id, now)
        found: list[tuple[int, dict[str, Any], bool]] = []
        for row in rows:
            state = (await self.recorder.session(product, name_in(row.stream))).state
            offer = state.offer
            current = (
                offer is not None and offer.nudge_id == row.event_id and state.state_at(now) == PROACTIVE
            )
            offered = facts.fact(row).event
            assert isinstance(offered, events.NudgeOffered)
            if _is_toast(offered):
                found.append((row.position, nudge_json(row, offered), current))
        return found

    async def listen(self, connection: Connection, last_event_id: int | None) -> None:
        """Join the hub; send what waited: all that is open for who resumes, what is still current for who
        comes anew."""
        gone: set[str] = set()
        connection.gone = gone
        self.hub.join(connection)
        waiting = await self.open_nudges(connection.product, connection.user_id)
        connection.gone = None
        if connection not in self.hub.receivers(connection.product, connection.user_id):
            return
        for position, nudge, current in waiting:
            resumed = last_event_id is not None and position > last_event_id
            nudge_id = nudge["nudge_id"]
            if nudge_id in gone or self.hub.held(connection, nudge_id) or not (resumed or current):
                continue
            if not connection.native and self.guidance.held(
                connection.product, nudge["session_id"], nudge_id
            ):
                continue
            if self.hub.send(connection, nudge, position):
                self.delivered(connection.product, nudge_id, 1)

    def leave(self, connection: Connection) -> None:
        """A connection ended; what a legacy one held and nobody saw goes to the next."""
        held = self.hub.leave(connection)
        if held:
            self._background.spawn(self.hand_over(connection.product, connection.user_id, frozenset(held)))

    async def hand_over(self, product: str, user_id: str, held: frozenset[str]) -> None:
        """Send nudges, whose streams ended before anybody saw them, to the next that listens."""
        for position, nudge, _ in await self.open_nudges(product, user_id):
            if nudge["nudge_id"] in held and not self.hub.offer(product, user_id, nudge, position):
                await self.guidance.take_over(product, nudge["nudge_id"])

    def _written(self, product: str, written: Sequence[Written]) -> None:
        """Wake the streams. After the commit; also for what other processes wrote."""
        self.watching.written(product, written)
        self.deliveries.written(product, written)
        self.judging.written(product, written)
        self.assistant.written(product, written)
        self.guidance.written(product, written)
        for row, event in written:
            match event:
                case events.NudgeOffered() as offered if _is_toast(offered) and self._is_news(row):
                    sent, user_id = 0, offered.user_id
                    if user_id is not None:
                        sent = self.hub.offer(product, user_id, nudge_json(row, offered), row.position)
                    sent = sent or self.guidance.offered(product, row, offered)
                    if sent:
                        self.delivered(product, row.event_id, sent)
                case events.NudgeShown() as shown:
                    self._background.spawn(self._shown(product, row, shown))
                case events.NudgeClosed(user_id=str() as user_id) as closed:
                    nudge_id = name_in(row.stream)
                    self.hub.closed(product, user_id, nudge_id, closed.reason, row.position)
                case _:
                    pass

    def _moved(self, product: str, sessions: Mapping[str, Live | None]) -> None:
        """These sessions have new events; None where another process wrote them. After the commit."""
        self.watching.moved(product, sessions)
        self.feed.moved(product)
        for session_id in sessions:
            self.assistant.acted(product, session_id)

    def _is_news(self, row: Recorded) -> bool:
        """Whether it was recorded just now. What another process imported is history: nobody is sent it."""
        return self.clock.now() - row.recorded_at <= NEWS

    async def _shown(self, product: str, row: Recorded, shown: events.NudgeShown) -> None:
        async with self.ledger.reader() as conn:
            nudge = await lookups.nudge(conn, product, shown.nudge_id)
        if nudge is None or nudge["user_id"] is None or nudge["shown_at"] != row.at:
            return  # another tab was first
        self.hub.shown(product, nudge["user_id"], shown.nudge_id, nudge["shown_tab"], row.position)

    def delivered(self, product: str, nudge_id: str, connections: int) -> None:
        fact = (nudge_stream(nudge_id), events.NudgeDelivered("toast", connections), self.clock.new_id())
        job = EngineJob(product, self.clock.new_id(), facts=(fact,))
        self._background.spawn(self.recorder.submit(job))


def _is_toast(offered: events.NudgeOffered) -> bool:
    """Whether the nudge goes to the nudge streams; the other channels are called (`api.delivery`)."""
    return "toast" in offered.message["channels"]


def nudge_json(row: Recorded, offered: events.NudgeOffered) -> dict[str, Any]:
    """A nudge as streams carry it."""
    message: Mapping[str, Any] = offered.message
    nudge = {
        "nudge_id": row.event_id,
        "trigger_id": offered.trigger_id,
        "body": message["body"],
        "session_id": name_in(row.stream),
        "tours": message["tours"],
        "options": message["options"],
        "expires_at": text(offered.expires_at),
    }
    if "target" in message:
        nudge["target"] = message["target"]
    return nudge
