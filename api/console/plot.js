// Plots: stacked columns over time, and bars side by side. Each can be read by keyboard and as a table.

import { h, put, s } from "./dom.js";
import { dayAndTime, table } from "./parts.js";
import { clock, day, instant, number } from "./format.js";
import { linear, numberTicks, tickLabel, timeTicks } from "./scale.js";

const PAD = { left: 34, right: 8, top: 8, bottom: 22 };

/** Draws again whenever the width changes. */
function drawn(draw) {
  const holder = h("div", { class: "plot-room" });
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now < 40 || now === width) return;
    width = now;
    draw(holder, width);
  }).observe(holder);
  return holder;
}

function legend(series) {
  return h("ul", { class: "legend" }, series.map(({ key, label }) => h("li", {}, h("i", { class: `swatch fill-${key}` }), label)));
}

/** What stands under a plot for those who want its numbers. */
function numbers(caption, heads, rows) {
  const holder = h("details", { class: "numbers" }, h("summary", {}, "As a table"));
  holder.addEventListener("toggle", () => holder.open && holder.children.length === 1 && holder.append(table(caption, heads, rows())));
  return holder;
}

/**
 * Columns over time.
 *
 * `series`: [{key, label}], the first at the bottom; `points`: [{at: RFC 3339, <key>: number}], empty buckets
 * left out; `from`, `to`, `bucket`: milliseconds.
 */
export function columns({ title, series, points, from, to, bucket, height = 150 }) {
  const rows = [...points].sort((a, b) => (a.at < b.at ? -1 : 1));
  const total = (row) => series.reduce((sum, { key }) => sum + (row[key] ?? 0), 0);
  const ticks = numberTicks(Math.max(0, ...rows.map(total)));
  const tip = h("output", { class: "tip", "aria-live": "polite" });
  const wording = (row) => `${day(row.at)} ${clock(row.at)}: ${series.map(({ key, label }) => `${label} ${number(row[key] ?? 0)}`).join(", ")}`;
  let chosen = -1;

  const draw = (holder, width) => {
    const x = linear([from, Math.max(to, from + bucket)], [PAD.left, width - PAD.right]);
    const y = linear([0, ticks.at(-1)], [height - PAD.bottom, PAD.top]);
    const wide = Math.max(1.5, x.to(from + bucket) - x.to(from) - 1);
    const { step, ticks: marks } = timeTicks(from, to, width / 90);
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, tabindex: rows.length ? 0 : null, role: "group",
      "aria-roledescription": "plot", "aria-label": `${title}. Left and right read the values.` });
    for (const n of ticks) {
      svg.append(s("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y.to(n), y2: y.to(n) }),
        s("text", { class: "axis", x: PAD.left - 6, y: y.to(n) + 4, "text-anchor": "end" }, number(n)));
    }
    for (const at of marks) {
      const place = x.to(at);
      if (place > width - 20) continue;
      svg.append(s("line", { class: "grid", x1: place, x2: place, y1: PAD.top, y2: height - PAD.bottom + 4 }),
        s("text", { class: "axis", x: place, y: height - 5, "text-anchor": place < PAD.left + 24 ? "start" : "middle" }, tickLabel(at, step)));
    }
    rows.forEach((row) => {
      let sum = 0;
      const left = x.to(Math.max(Date.parse(row.at), from));
      for (const { key } of series) {
        const value = row[key] ?? 0;
        if (!value) continue;
        svg.append(s("rect", { class: `fill-${key}`, x: left, width: wide, y: y.to(sum + value), height: Math.max(1, y.to(sum) - y.to(sum + value)) }));
        sum += value;
      }
    });
    const cursor = s("rect", { class: "cursor", y: PAD.top, height: height - PAD.bottom - PAD.top, width: wide + 4, hidden: true });
    svg.append(cursor);
    const choose = (i) => {
      chosen = i;
      const row = rows[i];
      tip.hidden = !row;
      cursor.toggleAttribute("hidden", !row);
      if (!row) return;
      const left = x.to(Math.max(Date.parse(row.at), from));
      cursor.setAttribute("x", left - 2);
      tip.textContent = wording(row);
      tip.style.setProperty("--x", `${Math.min(width - 90, Math.max(90, left))}px`);
    };
    svg.addEventListener("pointermove", (event) => {
      const at = x.from(event.offsetX);
      choose(nearest(rows, (row) => Math.abs(Date.parse(row.at) + bucket / 2 - at), bucket * 1.5));
    });
    svg.addEventListener("pointerleave", () => choose(-1));
    svg.addEventListener("focus", () => chosen < 0 && choose(rows.length - 1));
    svg.addEventListener("blur", () => choose(-1));
    svg.addEventListener("keydown", (event) => {
      const next = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: rows.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      choose(Math.max(0, Math.min(rows.length - 1, next)));
    });
    put(holder, svg);
    choose(-1);
  };

  return h("figure", { class: "plot" }, h("figcaption", {}, h("b", {}, title), legend(series)),
    h("div", { class: "plot-box" }, drawn(draw), tip, rows.length ? null : h("p", { class: "plot-empty" }, "Nothing in this time")),
    numbers(title, ["From (UTC)", ...series.map(({ label }) => `#${label}`)],
      () => rows.map((row) => [dayAndTime(row.at), ...series.map(({ key }) => number(row[key] ?? 0))])));
}

/** Bars side by side: `rows`: [{label, <key>: number}]; every value is written beside its bar. */
export function bars({ title, series, rows }) {
  const highest = Math.max(1, ...rows.flatMap((row) => series.map(({ key }) => row[key] ?? 0)));
  const bar = (row, { key, label }) => {
    const value = row[key] ?? 0;
    const share = linear([0, highest], [0, 100]).to(value);
    return h("div", { class: "bar", title: `${label}: ${number(value)}` },
      s("svg", { class: "bar-track", width: "100%", height: 10, "aria-hidden": "true" },
        s("rect", { class: `fill-${key}`, width: `${share}%`, height: 10, rx: 2 })),
      h("span", {}, h("span", { class: "quiet" }, `${label}: `), number(value)));
  };
  return h("figure", { class: "plot bars" }, h("figcaption", {}, h("b", {}, title), series.length > 1 ? legend(series) : null),
    h("ul", { class: "bar-rows" }, rows.map((row) => h("li", {}, h("span", { class: "bar-label" }, row.label), h("div", {}, series.map((one) => bar(row, one)))))));
}

/** The index of the row with the least distance, or -1 beyond `most`. */
export function nearest(rows, distance, most) {
  let best = -1;
  let least = most;
  rows.forEach((row, i) => {
    const far = distance(row);
    if (far <= least) [best, least] = [i, far];
  });
  return best;
}

/** Decisions counted by outcome in buckets of so many milliseconds. */
export const bucketed = (rows, from, bucket) => {
  const found = new Map();
  for (const row of rows) {
    const at = from + Math.floor((Date.parse(row.at) - from) / bucket) * bucket;
    const into = found.get(at) ?? { at: instant(at) };
    into[row.outcome] = (into[row.outcome] ?? 0) + 1;
    found.set(at, into);
  }
  return [...found.values()];
};
