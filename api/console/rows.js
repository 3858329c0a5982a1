// Rows of sessions and of decisions, as several pages list them.

import { h, said } from "./dom.js";
import { millis, span } from "./format.js";
import { outcomePill, sessionLink, since, statePill, userLink, when } from "./parts.js";
import { to } from "./router.js";

/** What a session is doing besides its state. */
function doing(row, now) {
  if (row.active_tour_id) return ["in tour ", said(row.active_tour_id)];
  if (row.open_nudge_id) return "a nudge is open";
  if (row.cooldown_until && millis(row.cooldown_until) > now) return `cooling down, ${span(millis(row.cooldown_until) - now)} left`;
  return null;
}

export function sessionRow(product, row, now = Date.now()) {
  return h("li", { class: "row session-row", data: { session: row.session_id } },
    h("a", { class: "cover", href: to([product, "sessions", row.session_id]), data: { item: "" } }, said(row.session_id)),
    statePill(row.current_state), h("span", { class: "who" }, userLink(product, row.user_id)),
    h("span", { class: "soft doing" }, doing(row, now)), h("span", { class: "soft num" }, since(row.last_event_at)));
}

export function decisionRow(product, row) {
  return h("li", { class: `row decision-row outcome-${row.outcome}`, data: { decision: row.decision_id } },
    h("span", { class: "soft num" }, when(row.at)), outcomePill(row.outcome, row.reason),
    h("span", { class: "who" }, sessionLink(product, row.session_id), row.user_id ? [" · ", userLink(product, row.user_id)] : null),
    h("a", { class: "cover sentence", href: to([product, "decisions", row.decision_id]), data: { item: "" } }, said(row.summary)));
}
