// The explanation of a decision or of silence, however it was asked for.

import { gates, tree } from "./criteria.js";
import { h, said } from "./dom.js";
import { plain, words } from "./format.js";
import { dayAndTime, facts, fine, outcomePill, section, sessionLink, statePill, table, userLink, verdict } from "./parts.js";
import { to } from "./router.js";
import { steps } from "./trace.js";

/**
 * The whole view of an explanation as nodes.
 *
 * `point(ids, keep)`: rings events on the strip; `json`: the address of the same as JSON; `strip`: a node
 * with the session's strip, shown under the headline.
 */
export function explained(product, told, { point, json, strip } = {}) {
  return [
    headline(product, told, json),
    strip,
    told.would_fire_if?.length ? wouldFire(told) : null,
    causes(told, point),
    h("div", { class: "pair" },
      section("Criteria", tree(told.criteria, point)),
      section("Gates", gates(told.gates, told.blocked_by), others(product, told))),
    told.known_now ? thenAndNow(told, point) : null,
    after(told),
    told.trace?.length ? section("Trace", steps(product, told.trace)) : null,
  ];
}

function version(told) {
  const read = Object.entries(told.read ?? {}).find(([stream]) => stream === `session-${told.session_id}`);
  return read?.[1];
}

function headline(product, told, json) {
  const name = told.name ?? told.trigger_id;
  const at = version(told);
  const engine = told.engine_version_then === told.engine_version_now || !told.engine_version_then
    ? told.engine_version_now : `${told.engine_version_then} then, ${told.engine_version_now} now`;
  return h("header", { class: `verdict-head outcome-${told.outcome}` },
    h("p", { class: "over" }, outcomePill(told.outcome, told.reason), said(name), " ", fine(told.at), h("span", { class: "gap" }), json && h("a", { href: json, target: "_blank", rel: "noopener" }, "JSON")),
    h("h1", {}, said(told.summary)),
    facts([
      ["Session", told.session_id && h("span", {}, sessionLink(product, told.session_id, { version: at }), at ? ` at version ${at}` : null)],
      ["User", userLink(product, told.user_id)],
      ["Trigger", h("a", { href: to([product, "decisions"], { trigger_id: told.trigger_id }) }, said(told.trigger_id))],
      ["Instant", dayAndTime(told.at)],
      ["State", told.state?.current_state && h("span", {}, statePill(told.state.current_state), told.state.cooldown_active ? " cooling down" : null)],
      ["Blocked by", told.blocked_by && words(told.blocked_by)],
      ["Revision", told.config_revision && h("a", { href: to([product, "revisions"], { right: told.config_revision }) }, told.config_revision)],
      ["Reproduced", reproduced(told)],
      ["Engine", engine],
    ]));
}

function reproduced({ outcome, reproduced: same, engine_version_then: then, engine_version_now: now }) {
  if (same === undefined) return null; // a simulation: there is nothing to reproduce
  const changed = then && now && then !== now ? " (by other code than then)" : "";
  if (same === true) return h("span", { class: "good" }, `✓ the same bytes again${changed}`);
  if (same === false) return h("span", { class: "bad" }, `✗ it comes out otherwise now${changed}`);
  return h("span", { class: "soft" }, outcome === "silent" ? "silence is derived, not recorded" : "it cannot be known");
}

function wouldFire(told) {
  return section("What would have made it fire",
    h("ul", { class: "would" }, told.would_fire_if.map((text) => h("li", {}, said(text)))));
}

function causes(told, point) {
  if (!told.causes?.length) return null;
  return section("Outside the trigger", h("ul", { class: "causes" }, told.causes.map((cause) =>
    h("li", { on: point && { pointerenter: () => point(cause.event_ids), pointerleave: () => point(null) } },
      h("b", {}, words(cause.cause)), " ", said(cause.text)))));
}

function others(product, told) {
  const rest = told.other_triggers ?? [];
  if (!rest.length) return null;
  return h("div", {}, h("h3", {}, "The other triggers at that instant"), h("ul", { class: "others" }, rest.map((other) =>
    h("li", {}, verdict(other.verdict),
      h("a", { href: to([product, "why-not"], { session_id: told.session_id, trigger_id: other.trigger_id, at: told.at }) }, said(other.trigger_id)),
      other.outranked ? h("span", { class: "soft" }, "outranked") : null))));
}

/** What was known when it was decided, beside what is known since late events arrived. */
function thenAndNow(told, point) {
  const now = told.known_now;
  const side = (title, one) => h("div", {}, h("h3", {}, title),
    h("p", {}, outcomePill(one.outcome, one.reason), " ", said(one.summary)), one.blocked_by ? h("p", { class: "soft" }, `Blocked by ${words(one.blocked_by)}`) : null, tree(one.criteria, point));
  const late = now.late_events ?? [];
  return section("Known then, known now",
    h("p", { class: "soft" }, `${late.length === 1 ? "One event" : `${late.length} events`} arrived later that happened before this instant. The decision stands on what was known then.`),
    h("div", { class: "pair then-now" }, side("Known then", told), side("Known now", now)));
}

function after(told) {
  if (!told.delivery) return null;
  const { delivery } = told;
  const responses = told.responses ?? [];
  const tours = told.tours ?? [];
  const offered = told.outcome === "offered"; // what was never offered needs no word about its answer
  if (!delivery.length && !responses.length && !tours.length && !offered) return null;
  const rows = (list) => list.map((row) => {
    const { at, type, ...rest } = row;
    return [at ? dayAndTime(at) : "–", words(type ?? row.event ?? ""), said(details(rest))];
  });
  return section(offered || delivery.length || responses.length ? "Delivery and answer" : "Tours",
    delivery.length ? table("Delivery", ["Time (UTC)", "What", "Details"], rows(delivery)) : offered && h("p", { class: "soft" }, "No delivery attempt is recorded: the stream hands a nudge to whoever listens."),
    responses.length ? table("Answers", ["Time (UTC)", "What", "Details"], rows(responses)) : offered && h("p", { class: "soft" }, "Nobody answered."),
    tours.length ? table("Tours", ["Tour", offered ? "Offered" : "Would be offered", "Reason"], tours.map((tour) => [said(tour.id), tour.offered ? "yes" : "no", words(tour.reason)])) : null);
}

// What the head of the page says already.
const KNOWN = ["event_id", "user_id", "nudge_id", "session_id", "position"];

const details = ({ data, ...rest }) => Object.entries({ ...rest, ...data })
  .filter(([name, value]) => value !== null && value !== "" && !KNOWN.includes(name))
  .map(([name, value]) => `${words(name)}: ${plain(value)}`).join(" · ");

