// One sentence for each event, in step with the slider.

import { h, put, said } from "./dom.js";
import { clock, span } from "./format.js";
import { decisionLink } from "./parts.js";

const MANY = 400; // events from which on rows out of sight are not laid out

/** `{node, update(entries), select(version)}`; `pick(entry)` when somebody chooses one. */
export function eventList(product, pick) {
  const list = h("ol", { class: "events", tabindex: -1 });
  const rows = new Map();
  let chosen;
  list.addEventListener("click", (event) => {
    const row = event.target.closest("li");
    if (row && !event.target.closest("a")) pick(row.entry);
  });

  function row(entry) {
    const late = entry.late_by_s >= 1 ? `arrived ${span(entry.late_by_s * 1000)} late` : null;
    const item = h("li", { class: `event kind-${entry.kind}` },
      h("button", { type: "button", class: "version", "aria-label": entry.version === null ? entry.text : `Version ${entry.version}: ${entry.text}` }, entry.version ?? "·"),
      h("time", { datetime: entry.at, title: `${entry.at} UTC` }, clock(entry.at)),
      h("span", { class: "sentence" }, said(entry.text),
        late && h("em", {}, late), entry.clock_suspect ? h("em", {}, "its clock could not be believed") : null,
        entry.decision_id && (entry.kind === "offer" || entry.kind === "withheld") ? decisionLink(product, entry.decision_id, "why?") : null));
    item.entry = entry;
    return item;
  }

  /** Rows out of sight have a guessed height until they are near, so one scroll may miss. */
  function reveal(item, tries) {
    const [box, own] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
    if (own.top >= box.top && own.bottom <= box.bottom) return;
    list.scrollTop += own.top - box.top - box.height / 2;
    if (tries) requestAnimationFrame(() => item === chosen && reveal(item, tries - 1));
  }

  return {
    node: list,
    update(entries) {
      rows.clear();
      list.classList.toggle("many", entries.length > MANY);
      put(list, entries.map((entry) => {
        const item = row(entry);
        if (entry.version !== null) rows.set(entry.version, item);
        return item;
      }));
    },
    select(version) {
      chosen?.removeAttribute("aria-current");
      chosen?.classList.remove("chosen");
      chosen = rows.get(version);
      if (!chosen) return;
      chosen.setAttribute("aria-current", "true");
      chosen.classList.add("chosen");
      // Only the list itself scrolls: the page stays where it is.
      reveal(chosen, 6);
    },
  };
}
