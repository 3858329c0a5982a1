// A decision with everything that is known about it; also one that a backtest came to.

import { address, get, left } from "./api.js";
import { h, put } from "./dom.js";
import { explained } from "./explanation.js";
import { mishap } from "./parts.js";
import { go, to } from "./router.js";
import { strip } from "./tape.js";

export async function decision({ product, given: [id], show, signal }) {
  const told = await get([product, "decisions", id], {}, signal);
  const paper = sessionStrip(product, told, signal);
  show(told.summary, ...explained(product, told, { point: paper.point, strip: paper.node, json: address([product, "decisions", id]) }).filter(Boolean));
}

export async function simulated({ product, given: [job, side, n], show, signal }) {
  const row = await get([product, "backtests", job, "decisions", side, n], {}, signal);
  const told = { ...row, ...row.explanation };
  const paper = sessionStrip(product, told, signal);
  const note = h("p", { class: "simulated" }, "Simulated with the ", side === "candidate" ? "candidate config" : "config in force",
    ". The strip shows what really happened. ", h("a", { href: to([product, "backtests", job]) }, "The backtest"));
  show(`Simulated: ${told.summary}`, note, ...explained(product, told, { point: paper.point, strip: paper.node,
    json: address([product, "backtests", job, "decisions", side, n]) }).filter(Boolean));
}

/** The session's strip with the evidence ringed; `point(ids, keep)` rings others, or with null these again. */
export function sessionStrip(product, told, signal) {
  const node = h("section", { class: "card tape-card mini", "aria-busy": "true" });
  let tape;
  const all = [...new Set(evidence(told.criteria))];
  let kept = all;
  get([product, "sessions", told.session_id, "timeline"], {}, signal).then((timeline) => {
    tape = strip(timeline, (entry) => go(to([product, "sessions", told.session_id], { version: entry.version })), { label: "The session around this decision" });
    put(node, tape.node, all.length ? h("p", { class: "soft" }, "Ringed: the evidence. Point at a finding to see its own.") : null);
    tape.stand(told.at);
    tape.highlight(kept);
  }).catch((error) => {
    if (!left(error)) put(node, mishap(error));
  }).finally(() => node.removeAttribute("aria-busy"));
  const point = (ids, keep = false) => {
    if (keep) kept = ids ?? all;
    tape?.highlight(ids ?? kept);
  };
  return { node, point };
}

function evidence(node) {
  if (!node) return [];
  return [...(node.evidence ?? []), ...(node.conditions ?? []).flatMap(evidence)];
}
