// What a backtest came to: candidate and config in force, beside what was really recorded.

import { get, left } from "./api.js";
import { h, put, said } from "./dom.js";
import { clock, count, day, number, words } from "./format.js";
import { dayAndTime, mishap, outcomePill, section, sessionLink, table, userLink, decisionLink } from "./parts.js";
import { bars } from "./plot.js";
import { to } from "./router.js";

const SIDES = [["candidate", "candidate"], ["in_force", "in force"]];
const SERIES = SIDES.map(([key, label]) => ({ key, label }));
const of = (side, name) => side?.[name] ?? 0;
const held = (side) => Object.values(side?.withheld ?? {}).reduce((sum, n) => sum + n, 0);

export function compared(product, job) {
  const { result } = job;
  return [
    h("div", { class: "pair" }, section(null, offers(result)), section(null, withheld(result))),
    section("By trigger", byTrigger(result)),
    section(["Sessions that differ ", h("small", {}, number(result.sessions_differing))], sessions(product, job, result)),
    section(["Displaced ", h("small", {}, number(result.triggers.reduce((sum, row) => sum + row.displaced, 0)))], displaced(product, result)),
    warnings(result),
    result.orphaned ? h("p", { class: "soft" }, `${count(result.orphaned, "recorded answer")} to a nudge that the simulation did not offer: ignored.`) : null,
  ];
}

function warnings({ failed = {}, truncated }) {
  const broken = SIDES.filter(([key]) => failed[key]).map(([key, label]) => `${count(failed[key], "evaluation")} of the ${label} failed`);
  if (truncated) broken.push("there were more simulated decisions than are kept; figures count all of them");
  return broken.length ? h("p", { class: "mishap" }, `${broken.join("; ")}.`) : null;
}

function offers(result) {
  const rows = result.triggers.map((row) => ({ label: said(row.name ?? row.trigger_id), candidate: of(row.candidate, "offered"), in_force: of(row.in_force, "offered") }));
  return bars({ title: "Offers by trigger", series: SERIES, rows: [...rows, { label: "all together", candidate: of(result.candidate, "offered"), in_force: of(result.in_force, "offered") }] });
}

function withheld(result) {
  const reasons = [...new Set(SIDES.flatMap(([key]) => Object.keys(result[key]?.withheld ?? {})))].sort();
  if (!reasons.length) return h("p", { class: "soft" }, "Nothing was withheld on either side.");
  return bars({ title: "Withheld by gate", series: SERIES, rows: reasons.map((reason) => ({ label: words(reason),
    ...Object.fromEntries(SIDES.map(([key]) => [key, result[key]?.withheld?.[reason] ?? 0])) })) });
}

function byTrigger(result) {
  const both = (row, read) => SIDES.map(([key]) => (row[key] ? number(read(row[key])) : "–")).join(" / ");
  const line = (row) => [said(row.name ?? row.trigger_id), both(row, (side) => side.offered), both(row, (side) => side.users), both(row, (side) => side.sessions),
    both(row, held), both(row, (side) => side.goals), row.recorded ? number(row.recorded.offered) : "", row.displaced === undefined ? "" : number(row.displaced)];
  const all = { trigger_id: "all together", candidate: result.candidate, in_force: result.in_force };
  return h("div", {}, h("p", { class: "soft" }, "Each pair: candidate / in force. Recorded: what was really offered then. Displaced: really shown, and the candidate would not have."),
    table("Figures by trigger", ["Trigger", "#offered", "#users", "#sessions", "#withheld", "#goals", "#recorded", "#displaced"], [...result.triggers, all].map(line)));
}

function sessions(product, job, { sessions: rows, sessions_differing: all }) {
  if (!rows.length) return h("p", { class: "soft" }, "None: both offer the same at the same instants.");
  const name = (side, n, id) => (n === null ? said(id) : h("a", { href: to([product, "backtests", job.backtest_id, side, n]) }, said(id)));
  const offered = (row, side) => h("ul", { class: "offers" }, row[side].map(({ n, trigger_id, at }) =>
    h("li", {}, name(side, n, trigger_id), " ", h("span", { class: "soft num" }, `${day(at)} ${clock(at, true)}`))),
  row[side].length ? null : h("li", { class: "soft" }, "nothing"));
  const shown = table("Sessions in which the offers differ", ["Session", "User", "Candidate offers", "In force offers", "All decisions"], rows.map((row) => [
    sessionLink(product, row.session_id), userLink(product, row.user_id), offered(row, "candidate"), offered(row, "in_force"), decisions(product, job, row)]));
  return all > rows.length ? [shown, h("p", { class: "soft" }, `The first ${number(rows.length)} of ${number(all)}.`)] : shown;
}

/** Every simulated decision of one session, fetched when somebody asks. */
function decisions(product, job, row) {
  const into = h("div");
  const holder = h("details", {}, h("summary", {}, "show"), into);
  const load = async () => {
    try {
      const pages = await Promise.all(SIDES.map(([side]) => get([product, "backtests", job.backtest_id, "decisions"], { side, session_id: row.session_id, limit: 50 })));
      put(into, pages.map(({ decisions: listed }, i) => h("div", {}, h("b", {}, SIDES[i][1]), h("ul", { class: "offers" }, listed.map((one) =>
        h("li", {}, outcomePill(one.outcome, one.reason), " ", h("a", { href: to([product, "backtests", job.backtest_id, SIDES[i][0], one.n]) }, said(one.summary))))))));
    } catch (error) {
      if (!left(error)) put(into, mishap(error));
    }
  };
  holder.addEventListener("toggle", () => holder.open && !into.children.length && load());
  return holder;
}

function displaced(product, result) {
  if (!result.displaced.length) return h("p", { class: "soft" }, "None: whatever was really shown, the candidate would have shown too.");
  return table("Nudges that were shown and would not have been", ["Time (UTC)", "Trigger", "Session", "User", "Decision"], result.displaced.map((row) =>
    [dayAndTime(row.at), said(row.trigger_id), sessionLink(product, row.session_id), userLink(product, row.user_id), decisionLink(product, row.nudge_id, "why it was shown")]));
}
