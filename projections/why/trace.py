"""What led to a decision and what became of it, step by step: from the raw request to the goal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import orjson

from domain.envelope import OUTSIDE
from domain.instants import MINUTE, SECOND, seconds, text
from projections import delivery_words, facts
from projections.readable import Told
from projections.why.aftermath import Aftermath
from projections.why.asof import Moment
from projections.why.judging import Opinion

Row = dict[str, Any]

VENDORS = frozenset({"intercom", "usertour"})  # sources that speak for a vendor


def lasting(micros: int) -> str:
    """A duration for people: in tenths of a second below a minute, then in minutes."""
    if 0 < micros < SECOND // 10:
        return "less than 0.1 s"
    tenths = round(micros * 10 / SECOND)
    return seconds(tenths * SECOND // 10) if tenths < 600 else f"{round(micros / MINUTE)} min"


def steps(
    moment: Moment, row: Told, data: Row, after: Aftermath, opinion: Opinion | None = None
) -> list[Row]:
    """The trace of a recorded decision, oldest first."""
    met = opinion.proposal if opinion is not None and opinion.proposal is not None else row
    return [
        *_before(moment, met),
        *_met(moment, met, data["trigger_id"]),
        *_judged(row, opinion),
        *_decided(row, data),
        *_afterwards(row, data, after),
    ]


def _step(step: str, row: Told, sentence: str) -> Row:
    kind, _, name = row.stream.partition("-")
    return {
        "step": step,
        "at": text(row.at),
        "text": sentence,
        "event_id": row.event_id,
        "position": row.position,
        "session_id": name if kind == "session" else None,
    }


def _before(moment: Moment, row: Told) -> Iterator[Row]:
    cause = next((r for r in reversed(moment.known) if r.event_id == row.causation_id), None)
    if cause is None or cause.origin != OUTSIDE:
        yield _step("timer", cause or row, _timer(cause)) | {"at": text(row.at)}
        return
    upwards = reversed(moment.known[: cause.version])
    batch = list(itertools.takewhile(lambda r: r.batch_id == cause.batch_id, upwards))
    first = batch[-1]
    trace = f", correlation {first.correlation_id}" if first.correlation_id else ""
    count = "1 event" if len(batch) == 1 else f"{len(batch)} events"
    sentence = f"A request from {first.source} brought {count} of this session{trace}"
    yield _step("request", first, f"{sentence}.") | {"at": text(first.recorded_at)}
    yield _step("event", cause, f"{_happened(cause)}.") | {"at": text(cause.occurred_at)}


def _timer(cause: Told | None) -> str:
    if cause is not None and cause.type == "interaction_timed_out":
        return f"Nobody interacted for {seconds(orjson.loads(cause.data)['timeout'])}: the session timed out."
    return "No event but time: an instant had come at which time alone could change an outcome."


def _happened(row: Told) -> str:
    data = orjson.loads(row.data)
    if row.type != "action":
        return row.type.replace("_", " ").capitalize()
    where = f" on {data['canonical_url']}" if data.get("canonical_url") else ""
    return f"{data['type'].replace('_', ' ').capitalize()} “{data['title']}”{where}"


def _met(moment: Moment, row: Told, trigger_id: str) -> Iterator[Row]:
    """The evaluation by which the criteria were met: the decision's own, or its proposal's."""
    data = orjson.loads(row.data)
    asked = len(data["explanation"]["other_triggers"]) + 1
    count = "1 trigger was" if asked == 1 else f"{asked} triggers were"
    under = row.config_revision or "no config"
    late = data["noticed_at"] - row.at
    noticed = f", noticed {lasting(late)} later" if late > 0 else ""
    trigger = moment.rules.config.trigger(trigger_id)
    name = trigger.name if trigger is not None else trigger_id
    yield _step("evaluation", row, f"{count} evaluated under {under}{noticed}: “{name}” was met.")


def _judged(row: Told, opinion: Opinion | None) -> Iterator[Row]:
    if opinion is None:
        return
    if opinion.proposal is not None:
        until = orjson.loads(opinion.proposal.data)["deadline"]
        yield _step("proposal", opinion.proposal, f"All gates were open; the judge had until {text(until)}.")
    yield _step("judge", opinion.answer or row, opinion.sentence())


def _decided(row: Told, data: Row) -> Iterator[Row]:
    told = data["explanation"]
    closed = [f"{gate['gate']} ({gate['reason']})" for gate in told["gates"] if not gate["open"]]
    if closed:
        yield _step("gates", row, f"Closed: {', '.join(closed)}.")
    else:
        yield _step("gates", row, f"All {len(told['gates'])} gates were open.")
    if row.type != "nudge_offered":
        return
    whom = f"to user {data['user_id']}" if data.get("user_id") else "in this session, its user unknown"
    channels = " and ".join(data["message"]["channels"])
    yield _step("offer", row, f"Offered {whom} by {channels}, open until {text(data['expires_at'])}.")


def _afterwards(offer: Told, data: Row, after: Aftermath) -> list[Row]:
    found: list[tuple[int, Row]] = []  # by position
    for row in after.delivery:
        what = _delivered(row)
        if what is not None:
            found.append((row.position, _step("delivery", row, what)))
    for number, row in enumerate(after.shown):
        tab = orjson.loads(row.data).get("tab_id")
        if tab is not None and number == 0:
            found.append(
                (row.position, _step("claimed", row, f"Tab {tab} was the first to say it shows it."))
            )
        again = " again" if number else ""
        found.append((row.position, _step("shown", row, f"The host reported it shown{again}.")))
    tours = {tour["id"] for tour in data.get("message", {}).get("tours", ())}
    for row in after.responses:
        told = _responded(row, tours, offer.event_id)
        if told is not None:
            found.append((row.position, _step(told[0], row, told[1])))
    goals = after.of("goal_reached")
    if goals:
        took = lasting(goals[0].at - offer.at)
        goal = orjson.loads(goals[0].data)["goal_id"]
        found.append((goals[0].position, _step("goal", goals[0], f"Goal {goal} was reached {took} later.")))
    return [step for _, step in sorted(found, key=lambda pair: pair[0])]


def _delivered(row: Told) -> str | None:
    data = orjson.loads(row.data)
    if row.type == "nudge_delivered" and data.get("attempt") is None:
        count = data["connections"]
        to = "1 connection" if count == 1 else f"{count} connections"
        return f"Sent by {data['channel']} to {to} of the user."
    told = delivery_words.step(facts.fact(row).event)
    if told is not None:
        return f"{told[:1].upper()}{told[1:]}."
    if row.type == "nudge_closed" and data["reason"] == "superseded":
        return "A newer nudge to this user took its place."
    return None  # answered or dismissed: what closed it says so itself


def _responded(row: Told, tours: set[str], nudge_id: str) -> tuple[str, str] | None:
    data = orjson.loads(row.data)
    match row.type:
        case "option_clicked":
            return "answer", f"The user chose option {data['option_id']}{_by(row)}."
        case "nudge_dismissed":
            by = {"user": "The user put it away", "timeout": "It went away by itself"}.get(data.get("by"))
            return "answer", f"{by or 'It was put away'}."
        case "tour_started":
            name = data.get("registry_id") or data["tour_id"]
            own = name in tours or row.correlation_id == nudge_id  # of an option, whose tour is named there
            offered = "" if own else ", not one that this nudge offered"
            return "tour", f"Tour {name} began{offered}{_by(row)}."
        case "tour_ended":
            outcome = data.get("outcome") or "over"
            return "tour", f"Tour {data.get('registry_id') or data['tour_id']} ended: {outcome}{_by(row)}."
        case "chat_message":
            return "chat", f"The user wrote in the chat{_by(row)}."
        case _:
            return None


def _by(row: Told) -> str:
    """Which vendor told of it, where one did."""
    return f" (told by {row.source})" if row.source in VENDORS else ""
