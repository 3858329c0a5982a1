"""What people say in Intercom, in our words: an option of a nudge that was chosen, else a chat message.

A tap is known by its button's id, else by its label. Whatever else is said goes to the session of that
conversation; where none is linked to it, or that one was left long ago, to the user's own, which is linked
then: conversations outlive sessions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from api.chat import nudges, options
from api.chat.nudges import Nudge
from api.delivery.intercom import Intercom, option_uuid
from api.ingest import clock
from api.ingest.native import OutsideEvent
from api.vendors.notices import SOURCE, Notice, Said
from domain import events
from domain.envelope import OUTSIDE, session_stream
from domain.instants import MINUTE, SECOND
from domain.session import SessionState
from eventstore import reader
from projections import lookups

if TYPE_CHECKING:
    from api.service import Service

LOOKED_INTO: Final = 5  # sessions of a conversation
LOOKED_BACK: Final = 10  # nudges of each
LEFT_AFTER: Final = 30 * MINUTE  # without an event: another session of the user is more likely meant
UNKNOWN: Final = "no session is linked to the conversation, and none is known of its contact"
DECLINES: Final = ("no", "no thanks", "no, thanks", "no thank you", "not now", "later", "dismiss", "close")


async def take(service: Service, product: str, notice: Notice) -> dict[str, Any]:
    """Record what a notification tells; how much of it was which."""
    told = dict.fromkeys(("options", "messages", "duplicates", "unknown"), 0)
    async with service.ledger.reader() as conn:
        known = await reader.find_ids(conn, product, OUTSIDE, [said.event_id for said in notice.said])
    for said in notice.said:
        told["duplicates" if said.event_id in known else await _take(service, product, notice, said)] += 1
    if told["unknown"]:
        await service.reject(product, [("data.item.id", UNKNOWN)])
    return {"status": "ok", **told}


async def link(service: Service, product: str, session_id: str, conversation_id: str) -> None:
    """The session belongs to the conversation, as its host says. The same again changes nothing."""
    state = (await service.recorder.session(product, session_id)).state
    if state.conversation_id == conversation_id:
        return
    now = service.clock.now()
    linked = events.ConversationLinked(conversation_id, "new")
    item = OutsideEvent(None, linked, session_id, None, now, now, None, None, False, "host", None)
    await service.record_events(product, [item])


async def _take(service: Service, product: str, notice: Notice, said: Said) -> str:
    sessions = await _sessions(service, product, notice)
    if not sessions:
        return "unknown"
    tapped = await _tapped(service, product, sessions, said)
    if tapped is not None:
        nudge, option = tapped
        chosen = await options.choose(
            service,
            product,
            None,
            nudge_id=nudge.nudge_id,
            option_id=option["id"],
            source=SOURCE,
            event_id=said.event_id,
        )
        if chosen.recorded and chosen.tour is None and not declines(option):
            service.following.ask(product, nudge.nudge_id, notice.conversation_id)
        return "options"
    state = await _current(service, product, sessions[0])
    asks = await _asked(service, product, state, said)
    await _message(service, product, state, notice, said)
    if asks is not None:
        service.following.ask(product, asks, notice.conversation_id)
    return "messages"


async def _sessions(service: Service, product: str, notice: Notice) -> list[SessionState]:
    """The sessions of the conversation, the newest first; else the contact's own."""
    async with service.ledger.reader() as conn:
        names = await lookups.sessions_of_conversation(conn, product, notice.conversation_id, LOOKED_INTO)
    if not names and notice.external_id is not None:
        own = await service.user_session(product, notice.external_id)
        names = [own] if own is not None else []
    return [(await service.recorder.session(product, name)).state for name in names]


async def _current(service: Service, product: str, linked: SessionState) -> SessionState:
    """The session in which the user is now."""
    if linked.user_id is None or service.clock.now() - linked.last_event_at <= LEFT_AFTER:
        return linked
    own = await service.user_session(product, linked.user_id)
    return linked if own is None else (await service.recorder.session(product, own)).state


async def _tapped(
    service: Service, product: str, sessions: Sequence[SessionState], said: Said
) -> tuple[Nudge, dict[str, Any]] | None:
    """The nudge and the option that a message is a tap on: by id of any of their nudges; by text of the
    newest that went to Intercom, until one of its options was chosen."""
    offers = [offer for state in sessions for offer in state.offers[-LOOKED_BACK:] if not offer.holdout]
    newest: Nudge | None = None
    for offer in sorted(offers, key=lambda offer: offer.at, reverse=True):
        if newest is not None and said.option is None:
            break
        async with service.ledger.reader() as conn:
            nudge = await nudges.of_id(conn, product, offer.nudge_id)
        if nudge is None:
            continue
        for option in nudge.message["options"]:
            if said.option is not None and said.option in _names(nudge, option):
                return nudge, option
        if newest is None and Intercom.name in nudge.message["channels"]:
            newest = nudge
    if newest is None:
        return None
    words = said.text.strip().casefold()
    for option in newest.message["options"]:
        if str(option["label"]).strip().casefold() == words and not await _answered(service, product, newest):
            return newest, option
    return None


async def _answered(service: Service, product: str, nudge: Nudge) -> bool:
    """Whether an option of the nudge was chosen."""
    async with service.ledger.reader() as conn:
        rows = await reader.read_stream(conn, product, session_stream(nudge.session_id))
    clicks = [row for row in rows if row.position > nudge.position and row.type == events.OptionClicked.TYPE]
    return any(orjson.loads(row.data).get("nudge_id") == nudge.nudge_id for row in clicks)


def _names(nudge: Nudge, option: dict[str, Any]) -> tuple[str, ...]:
    """What the button of an option may be called: by us, by hosts, and by the published builder."""
    made = re.sub("[^a-z0-9]+", "_", str(option["label"]).lower()).strip("_")
    return option_uuid(nudge.nudge_id, str(option["id"])), str(option["id"]), made or "option"


def declines(option: Mapping[str, Any]) -> bool:
    """Whether the option says no, by its id or its label: behind it nothing is said."""
    return any(str(option[name]).strip(" .!").casefold() in DECLINES for name in ("id", "label"))


async def _asked(service: Service, product: str, state: SessionState, said: Said) -> str | None:
    """The nudge to which the message is a question: the one that went to Intercom and is still open."""
    offer = state.open_offer(service.clock.now()) if "?" in said.text else None
    if offer is None:
        return None
    async with service.ledger.reader() as conn:
        nudge = await nudges.of_id(conn, product, offer.nudge_id)
    return offer.nudge_id if nudge is not None and Intercom.name in nudge.message["channels"] else None


async def _message(service: Service, product: str, state: SessionState, notice: Notice, said: Said) -> None:
    """A user's chat message, and the link where the session had none."""
    now = service.clock.now()
    at, _, suspect = clock.corrected(said.at, None, now)
    facts: list[tuple[str | None, events.Outside]] = []
    if state.conversation_id is None or (notice.new and state.conversation_id != notice.conversation_id):
        link = "new" if notice.new else "reply_existing"
        facts.append((f"{said.event_id[:194]}/link", events.ConversationLinked(notice.conversation_id, link)))
    facts.append((said.event_id, events.ChatMessage("user", said.text, notice.conversation_id)))
    user_id = state.user_id or notice.external_id
    raw = str(said.at // SECOND) if said.at is not None else None
    batch = [
        OutsideEvent(name, fact, state.session_id, user_id, now, at, raw, None, suspect, SOURCE, None)
        for name, fact in facts
    ]
    await service.record_events(product, batch)
