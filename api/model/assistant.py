"""What the assistant says: follow-ups, replies and summaries, grounded, recorded as events.

With no model, or where one fails, the trigger's own `how_to` is said. What is said is one fact,
`reply_generated`; no `chat_message` is recorded beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.jobs import NoteJob
from api.model import activity, asking, background, contexts, knowledge, once, prompts
from api.model.asking import Said
from api.model.background import Background, Turn
from api.model.grounding import Sources
from api.model.knowledge import Piece
from api.model.once import Shared, UnmovedJob
from api.model.port import Counting, Prompt
from api.model.summaries import Summaries
from api.recorder import Recorder
from domain import events
from domain.config import Config
from domain.envelope import Recorded, name_in
from domain.errors import NotFound
from domain.history import ActionFact
from domain.instants import SECOND
from domain.session import SessionState
from eventstore import reader
from projections import facts, lookups
from projections.inline import Written

RECENT = 20  # actions that a prompt holds
REPEATED = 2 * SECOND  # the same question within this is the same question
MAX_QUERY = 2_000  # characters of a question that are looked at
NO_HOW_TO = "I have no written steps for this yet. Tell me what you would like to do, and I will try to help."
NO_ANSWER = "I can’t answer that right now."


class Assistant:
    def __init__(self, recorder: Recorder, models: Counting) -> None:
        self._recorder, self._models = recorder, models
        self._speaking: Shared[str] = Shared()
        self._summaries = Summaries(recorder, models)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Give up what is being said: nothing of it is recorded, and it is said anew when asked again."""
        await self._speaking.stop()
        await self._summaries.stop()

    def written(self, product: str, written: Sequence[Written]) -> None:
        """After the commit."""

    def acted(self, product: str, session_id: str) -> None:
        """The session has new actions: perhaps the older ones are to be summarised. O(1)."""
        self._summaries.acted(product, session_id)

    # --- behind a nudge --------------------------------------------------------------------------

    async def follow_up(self, product: str, nudge_id: str) -> str:
        """What to say behind an offered nudge's question, recorded as `reply_generated`; the same text again
        for the same nudge. Raises NotFound where no such nudge was offered."""
        async with self._recorder.ledger.reader() as conn:
            nudge = await lookups.nudge(conn, product, nudge_id)
            if nudge is None:
                raise NotFound(f"no nudge {nudge_id!r} was offered in product {product!r}")
            offer = (await reader.read_positions(conn, [nudge["position"]]))[0]
            known = await background.follow_up(conn, offer)
        offered = facts.fact(offer).event
        assert isinstance(offered, events.NudgeOffered)
        if known is not None:
            return known.text or _plain(offered)[0]
        return await self._speaking.run((product, nudge_id), lambda: self._follow_up(product, offer, offered))

    async def _follow_up(self, product: str, offer: Recorded, offered: events.NudgeOffered) -> str:
        session_id = name_in(offer.stream)
        state = (await self._recorder.session(product, session_id)).state
        settings = (await self._recorder.book(product)).rules.config.model
        text, source = _plain(offered)
        how_to, said = offered.message.get("how_to"), Said(None)
        if how_to is not None and settings is not None:
            actions = _recent(state)
            data = {
                "question": offered.message["body"],
                "how_to": how_to,
                "tours": [tour["label"] for tour in offered.message["tours"]],
                "recent_actions": activity.as_data(actions),
            }
            trusted = (how_to, offered.message["body"], *data["tours"])
            sources = Sources(trusted, activity.labels(actions), activity.pages(actions))
            said = await asking.grounded(
                self._models, product, settings, prompts.prompt(prompts.FOLLOW_UP, data), sources
            )
            if said.text is not None:
                text, source = said.text, "model"
        event = _reply("follow_up", text, source, said, nudge_id=offer.event_id)

        async def look() -> tuple[int, events.ReplyGenerated | None]:
            async with self._recorder.ledger.reader() as conn:
                read = await background.version(conn, product, session_id)
                return read, await background.follow_up(conn, offer)

        def make(read: int) -> UnmovedJob:
            return self._job(product, session_id, event, f"follow_up\0{offer.event_id}", state.user_id, read)

        recorded = await once.settle(self._recorder, make, look, event)
        return recorded.text or text

    # --- in the chat -----------------------------------------------------------------------------

    async def reply(self, product: str, session_id: str, query: str) -> str:
        """An answer to a user's chat message that was recorded already; recorded as `reply_generated`.

        The same question again within two seconds has the same answer.
        """
        key = (product, session_id, query)
        return await self._speaking.run(key, lambda: self._reply(product, session_id, query))

    async def _reply(self, product: str, session_id: str, query: str) -> str:
        state = (await self._recorder.session(product, session_id)).state
        config = (await self._recorder.book(product)).rules.config
        async with self._recorder.ledger.reader() as conn:
            known = await background.read(conn, product, session_id)
        now = self._recorder.clock.now()
        for at, reply in known.replies:
            if reply.purpose == "reply" and reply.query == query and now - at <= REPEATED and reply.text:
                return reply.text
        pieces = knowledge.choose(config, query)
        said = Said(None)
        if config.model is not None:
            prompt, sources = _asked(config, state, known, pieces, query)
            said = await asking.grounded(self._models, product, config.model, prompt, sources)
        if said.text is not None:
            text, source = said.text, "model"
        elif pieces and pieces[0].score >= knowledge.ENOUGH:
            text, source = pieces[0].text, "how_to"
        else:
            text, source = " ".join(filter(None, (NO_ANSWER, activity.doing(state.actions)))), "fixed"
        event = _reply("reply", text, source, said, query=query)
        key = f"reply\0{query}"
        job = NoteJob(
            product,
            self._recorder.clock.new_id(),
            session_id=session_id,
            event=event,
            key=key,
            user_id=state.user_id,
        )
        await self._recorder.submit(job)
        return text

    # --- for others to read ----------------------------------------------------------------------

    async def context(self, product: str, session_id: str) -> str:
        """The session for a model or a person to read: summary of what is old, then recent actions; never
        empty where the session has any action. Empty for a session that nobody saw.

        The last ten explicit events and an open offer, with why it was made, come behind it.
        """
        return await contexts.told(self._recorder, self._summaries, product, session_id)

    # --- inside ----------------------------------------------------------------------------------

    def _job(
        self, product: str, session_id: str, event: events.Engine, key: str, user_id: str | None, read: int
    ) -> UnmovedJob:
        return UnmovedJob(
            product,
            self._recorder.clock.new_id(),
            session_id=session_id,
            event=event,
            key=key,
            user_id=user_id,
            read=read,
        )


def _reply(
    purpose: str,
    text: str,
    source: str,
    said: Said,
    *,
    query: str | None = None,
    nudge_id: str | None = None,
) -> events.ReplyGenerated:
    return events.ReplyGenerated(
        purpose=purpose,
        text=text,
        query=query,
        nudge_id=nudge_id,
        source=source,
        model=said.model,
        prompt_version=said.version,
        tokens=said.tokens,
        failure=said.failure,
    )


def _plain(offered: events.NudgeOffered) -> tuple[str, str]:
    """What is said of a nudge without a model, and where it is from."""
    message = offered.message
    if message.get("how_to") is not None:
        return message["how_to"], "how_to"
    if message["tours"]:
        labels = " or ".join(f"“{tour['label']}”" for tour in message["tours"])
        return f"I have no written steps for this, but I can show you: {labels}.", "fixed"
    return NO_HOW_TO, "fixed"


def _recent(state: SessionState) -> list[ActionFact]:
    return [state.actions[place] for place in range(max(0, len(state.actions) - RECENT), len(state.actions))]


def _asked(
    config: Config, state: SessionState, known: Background, pieces: Sequence[Piece], query: str
) -> tuple[Prompt, Sources]:
    actions = _recent(state)
    summary = known.summary.text if known.summary is not None else None
    before = known.turns[:-1] if known.turns[-1:] == (Turn("user", query),) else known.turns
    turns = [{"role": turn.role, "text": activity.line(turn.text, 500)} for turn in before]
    data = {
        "query": query[:MAX_QUERY],
        "summary": summary,
        "recent_actions": activity.as_data(actions),
        "conversation": turns,
        "knowledge": [{"title": piece.title, "text": piece.text} for piece in pieces],
    }
    names = [config.product_id, *(t.name for t in config.triggers), *(t.user_tour_name for t in config.tours)]
    trusted = (*(f"{piece.title} {piece.text}" for piece in pieces), *names)
    said = (query[:MAX_QUERY], summary or "", *(turn["text"] for turn in turns))
    sources = Sources(trusted, activity.labels(actions), activity.pages(actions), said, strict=False)
    return prompts.prompt(prompts.REPLY, data), sources
