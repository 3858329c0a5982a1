"""Findings and gates as plain sentences that a support person can forward."""

from __future__ import annotations

from domain.finding import Finding
from domain.triggers import Verdict

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
    "missed": "it was noticed too late for anybody to see it",
}


def summary(verdict: Verdict, at: int) -> str:
    """One sentence: offered or not, and why."""
    reasons = "; ".join(leaf for leaf in _leaves(verdict.finding)) or "its criteria were met"
    if verdict.blocked is None and verdict.finding.verdict is True:
        return f"Offered “{verdict.trigger.name}”: {reasons}."
    if verdict.blocked is not None:
        why = GATES.get(verdict.blocked.reason, verdict.blocked.reason)
        return f"Not offered although met: {why} ({reasons})."
    return f"Not offered: {reasons}."


def _leaves(finding: Finding) -> list[str]:
    if finding.conditions:
        return [text for child in finding.conditions for text in _leaves(child)]
    return [leaf(finding)]


def leaf(finding: Finding) -> str:
    """What one leaf saw, in words."""
    name = f"{finding.name}: " if finding.name else ""
    if finding.verdict is None:
        return f"{name}{finding.type} unknown ({finding.detail or 'no reason given'})"
    match finding.type:
        case "count":
            return f"{name}{finding.observed} matching actions ({finding.required} wanted)"
        case "absent":
            return f"{name}{'no' if finding.verdict else finding.observed} matching action"
        case "sequence":
            return f"{name}{finding.observed} of {finding.required}"
        case "current_page":
            page = f"{name}on {finding.observed or 'no page'}"
            return page if finding.verdict else f"{page}, not one that {finding.required}"
        case "action_count":
            return f"{name}{finding.observed} actions ({finding.required} wanted)"
        case "user_page_dwell":
            seen = finding.observed
            if not seen:
                return f"{name}on no page"
            dwelt = f"{seen['seconds']:.0f} s on the page with {seen['actions']} actions"
            return f"{name}{dwelt} ({finding.required})"
        case "canonical_url_ping_pong":
            seen = finding.observed
            return f"{name}{seen['cycles']} returns over {seen['distinct']} pages"
        case "section_playbook_match":
            return f"{name}in section {finding.observed or 'none'}"
        case _:
            return f"{name}{finding.type} {'true' if finding.verdict else 'false'}"
