// The keyboard: one place for keys that work on every page.

import { h } from "./dom.js";

const KEYS = [
  ["/", "Search for a session, a user or a decision"],
  ["j  k", "Next and previous item; on a session: next and previous version"],
  ["← →", "On a slider or a plot: one step; Home and End: the ends"],
  ["Enter", "Open the item"],
  ["g l", "Live"],
  ["g s", "Sessions"],
  ["g d", "Decisions"],
  ["g w", "Why not"],
  ["g t", "Triggers"],
  ["g r", "Revisions"],
  ["g b", "Backtests"],
  ["d", "Light, dark or as the system"],
  ["?", "This help"],
  ["Esc", "Close, or leave a field"],
];
const NAVIGATION = { l: "live", s: "sessions", d: "decisions", w: "why-not", t: "triggers", r: "revisions", b: "backtests" };

const typing = (target) => target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]");

/** A page that moves by itself on j and k listens for `console:step` on its elements and prevents the default. */
export function keyboard(main) {
  const help = dialog();
  document.body.append(help);
  let going = false;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing(event.target)) return event.target.blur();
    if (typing(event.target) || help.open) return;
    const after = going;
    going = false;
    if (after && NAVIGATION[event.key]) return document.querySelector(`#bar [data-page="${NAVIGATION[event.key]}"]`)?.click();
    if (event.key === "g") going = true;
    else if (event.key === "j" || event.key === "k") step(main, event.key === "j" ? 1 : -1);
    else if (event.key === "d") document.getElementById("theme")?.click();
    else if (event.key === "?") help.showModal();
    else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search")?.focus();
    }
  });
  document.addEventListener("console:help", () => help.showModal());
}

function step(main, by) {
  const wanted = new CustomEvent("console:step", { detail: by, cancelable: true, bubbles: true });
  if (!(main.querySelector("[data-steps]") ?? main).dispatchEvent(wanted)) return;
  const items = [...main.querySelectorAll("[data-item]")].filter((item) => item.offsetParent !== null);
  const at = items.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : items.length - 1) : Math.max(0, Math.min(items.length - 1, at + by));
  items[next]?.focus();
}

function dialog() {
  const rows = KEYS.map(([keys, does]) =>
    h("tr", {}, h("td", {}, keys.split(/ +/).map((key) => h("kbd", {}, key))), h("td", {}, does)));
  const help = h("dialog", { class: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keys"),
    h("table", {}, h("tbody", {}, rows)),
    h("button", { type: "button", on: { click: () => help.close() } }, "Close"));
  return help;
}
