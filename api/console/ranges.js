// Picking a stretch of time: common ones by a click, any other by its ends.

import { h } from "./dom.js";
import { instant, millis } from "./format.js";
import { instantField } from "./instant-field.js";

const HOUR = 3600000;
const COMMON = [["1h", "1 hour", HOUR], ["24h", "24 hours", 24 * HOUR], ["7d", "7 days", 168 * HOUR], ["30d", "30 days", 720 * HOUR]];

/**
 * `{from, to, node}`: milliseconds.
 *
 * The query's `last` names a common stretch up to now, `from` and `to` any other.
 */
export function ranges(query, changed, { start = "7d" } = {}) {
  const own = query.from || query.to;
  const name = own ? null : COMMON.some(([key]) => key === query.last) ? query.last : start;
  const now = Date.now();
  const common = COMMON.find(([key]) => key === name);
  const from = own ? read(query.from) : now - common[2];
  const to = own ? read(query.to) ?? now : now;
  const picked = { from: from ?? to - 168 * HOUR, to };
  const ends = ["from", "to"].map((end) => {
    const field = instantField(end === "from" ? "From" : "To", (ms) => changed({ from: instant(picked.from), to: instant(picked.to), [end]: instant(ms) }), 16);
    field.set(picked[end]);
    return field.node;
  });
  const node = h("div", { class: "ranges" },
    h("div", { class: "segments", role: "group", "aria-label": "Time" }, COMMON.map(([key, label]) =>
      h("button", { type: "button", "aria-pressed": String(key === name), on: { click: () => changed({ last: key }) } }, label))),
    h("span", { class: "ends" }, ends[0], " to ", ends[1], " UTC"));
  return { ...picked, node };
}

function read(text) {
  const ms = text ? millis(text) : NaN;
  return Number.isNaN(ms) ? null : ms;
}
