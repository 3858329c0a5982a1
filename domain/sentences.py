"""Findings and gates as plain sentences that a support person can forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from domain import config
from domain.finding import Finding
from domain.instants import SECOND, seconds
from domain.near.near import Change
from domain.triggers import Gate, Verdict
from domain.words import actions, clock, number, page, quoted, where, window

__all__ = ["GATES", "gate", "leaf", "summary", "where"]

GATES = {
    "state_proactive_assistance": "another nudge was already on",
    "state_reactive_assistance": "the user was in the chat",
    "cooldown_active": "the session was cooling down after a timeout",
    "tour_running": "a tour was running",
    "user_busy": "another session of this user had a nudge on",
    "min_gap": "the last nudge was too recent",
    "limit_reached": "the limit was reached",
    "quiet_hours": "it was in the quiet hours",
    "trigger_cooldown": "this trigger had fired too recently",
    "holdout": "this user is held out for comparison",
    "outranked": "another trigger took the slot",
    "judge_pending": "the judge was being asked",
    "judge_vetoed": "the judge vetoed it",
    "judge_timeout": "the judge had not answered in time",
    "trigger_not_in_revision": "the config lost this trigger while the judge was being asked",
    "missed": "it was noticed too late for anybody to see it",
}


def summary(
    verdict: Verdict,
    at: int,
    near: Sequence[Change] = (),
    winner: Verdict | None = None,
    lookback: int | None = None,
) -> str:
    """One sentence: offered or not, why, and the smallest change that would have made it so.

    `winner`: who took the slot; without it an outranked trigger knows its winner by id only. `lookback`: µs
    of the context window.
    """
    name, held = verdict.trigger.name, verdict.blocked
    reasons = _reasons(verdict.finding, verdict.trigger.criteria, lookback)
    why = "; ".join(reasons) or "its criteria were met"
    if verdict.finding.verdict is not True:
        return f"Not offered: {why}{_nearest(near, verdict.trigger.criteria, reasons)}."
    if held is None:
        return f"Offered {quoted(name)}: {why}."
    return f"Not offered although met: {gate(held, at, winner)} ({why}){_nearest(near)}."


def gate(closed: Gate, at: int, winner: Verdict | None = None) -> str:
    """What held a nudge back, until when and by whom, as far as the gate knows."""
    until = f"until {clock(closed.reopens, at)}" if closed.reopens is not None else ""
    match closed.reason:
        case "cooldown_active" if until:
            return f"the session was cooling down {until} after a timeout"
        case "limit_reached":
            return _limit(closed, until)
        case "judge_vetoed" | "judge_timeout" if until:
            return f"{GATES[closed.reason]}, which holds {until}"
        case "outranked":
            return f"{_rival(closed, winner)} took the slot"
    told = GATES.get(closed.reason, closed.reason)
    return f"{told}, {until}" if until else told


def _limit(closed: Gate, until: str) -> str:
    period = closed.episode.partition(" ")[0]
    if period == "session,":
        return "the limit per session was reached"
    if not until:
        return "the limit per user was reached"
    return f"the limit per user and {period} was reached, {until}"


def _rival(closed: Gate, winner: Verdict | None) -> str:
    if winner is not None:
        return quoted(winner.trigger.name)
    trigger_id, instant, _ = closed.episode.rpartition("@")
    return quoted(trigger_id) if instant else "another trigger"


def _nearest(near: Sequence[Change], node: config.Node | None = None, reasons: Sequence[str] = ()) -> str:
    """The first change as the sentence's end. Which actions it means is not said a second time."""
    if not near:
        return ""
    text = near[0].text
    for which in _named(node) if len(reasons) == 1 else ():
        if which in reasons[0] and f" more {which}" in text:
            text = text.replace(f" {which}", "", 1)
    if text.startswith(("after ", "if ", "without ")):
        return f"; it would have fired {text}"
    done, provided, proviso = text.partition(", if ")
    return f"; {done} would have fired it{provided}{proviso}"


def _named(node: config.Node | None) -> Iterator[str]:
    """The actions that the counts of the criteria are about."""
    match node:
        case config.Group():
            for child in node.conditions:
                yield from _named(child)
        case config.Count():
            yield where(node.where)


# --- why a finding came out as it did -----------------------------------------------------------------


def _reasons(finding: Finding, node: config.Node, lookback: int | None) -> list[str]:
    """The leaves that made the verdict what it is. Of a brief finding, those that were asked."""
    if not isinstance(node, config.Group):
        return [leaf(finding, node, lookback)]
    below = list(zip(finding.conditions, node.conditions, strict=False))
    match node.operator, finding.verdict:
        case "AND", False | None:
            below = [pair for pair in below if pair[0].verdict is not True]
        case "OR", True:
            below = [pair for pair in below if pair[0].verdict is True]
        case "NOT", False | None:
            below = [pair for pair in below if pair[0].verdict is not False]
    told = [text for found, child in below for text in _reasons(found, child, lookback)]
    if node.operator == "OR" and len(told) > 1 and finding.verdict is not True:
        told = [f"none of these sufficed: {' / '.join(told)}"]
    if node.operator == "NOT" and finding.verdict is False:
        told = [f"{text}, which rules it out" for text in told]
    return told


def leaf(finding: Finding, node: config.Node | None = None, lookback: int | None = None) -> str:
    """What one leaf saw, in words.

    With its config `node` also of what and how far back (`lookback`: µs of the context window); without it
    in the terms of the finding alone.
    """
    name = f"{finding.name}: " if finding.name else ""
    if finding.verdict is None:
        return f"{name}{finding.type} unknown ({finding.detail or 'no reason given'})"
    return name + _seen(finding, node, lookback)


_NODES: Mapping[str, type[config.Leaf]] = {
    "count": config.Count,
    "absent": config.Absent,
    "sequence": config.Sequence,
    "current_page": config.CurrentPage,
    "action_count": config.ActionCount,
    "user_page_dwell": config.Dwell,
    "canonical_url_ping_pong": config.PingPong,
    "section_playbook_match": config.SectionMatch,
    "predicate": config.Predicate,
}


def _seen(finding: Finding, node: config.Node | None, lookback: int | None) -> str:
    seen, met = finding.observed, finding.verdict is True
    match node if type(node) is _NODES.get(finding.type) else None:  # a later config may ask otherwise
        case config.Count() as node:
            return _count(node, seen, met, window(node.within, lookback))
        case config.Absent() as node:
            span = "since the session began" if node.session else window(node.within, lookback)
            told = f"{actions(seen or 'no', where(node.where))} {span}"
            return told if met else f"{told}, none wanted"
        case config.Sequence() as node:
            return _sequence(node, finding, lookback)
        case config.CurrentPage() as node:
            return f"on {seen or 'no page'}" + ("" if met else f" instead of a page that {page(node)}")
        case config.ActionCount() as node:
            return f"{_of(seen, node.at_least, met)} {window(None, lookback)}"
        case config.PingPong() as node:
            told = f"{number(seen['cycles'], 'return')} over {number(seen['distinct'], 'page')}"
            wanted = f"{number(node.min_cycles, 'return')} (A to B to A), or "
            wanted += f"{number(node.hesitation_min_distinct, 'page')}, one of them twice"
            return told if met else f"{told}, where it takes {wanted}"
        case config.Dwell() as node:
            return _dwell(node, seen, met)
        case config.SectionMatch():
            return f"in section {quoted(seen)}" if seen else "in no section that has a playbook row"
        case config.Predicate() as node:
            return f"predicate {quoted(node.predicate)} {'true' if met else 'false'}"
        case _:
            return _bare(finding)


def _of(seen: int, wanted: int, met: bool, which: str = "") -> str:
    """`3 actions` where that was enough, else `2 of 3 actions`."""
    if met:
        return actions(seen, which)
    return f"{seen} of {actions(wanted, which)}"


def _count(node: config.Count, seen: int, met: bool, span: str) -> str:
    which = where(node.where)
    if node.at_most is not None and (met or seen > node.at_most):
        return f"{actions(seen, which)} {span}, at most {node.at_most} wanted"
    return f"{_of(seen, node.at_least or 0, met, which)} {span}"


def _sequence(node: config.Sequence, finding: Finding, lookback: int | None) -> str:
    span = node.within or lookback
    steps = ", then ".join(map(where, node.steps)) + (f" within {seconds(span)}" if span is not None else "")
    if finding.verdict is True:
        return steps
    told = f"{finding.observed} of {len(node.steps)} steps in order: {steps}"
    return f"{told} ({finding.detail})" if finding.detail else told


def _dwell(node: config.Dwell, seen: Any, met: bool) -> str:
    if not seen:
        return "on no page"
    stayed, span = int(seen["seconds"]), seconds(node.threshold)
    if met:
        return f"{stayed} s on the page with {actions(seen['actions'])}"
    if seen["actions"] > node.max_actions:
        return f"more than {actions(node.max_actions)} on the page"
    if seen["seconds"] * SECOND < node.threshold:
        return f"{stayed} of {span} on the page"
    return f"{span} on the page, but the user left it or did nothing more"


def _bare(finding: Finding) -> str:
    """A finding whose config is not at hand."""
    seen, met = finding.observed, finding.verdict is True
    match finding.type:
        case "count":
            return f"{seen} matching actions ({finding.required} wanted)"
        case "absent":
            return f"{seen or 'no'} matching action{'s' if seen > 1 else ''}"
        case "sequence":
            return f"{seen} of {finding.required}"
        case "current_page":
            return f"on {seen or 'no page'}" + ("" if met else f", not one that {finding.required}")
        case "action_count":
            return f"{seen} actions ({finding.required} wanted)"
        case "user_page_dwell":
            if not seen:
                return "on no page"
            return f"{seen['seconds']:.0f} s on the page with {seen['actions']} actions ({finding.required})"
        case "canonical_url_ping_pong":
            return f"{seen['cycles']} returns over {seen['distinct']} pages"
        case "section_playbook_match":
            return f"in section {seen or 'none'}"
        case _:
            return f"{finding.type} {'true' if met else 'false'}"
