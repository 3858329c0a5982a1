"""Every fact the ledger can hold: frozen values named in the past tense.

Outside events are what hosts send; engine events are what the engine concludes. A class's `TYPE` is its
name in the ledger, `VERSION` its schema version, `PERSONAL` the fields that are stored sealed under the
person's data key. `domain.codec` turns a value into stored data and back.

Instants are microseconds since 1970, durations microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Timings:
    """The resolved timings a session's timers run under; recorded with what starts or changes a timer."""

    session_timeout: int  # µs without interaction after which the session returns to thinking
    session_cooldown: int  # µs after the timeout in which nothing is offered
    offer_timeout: int | None = None  # the offered trigger's own timeout, where the config gives one
    tour_timeout: int | None = None  # of the tour that was started
    tour_cooldown: int | None = None


class Event:
    """Base of every event value."""

    __slots__ = ()
    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    PERSONAL: ClassVar[frozenset[str]] = frozenset()


class Outside(Event):
    """A fact that a host or a vendor sends. `extra` keeps fields this version does not know, sealed."""

    __slots__ = ()


class Engine(Event):
    """A fact that the engine concludes; refused from outside."""

    __slots__ = ()


# --- from outside ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action(Outside):
    """The user did something in the product."""

    TYPE: ClassVar[str] = "action"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"raw_url", "properties", "extra", "body"})

    type: str  # pageview, click, submit, pageleave, or an explicit name
    title: str
    description: str | None = None
    raw_url: str | None = None
    canonical_url: str | None = None
    timestamp_end: int | None = None
    properties: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] | None = None
    # Of a source whose body is turned into a label here: what else that body said, without any input's
    # value, so that a wrong label can be made anew; and the version of the code that made this one.
    body: Mapping[str, Any] | None = None
    labeller: str | None = None


@dataclass(frozen=True, slots=True)
class ChatMessage(Outside):
    """A message in the chat, by the user or by the assistant."""

    TYPE: ClassVar[str] = "chat_message"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"text", "extra"})

    role: str  # user | assistant
    text: str | None = None  # None only where the person was erased
    conversation_id: str | None = None
    timings: Timings | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OptionClicked(Outside):
    """The user chose a quick reply."""

    TYPE: ClassVar[str] = "option_clicked"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    option_id: str
    nudge_id: str | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reaction(Outside):
    """The user reacted to a message."""

    TYPE: ClassVar[str] = "reaction"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    value: str
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TourStarted(Outside):
    """A tour began."""

    TYPE: ClassVar[str] = "tour_started"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    tour_id: str  # registry id or provider flow id, as sent
    step: str | int | None = None
    timings: Timings | None = None
    registry_id: str | None = None  # of the tour in the config in force; added by the service
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TourStep(Outside):
    """A running tour reached a step."""

    TYPE: ClassVar[str] = "tour_step"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    tour_id: str
    step: str | int | None = None
    registry_id: str | None = None  # of the tour in the config in force; added by the service
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TourEnded(Outside):
    """A tour was completed or dismissed."""

    TYPE: ClassVar[str] = "tour_ended"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    tour_id: str
    step: str | int | None = None
    outcome: str | None = None  # completed | dismissed
    timings: Timings | None = None
    registry_id: str | None = None  # of the tour in the config in force; added by the service
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NudgeShown(Outside):
    """A nudge became visible to the user. The first such fact of a nudge claims it for its tab."""

    TYPE: ClassVar[str] = "nudge_shown"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    nudge_id: str
    tab_id: str | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NudgeDismissed(Outside):
    """A nudge was put away, by the user or because nobody answered it."""

    TYPE: ClassVar[str] = "nudge_dismissed"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    nudge_id: str
    tab_id: str | None = None
    by: str | None = None  # user | timeout
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ConversationLinked(Outside):
    """The session belongs to a conversation in a chat system."""

    TYPE: ClassVar[str] = "conversation_linked"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    conversation_id: str
    link: str  # new | reply_existing
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UserIdentified(Outside):
    """The host said who the user is, perhaps who they were before."""

    TYPE: ClassVar[str] = "user_identified"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"email", "traits", "extra"})

    previous_id: str | None = None
    email: str | None = None
    traits: Mapping[str, Any] | None = None
    timezone: str | None = None  # copied out of the traits: limits and quiet hours run on it
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GoalReached(Outside):
    """The user did what a nudge was meant to help with."""

    TYPE: ClassVar[str] = "goal_reached"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"extra"})

    goal_id: str
    extra: Mapping[str, Any] | None = None


# --- from the engine ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NudgeOffered(Engine):
    """Criteria met, every gate open. Its event id is the nudge id and the decision id."""

    TYPE: ClassVar[str] = "nudge_offered"

    trigger_id: str
    user_id: str | None
    noticed_at: int
    expires_at: int
    timings: Timings
    message: Mapping[str, Any]  # what a channel shows: body, tours, options, target, channels
    explanation: Mapping[str, Any]  # the evaluator's own output
    goal: str | None = None


@dataclass(frozen=True, slots=True)
class NudgeWithheld(Engine):
    """Criteria met, a gate closed; once per trigger, gate and episode."""

    TYPE: ClassVar[str] = "nudge_withheld"

    trigger_id: str
    user_id: str | None
    gate: str
    reason: str
    episode: str  # the recorded fact that started the episode
    noticed_at: int
    explanation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NudgeProposed(Engine):
    """Criteria met, every gate open, and a judge is to be heard first. Its event id is the proposal id.

    Until the judge has answered, or `deadline` has come, nothing is offered in the session.
    """

    TYPE: ClassVar[str] = "nudge_proposed"

    trigger_id: str
    user_id: str | None
    noticed_at: int
    deadline: int
    message: Mapping[str, Any]  # what a channel would show
    explanation: Mapping[str, Any]  # the evaluator's own output


@dataclass(frozen=True, slots=True)
class JudgeAnswered(Engine):
    """What the judge made of a proposal, in the session's stream; replay reads it and asks nobody."""

    TYPE: ClassVar[str] = "judge_answered"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"reason"})

    proposal_id: str
    trigger_id: str
    allow: bool | None = None  # None: no usable answer, as if there were none
    reason: str | None = None  # in the judge's words
    model: str | None = None
    prompt_version: str | None = None
    tokens: int | None = None  # prompt and completion together, as the endpoint counted
    failure: str | None = None  # why there is no usable answer


@dataclass(frozen=True, slots=True)
class InteractionTimedOut(Engine):
    """Nobody interacted for longer than the timeout in force; the session is thinking again."""

    TYPE: ClassVar[str] = "interaction_timed_out"

    previous_state: str
    timeout: int  # µs, the timeout that was in force
    cooldown: int  # µs, the cooldown that begins
    noticed_at: int


@dataclass(frozen=True, slots=True)
class BudgetSpent(Engine):
    """An offer, as the user's own stream counts it: per-user limits hold across sessions and servers."""

    TYPE: ClassVar[str] = "budget_spent"

    trigger_id: str
    session_id: str
    nudge_id: str
    offered_at: int
    expires_at: int
    holdout: bool = False  # withheld as holdout: runs the trigger's cooldown, spends no budget


@dataclass(frozen=True, slots=True)
class UserLinked(Engine):
    """What a `user_identified` in some session means for this user's own stream.

    Appended to the stream of the identified user, and to the stream of the anonymous id that was merged
    into it, so that either stream alone says to whom its counters belong.
    """

    TYPE: ClassVar[str] = "user_linked"

    session_id: str | None
    merged_from: str | None = None  # in the identified user's stream: the anonymous id that is now this user
    merged_into: str | None = None  # in the anonymous id's stream: the user it became
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class NudgeDelivered(Engine):
    """A channel handed the nudge over; in `nudge-<id>`."""

    TYPE: ClassVar[str] = "nudge_delivered"

    channel: str
    connections: int | None = None  # of a stream: how many it was sent to
    attempt: int | None = None  # of a channel that is called: which attempt succeeded
    reference: str | None = None  # the vendor's own id of what it made of it


@dataclass(frozen=True, slots=True)
class DeliveryAttempted(Engine):
    """A channel is about to be called; in `nudge-<id>`. Recorded before the call, so that a crash shows."""

    TYPE: ClassVar[str] = "delivery_attempted"

    channel: str
    attempt: int  # from 1
    until: int  # the instant by which the attempt has ended, whatever happened


@dataclass(frozen=True, slots=True)
class DeliveryFailed(Engine):
    """The channel's vendor did not take the nudge, for certain; in `nudge-<id>`.

    Of a frame that the product's own endpoint refused for good (channel `push`) it stands in `product`.
    """

    TYPE: ClassVar[str] = "delivery_failed"

    channel: str
    attempt: int  # 0: nothing was sent, and no attempt was made
    error: str  # what went wrong; nothing of what was sent or answered
    status: int | None = None  # of the vendor's HTTP answer
    retry_at: int | None = None  # None: this was the last attempt


@dataclass(frozen=True, slots=True)
class DeliveryUnknown(Engine):
    """Nobody can say whether the vendor took the nudge; in `nudge-<id>`.

    Asking twice might send it twice, so this is the end, but for a vendor that drops a second message.
    """

    TYPE: ClassVar[str] = "delivery_unknown"

    channel: str
    attempt: int
    error: str
    retry_at: int | None = None  # of such a vendor: when it is asked again


@dataclass(frozen=True, slots=True)
class NudgeClosed(Engine):
    """The nudge is no longer open; in `nudge-<id>`."""

    TYPE: ClassVar[str] = "nudge_closed"

    reason: str  # answered | dismissed | superseded | expired
    session_id: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class ConfigActivated(Engine):
    """A product's config, whole, with the revision that is in force from here on."""

    TYPE: ClassVar[str] = "config_activated"

    revision: str
    config: Mapping[str, Any]  # as parsed, before defaults


@dataclass(frozen=True, slots=True)
class EngineActivated(Engine):
    """The code that decides from here on."""

    TYPE: ClassVar[str] = "engine_activated"

    engine_version: str
    predicates: Mapping[str, str]  # name -> declared version
    tzdata: str


@dataclass(frozen=True, slots=True)
class EvaluationFailed(Engine):
    """The evaluator failed on these facts; the facts are stored all the same."""

    TYPE: ClassVar[str] = "evaluation_failed"

    error: str
    noticed_at: int


@dataclass(frozen=True, slots=True)
class RejectedInput(Engine):
    """A source that cannot be told sent something that could not be stored; in `product`."""

    TYPE: ClassVar[str] = "rejected_input"

    faults: tuple[Mapping[str, str], ...]  # path and detail of each, never a value


@dataclass(frozen=True, slots=True)
class ActionRelabelled(Engine):
    """An action's label was wrong: what it should have said, in the stream of the action's session.

    Fields that are None stay as they were. Decisions taken before this fact keep the label they saw.
    """

    TYPE: ClassVar[str] = "action_relabelled"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"raw_url"})

    action_id: str  # event id of the action
    labeller: str  # the version of the labelling code that gave the new label
    type: str | None = None
    title: str | None = None
    description: str | None = None
    canonical_url: str | None = None
    raw_url: str | None = None
    merged: tuple[str, ...] | None = None  # ids of further events of the same act, not stored themselves


@dataclass(frozen=True, slots=True)
class ReplyGenerated(Engine):
    """What the assistant said, in its session's stream: by a model, or the trigger's own `how_to`."""

    TYPE: ClassVar[str] = "reply_generated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"text", "query"})

    purpose: str  # reply | follow_up
    text: str | None = None  # None only where the person was erased
    query: str | None = None  # what was asked, of a reply
    nudge_id: str | None = None  # of a follow-up
    source: str = "model"  # model | how_to | fixed
    model: str | None = None
    prompt_version: str | None = None
    tokens: int | None = None  # prompt and completion together, as the endpoint counted
    failure: str | None = None  # why no model's answer was used, where one was asked


@dataclass(frozen=True, slots=True)
class SummaryGenerated(Engine):
    """A summary that stands for a session's older actions in what a model is told; in its stream."""

    TYPE: ClassVar[str] = "summary_generated"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"text"})

    replaces: int  # how many actions it stands for, those of the summary before it included
    through: int  # version of the newest of them
    text: str | None = None  # None only where the person was erased
    model: str | None = None
    prompt_version: str | None = None
    tokens: int | None = None


OUTSIDE_TYPES: Mapping[str, type[Outside]] = {
    cls.TYPE: cls
    for cls in (
        Action,
        ChatMessage,
        OptionClicked,
        Reaction,
        TourStarted,
        TourStep,
        TourEnded,
        NudgeShown,
        NudgeDismissed,
        ConversationLinked,
        UserIdentified,
        GoalReached,
    )
}
ENGINE_TYPES: Mapping[str, type[Engine]] = {
    cls.TYPE: cls
    for cls in (
        NudgeOffered,
        NudgeWithheld,
        NudgeProposed,
        JudgeAnswered,
        InteractionTimedOut,
        BudgetSpent,
        UserLinked,
        NudgeDelivered,
        DeliveryAttempted,
        DeliveryFailed,
        DeliveryUnknown,
        NudgeClosed,
        ConfigActivated,
        EngineActivated,
        EvaluationFailed,
        RejectedInput,
        ActionRelabelled,
        ReplyGenerated,
        SummaryGenerated,
    )
}
# Names that are kept for the engine and that later versions will write.
RESERVED_TYPES: frozenset[str] = frozenset({"user_erased"})
TYPES: Mapping[str, type[Event]] = {**OUTSIDE_TYPES, **ENGINE_TYPES}
