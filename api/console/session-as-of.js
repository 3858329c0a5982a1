// A session as of one version: its state, its window, and every trigger's verdict then.

import { h, said } from "./dom.js";
import { clock, count } from "./format.js";
import { tree } from "./criteria.js";
import { dayAndTime, decisionLink, facts, outcomePill, section, statePill, when } from "./parts.js";
import { to } from "./router.js";

const time = (text) => text && when(text, clock);

export function asOf(product, told) {
  const { session: now } = told;
  return [
    section(["As of version ", told.version, " "],
      facts([
        ["State", h("span", {}, statePill(now.current_state), now.cooldown_active ? h("span", { class: "pill state-cooling" }, "cooling down") : null)],
        ["Instant", dayAndTime(told.at)],
        ["Times out at", time(now.timeout_due_at)],
        ["Cooldown until", time(now.cooldown_until)],
        ["Last interaction", time(now.last_interaction_at)],
        ["Tour", now.active_tour_id && said(now.active_tour_id)],
        ["Open nudge", now.open_nudge_id && decisionLink(product, now.open_nudge_id, "its decision")],
        ["Conversation", now.conversation_id && said(now.conversation_id)],
        ["Revision", told.config_revision && h("a", { href: to([product, "revisions"], { right: told.config_revision }) }, told.config_revision)],
      ])),
    section("Triggers", told.triggers.length
      ? h("ul", { class: "verdicts" }, told.triggers.map((one) => trigger(product, told, one)))
      : h("p", { class: "soft" }, "The config in force then has no trigger.")),
    section(["Window ", h("small", {}, count(told.window.length, "action"))], window(told.window)),
  ];
}

function trigger(product, told, one) {
  const ask = to([product, "why-not"], { session_id: told.session.session_id, trigger_id: one.trigger_id, at: told.at });
  return h("li", {}, h("details", {},
    h("summary", {}, outcomePill(one.outcome, one.blocked_by), h("b", {}, said(one.name ?? one.trigger_id)), h("p", {}, said(one.summary))),
    one.criteria ? tree(one.criteria) : null),
  h("a", { class: "ask", href: ask }, one.outcome === "offered" ? "Why?" : "Why not?"));
}

function window(actions) {
  if (!actions.length) return h("p", { class: "soft" }, "Empty: no action lies in the context window at this instant.");
  return h("ol", { class: "window" }, [...actions].reverse().map((action) =>
    h("li", {}, h("time", { datetime: action.occurred_at, title: `${action.occurred_at} UTC` }, clock(action.occurred_at)),
      h("span", {}, h("b", {}, action.type), " ", said(action.title), action.url ? h("span", { class: "soft url" }, said(action.url)) : null))));
}
