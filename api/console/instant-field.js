// A field for an instant, written as the ledger writes it: year first, 24 hours, UTC.

import { h } from "./dom.js";
import { instant } from "./format.js";

const SHAPE = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)Z?$/;

/** Milliseconds of `2026-11-21 10:13` with seconds and their parts as far as given; null for anything else. */
function read(text) {
  const [, date, time] = SHAPE.exec(text.trim()) ?? [];
  const ms = date ? Date.parse(`${date}T${time.length === 5 ? `${time}:00` : time}Z`) : NaN;
  return Number.isNaN(ms) ? null : ms;
}

const write = (ms, to = 19) => instant(ms).slice(0, to).replace("T", " ");

/** `{node, set(ms)}`; `changed(ms)` once somebody wrote an instant. */
export function instantField(label, changed, to = 19) {
  const node = h("input", { type: "text", class: "instant", "aria-label": `${label}, UTC`, size: to + 1, spellcheck: "false", autocomplete: "off",
    on: { change: () => {
      const ms = read(node.value);
      node.setCustomValidity(ms === null ? "Write it as 2026-11-21 10:13:55, in UTC" : "");
      node.reportValidity();
      if (ms !== null) changed(ms);
    } } });
  return { node, set: (ms) => { node.value = write(ms, to); node.setCustomValidity(""); } };
}
