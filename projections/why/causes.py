"""Causes outside the trigger: what else may be why a nudge was, or was not, seen.

A support person asks "why did this user not get that nudge", and half of the answers lie in no criterion:
events that came late or not at all, another user id, nobody who listened, a page that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from domain.decide import tour_fits
from domain.envelope import PRODUCT_STREAM
from domain.instants import text
from domain.triggers import Verdict
from projections.readable import Told
from projections.why import circumstances, deliveries, judged
from projections.why.aftermath import Aftermath
from projections.why.asof import Asking, Moment
from projections.why.circumstances import Cause, ids
from projections.why.trace import lasting

ANSWERS = ("option_clicked", "nudge_dismissed", "tour_started", "chat_message")


async def of_silence(asking: Asking, moment: Moment, trigger_id: str, blocked_by: str | None) -> list[Cause]:
    """Why nothing was decided about a trigger at that instant."""
    product = await asking.inputs.rows(PRODUCT_STREAM)
    return [
        *_config(moment, trigger_id, blocked_by),
        *circumstances.activity(moment),
        *circumstances.nearby(moment, trigger_id),
        *_not_evaluated(moment, blocked_by),
        *_around(asking, moment, trigger_id, product),
        *await circumstances.unapplied(asking, moment),
    ]


async def of_decision(
    asking: Asking, moment: Moment, row: Told, data: Mapping[str, Any], after: Aftermath
) -> list[Cause]:
    """What else is to be known of a recorded decision."""
    product = await asking.inputs.rows(PRODUCT_STREAM)
    found: list[Cause] = []
    if row.type == "nudge_offered":
        found += _offer(asking, row, data, after)
    elif data["reason"] == "missed":
        late = lasting(data["noticed_at"] - row.at)
        told = f"It was due at {text(row.at)}, but noticed {late} later: too late for anybody to see it."
        found.append(Cause("missed", told))
    found += _around(asking, moment, data["trigger_id"], product)
    return [*found, *await circumstances.unapplied(asking, moment)]


def _around(asking: Asking, moment: Moment, trigger_id: str, product: Sequence[Told]) -> Iterator[Cause]:
    """What holds for silence and for decisions."""
    yield from _outranked(moment, moment.verdict(trigger_id))
    yield from _pages(moment, trigger_id)
    yield from circumstances.arrivals(moment)
    yield from circumstances.users(asking, moment)
    yield from circumstances.failures(moment, product)
    yield from _changes(asking, moment, trigger_id)


# --- the config --------------------------------------------------------------------------------------


def _config(moment: Moment, trigger_id: str, blocked_by: str | None) -> Iterator[Cause]:
    if blocked_by == "no_config":
        first = moment.product.revisions[:1]
        then = f"; the first came at {text(first[0].at)}" if first else ""
        yield Cause("no_config", f"The product had no config at {text(moment.at)}{then}.")
    elif blocked_by == "unknown_trigger":
        yield Cause("unknown_trigger", f"No revision of this product's config ever had “{trigger_id}”.")
    elif blocked_by == "trigger_not_in_revision":
        revisions = moment.product.revisions
        had = [n for n, r in enumerate(revisions) if judged.raw_trigger(r, trigger_id) is not None]
        number = next((n for n in had if revisions[n].at > moment.at), had[-1])
        other = revisions[number]
        which = f"{other.revision} has it, from {text(other.at)}"
        if other.at <= moment.at and number + 1 < len(revisions):
            which = f"{other.revision} had it, until {text(revisions[number + 1].at)}"
        force = moment.revision.revision if moment.revision is not None else "no config"
        yield Cause("trigger_not_in_revision", f"{force} was in force, without “{trigger_id}”; {which}.")


def _changes(asking: Asking, moment: Moment, trigger_id: str) -> Iterator[Cause]:
    then = moment.engine
    if then is not None and then != asking.engine:
        same = then.partition("-")[0] == asking.engine.partition("-")[0]
        effect = "decisions should come out the same" if same else "decisions may come out otherwise"
        told = f"The engine has changed since: {then} decided then, {asking.engine} runs now; {effect}."
        yield Cause("engine_changed", told)
    current = moment.product.current
    before, now = judged.raw_trigger(moment.revision, trigger_id), judged.raw_trigger(current, trigger_id)
    if current is None or before is None or before == now:
        return
    became = "is no longer in it" if now is None else "reads otherwise"
    told = f"The config has changed since: “{trigger_id}” {became} in {current.revision}, in force now."
    yield Cause("config_changed", told)


# --- the evaluation ----------------------------------------------------------------------------------


def _not_evaluated(moment: Moment, blocked_by: str | None) -> Iterator[Cause]:
    if blocked_by is not None:
        return
    told = (
        "Everything was met, but nothing made the engine look at this instant: a session is evaluated after "
        "each request that brings new events and whenever time alone changes an outcome, not by a config put."
    )
    since = moment.known[-1].at if moment.known else 0
    put = moment.revision if moment.revision is not None and moment.revision.at > since else None
    if put is not None:
        told += f" {put.revision} came into force at {text(put.at)}, after the session's newest event."
    yield Cause("not_evaluated", told)


def _outranked(moment: Moment, verdict: Verdict | None) -> Iterator[Cause]:
    winner = moment.evaluation.winner
    if verdict is None or winner is None or verdict.blocked is None or verdict.blocked.gate != "outranked":
        return
    won = [r for r in moment.decisions if _trigger(r) == winner.trigger.id]
    name = f"“{winner.trigger.name}” ({winner.trigger.id})"
    yield Cause("outranked", f"{name} stands earlier in the config and took the slot.", ids(won))


def _pages(moment: Moment, trigger_id: str) -> Iterator[Cause]:
    trigger = moment.rules.config.trigger(trigger_id)
    if trigger is None or not len(moment.situation.session.actions):
        return
    misfits = [fit["id"] for fit in tour_fits(trigger, moment.situation, moment.rules) if not fit["offered"]]
    for name in misfits:
        tour = moment.rules.config.tour(name)
        wanted = f"a page that contains {tour.page_contains}" if tour is not None else "a registered tour"
        told = f"Tour {name} is not offered here: it wants {wanted}, and the user was elsewhere."
        yield Cause("page_mismatch", told)


# --- an offer ----------------------------------------------------------------------------------------


def _offer(asking: Asking, row: Told, data: Mapping[str, Any], after: Aftermath) -> Iterator[Cause]:
    delivered = [r for r in after.delivery if r.type == "nudge_delivered"]
    seen = after.shown or [r for r in after.responses if r.type != "goal_reached"]
    closed = next((r for r in after.delivery if r.type == "nudge_closed"), None)
    open_still = closed is None and asking.now < data["expires_at"]
    yield from deliveries.causes(row, data, after)
    if "toast" not in data["message"]["channels"] or data.get("user_id") is None:
        return
    if not delivered and not seen:
        user = data["user_id"]
        others = sorted({u for u, _ in asking.listening or ()} - {user})
        told = f"Nobody was connected to the stream of user {user} while it was open."
        if open_still:
            until = text(data["expires_at"])
            told = f"Nobody has connected to the stream of user {user} yet; it is open until {until}."
            if others:
                told += f" Connected are: {', '.join(others[:5])}."
        yield Cause("no_subscriber", told)
    elif not seen:
        told = "It was sent, but the host never reported it shown: perhaps its page was hidden or closed."
        yield Cause("never_shown", told, ids(delivered))
    elif closed is None and not open_still and not after.of(*ANSWERS):
        told = f"It was shown, but nobody answered before it expired at {text(data['expires_at'])}."
        yield Cause("offer_expired", told, ids(after.shown))
    elif closed is not None and orjson.loads(closed.data)["reason"] == "superseded":
        told = f"It was shown, but nobody answered before a newer nudge took its place at {text(closed.at)}."
        yield Cause("superseded", told, ids(after.shown))


def _trigger(row: Told) -> str:
    found: str = orjson.loads(row.data)["trigger_id"]
    return found
