// Criteria as a tree, and gates in their order: what the evaluator saw, leaf by leaf.

import { h, said } from "./dom.js";
import { count, plain, words } from "./format.js";
import { verdict } from "./parts.js";

const GROUPS = { AND: "all of these", OR: "any of these", NOT: "none of these" };

/** The tree; `point(ids)` is called while somebody looks at a finding, with the ids of its evidence. */
export function tree(node, point = () => {}) {
  if (!node) return h("p", { class: "soft" }, "No criteria were evaluated.");
  return h("ul", { class: "tree", "aria-label": "Criteria" }, item(node, point));
}

function item(node, point) {
  if (node.conditions?.length) {
    return h("li", {},
      h("div", { class: "node group" }, verdict(node.verdict), h("b", {}, node.type), h("span", { class: "soft" }, GROUPS[node.type]), node.name && said(node.name)),
      h("ul", {}, node.conditions.map((child) => item(child, point))));
  }
  const evidence = node.evidence ?? [];
  return h("li", {},
    h("div", { class: "node", on: { pointerenter: () => point(evidence), pointerleave: () => point(null) } },
      verdict(node.verdict),
      h("div", { class: "leaf" },
        h("div", {}, h("b", {}, said(node.name ?? words(node.type))), node.name ? h("code", { class: "soft" }, node.type) : null),
        node.text ? h("p", {}, said(unnamed(node))) : null,
        node.detail ? h("p", { class: "soft" }, said(node.detail)) : null,
        h("dl", {},
          h("div", {}, h("dt", {}, "observed"), h("dd", {}, said(plain(node.observed)))),
          h("div", {}, h("dt", {}, "required"), h("dd", {}, said(node.required || "–"))),
          evidence.length ? h("div", {}, h("dt", {}, "evidence"), h("dd", {}, shown(evidence, point))) : null))));
}

/** What a leaf saw, without its name, which stands above already. */
function unnamed({ name, text }) {
  return name && text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
}

function shown(evidence, point) {
  const button = h("button", { type: "button", class: "evidence", "aria-pressed": "false",
    on: { click: () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of document.querySelectorAll(".evidence[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(on));
      point(on ? evidence : null, true);
    }, focus: () => point(evidence), blur: () => point(null) } }, count(evidence.length, "event"));
  return button;
}

/** The gates in order; the first that is closed is marked, because it alone decided. */
export function gates(list, blockedBy) {
  if (!list?.length) {
    return h("p", { class: "soft" }, "No gate was asked: that happens only once the criteria are met.");
  }
  const first = list.findIndex((gate) => !gate.open);
  const own = list.findIndex((gate) => gate.gate === "trigger_cooldown"); // from here on the trigger's own
  return h("ol", { class: "gates" }, list.map((gate, i) =>
    h("li", { class: i === first ? "first closed" : gate.open ? "open" : "closed" },
      h("span", { class: "lamp", "aria-hidden": "true" }), h("b", {}, gate.gate === "limit" ? `limit of the ${own >= 0 && i > own ? "trigger" : "product"}` : words(gate.gate)),
      h("span", {}, gate.open ? "open" : `closed: ${words(gate.reason)}`),
      gate.text && h("span", { class: "soft" }, said(gate.text)),
      i === first ? h("em", {}, "the first that was closed") : null)),
  blockedBy === "outranked" && first < 0 ? h("li", { class: "first closed" }, h("span", { class: "lamp" }), h("b", {}, "outranked"), h("span", {}, "another trigger took the slot")) : null);
}
