// What each trigger did in a stretch of time: fired, held back and by what, shown, answered, goal reached.

import { get } from "./api.js";
import { h, said } from "./dom.js";
import { instant, number, percent, span, words } from "./format.js";
import { head, notice, table } from "./parts.js";
import { bars, columns } from "./plot.js";
import { ranges } from "./ranges.js";
import { go, to } from "./router.js";

const OUTCOMES = [{ key: "offered", label: "offered" }, { key: "withheld", label: "withheld" }];
const STEPS = ["offered", "shown", "answered", "dismissed", "goal"];

export async function triggers({ product, query, show, signal }) {
  const range = ranges(query, (changes) => go(to([product, "triggers"], changes)));
  const told = await get([product, "triggers"], { from: instant(range.from), to: instant(range.to) }, signal);
  const frame = { from: Date.parse(told.from), to: Date.parse(told.to), bucket: told.bucket_s * 1000 };
  const title = head("Triggers", range.node);
  if (!told.triggers.length) {
    show("Triggers", title, notice("No trigger", "The config in force has none, and none decided anything in this time.", h("a", { href: to([product, "backtests"]) }, "Try one on recorded events")));
    return;
  }
  show("Triggers", title, totals(product, told), told.triggers.map((row) => one(product, row, told, frame)));
}

const withheld = (row) => Object.values(row.withheld).reduce((sum, n) => sum + n, 0);

function totals(product, told) {
  const rows = told.triggers.map((row) => [
    h("a", { href: `#trigger-${row.trigger_id}`, on: { click: (event) => {
      event.preventDefault();
      document.getElementById(`trigger-${row.trigger_id}`)?.scrollIntoView();
    } } }, said(row.name ?? row.trigger_id)),
    number(row.offered), number(withheld(row)), number(row.shown), number(row.answered), number(row.dismissed), number(row.goal), percent(row.answered, row.offered)]);
  return h("section", { class: "card" }, table("Totals by trigger", ["Trigger", "#offered", "#withheld", "#shown", "#answered", "#dismissed", "#goal", "#answered of offered"], rows),
    h("p", { class: "soft" }, `Columns of ${span(told.bucket_s * 1000)}. Answers and goals count where the offer was made.`));
}

function one(product, row, told, frame) {
  const list = (more) => to([product, "decisions"], { trigger_id: row.trigger_id, from: told.from, to: told.to, ...more });
  const points = row.series.map((point) => ({ ...point, withheld: typeof point.withheld === "object" ? withheld(point) : point.withheld }));
  const held = Object.entries(row.withheld).sort((a, b) => b[1] - a[1]);
  return h("section", { class: "card trigger", id: `trigger-${row.trigger_id}` },
    h("div", { class: "card-head" }, h("h2", {}, said(row.name ?? row.trigger_id)), h("code", { class: "soft" }, said(row.trigger_id)),
      row.in_force ? null : h("span", { class: "pill" }, "not in force"), h("span", { class: "gap" }), h("a", { href: list({}) }, "Decisions"),
      h("a", { href: to([product, "why-not"], { trigger_id: row.trigger_id }) }, "Why not?")),
    h("div", { class: "pair wide-left" },
      columns({ title: "Offered and withheld over time", series: OUTCOMES, points, ...frame }),
      h("div", {},
        bars({ title: "From offer to goal", series: [{ key: "offered", label: "count" }], rows: STEPS.map((name) => ({ label: name, offered: row[name] })) }),
        held.length ? bars({ title: "Withheld by", series: [{ key: "withheld", label: "withheld" }], rows: held.map(([reason, n]) => ({ label: words(reason), withheld: n })) }) : h("p", { class: "soft" }, "Nothing was withheld."))));
}
