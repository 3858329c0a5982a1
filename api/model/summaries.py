"""Rolling summaries: what a session did long ago in a few words, so that what a model is told stays short.

Once `summarise_after` actions have no summary, all but the newest half of that many are replaced by one. It
is made in the background, one at a time for each session, and counts once it is recorded; until then the
actions stand where they were, so a context is never empty. Where no model answers, old actions are counted
in a line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from api.book import Recent
from api.model import activity, asking, background, grounding, once, prompts
from api.model.grounding import Sources
from api.model.once import UnmovedJob
from api.model.port import Counting
from api.recorder import Recorder
from domain import events
from domain.config_around import Model as Settings
from domain.errors import NudgeledgerError, Unavailable
from domain.history import ActionFact, History
from domain.instants import SECOND

log = structlog.get_logger()

DEFAULT_AFTER = Settings("", "").summarise_after
AT_ONCE = 2  # summaries that a model is asked for: who waits for a reply comes first
MOST_WAITING = 500
MOST_TOLD = 200  # actions that one prompt holds; the others are counted
REST = 30 * SECOND  # after a failure; doubled with each further one
LONGEST_REST = 3_600 * SECOND
_REMEMBERED = 20_000  # sessions


@dataclass(slots=True, eq=False)
class _Mark:
    """What is known of a session, so that most of its actions need no look."""

    following: int  # how many actions there must be for the next summary
    failures: int = 0  # in a row
    rests_until: int = 0


class Summaries:
    def __init__(self, recorder: Recorder, models: Counting) -> None:
        self._recorder, self._models = recorder, models
        self._marks: Recent[_Mark] = Recent(_REMEMBERED)
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._stopped = False

    async def stop(self) -> None:
        self._stopped = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def acted(self, product: str, session_id: str) -> None:
        """The session moved, here or elsewhere. O(1)."""
        book = self._recorder.books.get(product)
        if book is None or book.rules.config.model is None or self._stopped:
            return
        live = book.sessions.get(session_id)
        if live is None:  # another process moved it, and looks after it
            return
        mark = self._marks.get(_key(product, session_id))
        following = mark.following if mark is not None else book.rules.config.model.summarise_after
        if len(live.state.actions) < following or (product, session_id) in self._running:
            return
        if mark is not None and self._recorder.clock.now() < mark.rests_until:
            return
        if len(self._running) < MOST_WAITING:
            task = asyncio.create_task(self._look(product, session_id, book.rules.config.model))
            self._running[product, session_id] = task
            task.add_done_callback(lambda _: self._running.pop((product, session_id), None))

    # --- what a context tells --------------------------------------------------------------------

    def split(
        self, actions: History, summary: events.SummaryGenerated | None, settings: Settings | None
    ) -> tuple[list[ActionFact], list[ActionFact]]:
        """(actions that are only counted, actions that are told each) of those that no summary stands for."""
        _, open_ = activity.of_versions(actions, summary.through if summary is not None else 0)
        after = settings.summarise_after if settings is not None else DEFAULT_AFTER
        if len(open_) <= after + after // 2:  # a summary may be under way
            return [], open_
        return open_[:-after], open_[-after:]

    def told(self, summary: events.SummaryGenerated | None, counted: Sequence[ActionFact]) -> list[str]:
        lines = (
            []
            if summary is None or summary.text is None
            else [f"[summary] {activity.line(summary.text, 2_000)}"]
        )
        return [*lines, activity.tally(counted)] if counted else lines

    # --- making one ------------------------------------------------------------------------------

    async def _look(self, product: str, session_id: str, settings: Settings) -> None:
        key = _key(product, session_id)
        mark = self._marks.get(key) or _Mark(0)
        self._marks.put(key, mark)
        try:
            async with self._slots:
                failure = await self._summarise(product, session_id, settings, mark)
        except Unavailable:
            failure = "unavailable"
        except NudgeledgerError as error:
            failure = type(error).__name__
        except Exception as error:  # whatever it is: nobody waits for it, so say it here
            log.error("summary_failed", product=product, error=type(error).__name__, exc_info=True)
            failure = "error"
        if failure is None:
            mark.failures = mark.rests_until = 0
            return
        rest = min(LONGEST_REST, REST << min(mark.failures, 10))
        mark.failures += 1
        mark.rests_until = self._recorder.clock.now() + rest
        log.warning("no_summary", product=product, reason=failure, again_after_s=rest // SECOND)

    async def _summarise(self, product: str, session_id: str, settings: Settings, mark: _Mark) -> str | None:
        """Record a summary where one is due; why there is none, None: all is well."""
        async with self._recorder.ledger.reader() as conn:
            last = (await background.read(conn, product, session_id)).summary
        state = (await self._recorder.session(product, session_id)).state
        old, open_ = activity.of_versions(state.actions, last.through if last is not None else 0)
        mark.following = len(old) + settings.summarise_after
        if len(open_) < settings.summarise_after:
            return None
        newest = sorted(open_, key=lambda action: action.version)[-(settings.summarise_after // 2) :]
        through = newest[0].version - 1
        old, _ = activity.of_versions(state.actions, through)
        replaced = [action for action in open_ if action.version <= through]
        said = await self._asked(product, settings, last, replaced)
        if said.text is None:
            return said.failure
        event = events.SummaryGenerated(
            replaces=len(old),
            through=max(action.version for action in replaced),
            text=said.text,
            model=said.model,
            prompt_version=said.version,
            tokens=said.tokens,
        )
        await self._record(product, session_id, state.user_id, event)
        mark.following = len(old) + settings.summarise_after
        return None

    async def _asked(
        self,
        product: str,
        settings: Settings,
        last: events.SummaryGenerated | None,
        replaced: Sequence[ActionFact],
    ) -> asking.Said:
        told = replaced[-MOST_TOLD:]
        data = {
            "summary": last.text if last is not None else None,
            "not_listed": len(replaced) - len(told),
            "actions": activity.as_data(told),
        }
        labels = activity.labels(told)
        names = [label for label in labels if grounding.is_name(label)]
        paths = [activity.path(page) or "" for page in activity.pages(told)]
        words = " ".join(paths).replace("/", " ").replace("-", " ").replace("_", " ")
        kinds = {activity.kind(action) for action in told} | set(activity.IMPLICIT)
        before = last.text if last is not None and last.text is not None else ""
        sources = Sources(
            (), labels, activity.pages(told), (before, words, *names, *sorted(kinds)), strict=False
        )
        prompt = prompts.prompt(prompts.SUMMARY, data)
        return await asking.grounded(self._models, product, settings, prompt, sources)

    async def _record(
        self, product: str, session_id: str, user_id: str | None, event: events.SummaryGenerated
    ) -> None:
        async def look() -> tuple[int, events.SummaryGenerated | None]:
            async with self._recorder.ledger.reader() as conn:
                read = await background.version(conn, product, session_id)
                last = (await background.read(conn, product, session_id)).summary
            return read, last if last is not None and last.through >= event.through else None

        def make(read: int) -> UnmovedJob:
            return UnmovedJob(
                product,
                self._recorder.clock.new_id(),
                session_id=session_id,
                event=event,
                key=f"summary\0{event.through}",
                user_id=user_id,
                read=read,
            )

        await once.settle(self._recorder, make, look, event)


def _key(product: str, session_id: str) -> str:
    return f"{product}\0{session_id}"
