// Sessions now with their states, and decisions as they fall.

import { follow, get, left } from "./api.js";
import { h, put, throttled } from "./dom.js";
import { instant } from "./format.js";
import { head, notice, statePill } from "./parts.js";
import { bucketed, columns } from "./plot.js";
import { to } from "./router.js";
import { decisionRow, sessionRow } from "./rows.js";

const SHOWN = 60; // rows of each list
const MINUTES = 30; // of the plot
const OUTCOMES = [{ key: "offered", label: "offered" }, { key: "withheld", label: "withheld" }];

export async function live({ product, show, signal }) {
  const since = instant(Date.now() - MINUTES * 60000);
  const [now, last, recent] = await Promise.all([
    get([product, "sessions"], { limit: SHOWN }, signal),
    get([product, "decisions"], { limit: SHOWN }, signal),
    get([product, "decisions"], { from: since, limit: 1000 }, signal),
  ]);
  const lamp = h("span", { class: "connection", role: "status" }, "connecting …");
  const people = h("ul", { class: "rows", "aria-label": "Sessions now" });
  const feed = h("ol", { class: "rows feed", "aria-label": "Decisions as they fall" });
  const chart = h("div", { class: "card" });
  const columnsOf = h("div", { class: "pair live-columns" },
    h("section", {}, h("h2", {}, "Sessions now"), people), h("section", {}, h("h2", {}, "Decisions as they fall"), feed));
  show("Live", head("Live", lamp), chart, columnsOf);

  const listed = (rows) => put(people, rows.length ? rows.map((row) => sessionRow(product, row)) : empty(product));
  const decided = (rows) => put(feed, rows.length ? rows.map((row) => decisionRow(product, row)) : h("li", { class: "empty" },
    "No decision yet. One is recorded when a trigger's criteria are met. Wondering about silence? ", h("a", { href: to([product, "why-not"]) }, "Ask why not"), "."));
  const plot = () => {
    const from = Math.floor(Date.now() / 60000) * 60000 - (MINUTES - 1) * 60000;
    recent.decisions = recent.decisions.filter((row) => Date.parse(row.at) >= from);
    put(chart, columns({ title: `Decisions a minute, last ${MINUTES} minutes`, series: OUTCOMES, points: bucketed(recent.decisions, from, 60000),
      from, to: from + MINUTES * 60000, bucket: 60000, height: 104 }));
  };
  listed(now.sessions);
  decided(last.decisions);
  plot();

  const again = throttled(() => {
    get([product, "sessions"], { limit: SHOWN }, signal).then((page) => keepFocus(people, () => listed(page.sessions)))
      .catch((error) => { if (!left(error)) lamp.title = error.message; });
  }, 2000);
  const replot = throttled(plot, 1000);
  let lost = false;
  /** What fell while nobody listened. */
  const caughtUp = async () => {
    const page = await get([product, "decisions"], { from: instant(Date.now() - MINUTES * 60000), limit: 1000 }, signal);
    recent.decisions = page.decisions;
    if (page.decisions.length) keepFocus(feed, () => decided(page.decisions.slice(0, SHOWN)));
    plot();
  };
  const minute = setInterval(plot, 60000);
  signal.addEventListener("abort", () => clearInterval(minute));
  follow(product, {
    session: (told) => {
      const row = [...people.children].find((child) => child.dataset.session === told.session_id);
      row?.querySelector(".pill")?.replaceWith(statePill(told.current_state));
      again();
    },
    decision: (row) => {
      if (feed.querySelector(`[data-decision="${CSS.escape(row.decision_id)}"]`)) return;
      feed.querySelector(".empty")?.remove();
      const fresh = decisionRow(product, row);
      fresh.classList.add("fresh");
      feed.prepend(fresh);
      while (feed.children.length > SHOWN) feed.lastChild.remove();
      recent.decisions.push(row);
      replot();
    },
  }, (open) => {
    lamp.classList.toggle("on", open);
    put(lamp, open ? "live" : "reconnecting …");
    if (open) again();
    if (open && lost) caughtUp().catch((error) => { if (!left(error)) lamp.title = error.message; });
    lost = !open;
  }, signal);
}

/** Redraws a list; who stood on one of its links still stands there. */
function keepFocus(list, draw) {
  const held = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  draw();
  if (held !== null) [...list.querySelectorAll("a")].find((link) => link.getAttribute("href") === held)?.focus();
}

function empty(product) {
  const command = `curl ${location.origin}/v1/products/${product}/events -d '{"events": [{"type": "action",\n  "session_id": "s_1", "user_id": "u_1",\n  "data": {"type": "click", "title": "Save changes", "raw_url": "https://app.example/projects/1"}}]}'`;
  return h("li", { class: "empty" }, notice("No session yet", "Sessions appear with their first event. Put the script in your page, or post one:", h("pre", {}, h("code", {}, command))));
}
