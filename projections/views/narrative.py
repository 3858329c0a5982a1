"""Each event as one plain sentence: the timeline that an auditor reads.

Only clear fields come into a sentence, so no key is needed, and erasing a person changes no word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from domain import events
from domain.envelope import name_in
from domain.instants import SECOND, seconds, text
from domain.sentences import GATES
from domain.session import Fact
from domain.triggers import LATE
from projections import delivery_words

_KINDS: Mapping[type[events.Event], str] = {
    events.Action: "action",
    events.ChatMessage: "chat",
    events.ReplyGenerated: "chat",
    events.OptionClicked: "interaction",
    events.Reaction: "interaction",
    events.TourStarted: "tour",
    events.TourStep: "tour",
    events.TourEnded: "tour",
    events.NudgeOffered: "offer",
    events.NudgeWithheld: "withheld",
    events.NudgeShown: "shown",
    events.NudgeDismissed: "dismissed",
    events.InteractionTimedOut: "timeout",
    events.UserIdentified: "identity",
    events.GoalReached: "goal",
    events.ActionRelabelled: "correction",
    events.EvaluationFailed: "failure",
}
_ACTIONS = {
    "click": ("Clicked", "on"),
    "submit": ("Submitted", "on"),
    "pageview": ("Opened", "at"),
    "pageleave": ("Left", "at"),
}


class Known(NamedTuple):
    """What sentences may name beside what the event itself says."""

    triggers: Mapping[str, str]  # names by id
    offers: dict[str, events.NudgeOffered]  # by nudge id, in their order

    def trigger(self, trigger_id: str) -> str:
        return _quoted(self.triggers.get(trigger_id, trigger_id))

    def nudge(self, nudge_id: str | None) -> str:
        """The trigger of a nudge, quoted; "the nudge" where its offer is not known."""
        offer = self.offers.get(nudge_id) if nudge_id is not None else None
        return self.trigger(offer.trigger_id) if offer is not None else "the nudge"

    def option(self, clicked: events.OptionClicked) -> str:
        """The label of a quick reply, quoted; its id where no offer of the session names it."""
        for nudge_id, offer in reversed(self.offers.items()):
            if clicked.nudge_id in (None, nudge_id):
                for option in offer.message.get("options", ()):
                    if option["id"] == clicked.option_id:
                        return _quoted(option["label"])
        return _quoted(clicked.option_id)


def kind(event: events.Event) -> str:
    """The kind of mark that the event is on a timeline."""
    return _KINDS.get(type(event), "other")


def sentence(fact: Fact, stream: str, known: Known, unanswered: bool = False) -> str:
    """The event in one sentence, without a full stop. `unanswered`: a nudge was on without an answer."""
    if isinstance(fact.event, events.InteractionTimedOut):
        return _timeout(fact.event, fact.at, unanswered)
    said = _sentence(fact, stream, known)
    return said[:1].upper() + said[1:]


def _sentence(fact: Fact, stream: str, known: Known) -> str:
    match fact.event:
        case events.Action() as action:
            return _action(action)
        case events.ChatMessage(role=role):
            return f"Chat message by the {role}"
        case events.ReplyGenerated() as reply:
            return _spoken(reply, known)
        case events.SummaryGenerated(replaces=replaces):
            return f"A summary was made of {replaces} {'action' if replaces == 1 else 'actions'}"
        case events.OptionClicked() as clicked:
            return f"Chose {known.option(clicked)}"
        case events.Reaction(value=value):
            return f"Reacted with {_quoted(value)}"
        case events.TourStarted() as tour:
            return f"Started {_tour(tour)}"
        case events.TourStep(step=step) as tour:
            return f"Reached {'the next step' if step is None else f'step {step}'} of {_tour(tour)}"
        case events.TourEnded(outcome=outcome) as tour:
            return f"{(outcome or 'ended').capitalize()} {_tour(tour)}"
        case events.NudgeShown(nudge_id=nudge_id):
            return f"{known.nudge(nudge_id)} was shown"
        case events.NudgeDismissed(nudge_id=nudge_id, by="timeout"):
            return f"{known.nudge(nudge_id)} went away unanswered"
        case events.NudgeDismissed(nudge_id=nudge_id):
            return f"{known.nudge(nudge_id)} was dismissed"
        case events.ConversationLinked(link="new"):
            return "A new conversation began"
        case events.ConversationLinked():
            return "Went on in a conversation that there was already"
        case events.UserIdentified(previous_id=previous):
            before = f", known until now as {_quoted(previous)}" if previous else ""
            return f"Identified as {_quoted(fact.user_id or 'nobody')}{before}"
        case events.GoalReached(goal_id=goal_id):
            return f"Reached the goal {_quoted(goal_id)}"
        case events.NudgeOffered() as offered:
            summary: str | None = offered.explanation.get("summary")
            return (summary or f"Offered {known.trigger(offered.trigger_id)}").removesuffix(".")
        case events.NudgeWithheld(trigger_id=trigger_id, reason=reason):
            return f"Held back {known.trigger(trigger_id)}: {GATES.get(reason, reason)}"
        case events.NudgeProposed(trigger_id=trigger_id):
            return f"{known.trigger(trigger_id)} was put to the judge"
        case events.JudgeAnswered(trigger_id=trigger_id, allow=None, failure=failure):
            return f"The judge gave no answer about {known.trigger(trigger_id)} ({failure or 'unknown why'})"
        case events.JudgeAnswered(trigger_id=trigger_id, allow=allow):
            return f"The judge {'allowed' if allow else 'vetoed'} {known.trigger(trigger_id)}"
        case events.BudgetSpent(trigger_id=trigger_id, holdout=holdout):
            return f"{'A held-out' if holdout else 'An'} offer of {known.trigger(trigger_id)} was counted"
        case events.UserLinked(merged_from=None, merged_into=None):
            return "The user became known"
        case events.UserLinked(merged_from=merged_from, merged_into=merged_into):
            own = name_in(stream)
            return f"{_quoted(merged_from or own)} became {_quoted(merged_into or own)}"
        case events.NudgeDelivered(connections=None):
            return f"{known.nudge(name_in(stream))}: {delivery_words.step(fact.event)}"
        case events.NudgeDelivered(channel=channel, connections=connections):
            pages = "1 open page" if connections == 1 else f"{connections} open pages"
            return f"{known.nudge(name_in(stream))} was sent to {pages} ({channel})"
        case events.DeliveryAttempted() | events.DeliveryFailed() | events.DeliveryUnknown():
            return f"{known.nudge(name_in(stream))}: {delivery_words.step(fact.event)}"
        case events.NudgeClosed(reason=reason):
            return f"{known.nudge(name_in(stream))} was closed: {reason}"
        case events.ConfigActivated(revision=revision):
            return f"Config {revision} came into force"
        case events.EngineActivated(engine_version=engine_version):
            return f"Engine {engine_version} decides from here on"
        case events.EvaluationFailed(error=error):
            return f"The evaluation failed ({error}); the events are stored all the same"
        case events.RejectedInput(faults=faults):
            return f"Input was refused: {len(faults)} {'mistake' if len(faults) == 1 else 'mistakes'}"
        case events.ActionRelabelled() as correction:
            return _correction(correction)
        case other:  # a type that came later: its name says something at least
            return other.TYPE.replace("_", " ")


def _action(action: events.Action) -> str:
    verb, place = _ACTIONS.get(action.type, (f"{action.type.replace('_', ' ')}:", "on"))
    where = f" {place} {_page(action.canonical_url)}" if action.canonical_url else ""
    return f"{verb} {_quoted(action.title)}{where}"


def _spoken(reply: events.ReplyGenerated, known: Known) -> str:
    """What the assistant did, not what it said: that is sealed."""
    did = f"followed up on {known.nudge(reply.nudge_id)}" if reply.purpose == "follow_up" else "answered"
    how = {"model": f"by {reply.model or 'a model'}", "how_to": "with the how-to"}.get(
        reply.source, "with a fixed sentence"
    )
    why = f" (no answer of the model was used: {reply.failure})" if reply.failure is not None else ""
    return f"The assistant {did} {how}{why}"


def _tour(tour: events.TourStarted | events.TourStep | events.TourEnded) -> str:
    return f"the tour {_quoted(tour.registry_id or tour.tour_id)}"


def _timeout(timed_out: events.InteractionTimedOut, at: int, unanswered: bool) -> str:
    who = "Nobody answered" if unanswered else "No interaction"
    until = at + timed_out.cooldown
    cooldown = f"cooldown until {text(until)[11:19]}" if timed_out.cooldown else "no cooldown"
    late = timed_out.noticed_at - at
    noticed = f" (noticed {seconds(late // SECOND * SECOND)} later)" if late > LATE else ""
    return f"{who} for {seconds(timed_out.timeout)}: thinking again, {cooldown}{noticed}"


def _correction(correction: events.ActionRelabelled) -> str:
    changed = [
        said
        for said in (
            f"type {_quoted(correction.type)}" if correction.type else "",
            f"title {_quoted(correction.title)}" if correction.title else "",
            "description" if correction.description else "",
            f"page {_page(correction.canonical_url)}" if correction.canonical_url else "",
        )
        if said
    ]
    return f"An action’s label was corrected: {', '.join(changed) or 'nothing that is shown'}"


def _page(url: str) -> str:
    """The path of a canonical URL; its host where it has none."""
    rest = url.partition("://")[2] or url
    host, _, path = rest.partition("/")
    return f"/{path}" if path else host


def _quoted(words: str) -> str:
    return f"“{words}”"
