// One nudge from the first request to the goal, step by step.

import { h, said } from "./dom.js";
import { millis, span } from "./format.js";
import { fine, sessionLink } from "./parts.js";

export function steps(product, trace) {
  const start = trace.length ? millis(trace[0].at) : 0;
  return h("ol", { class: "trace" }, trace.map((step, i) => {
    const after = millis(step.at) - (i ? millis(trace[i - 1].at) : start);
    return h("li", { class: `step-${step.step}` },
      h("span", { class: "step" }, step.step),
      h("span", { class: "what" }, said(step.text), where(product, step)),
      h("span", { class: "soft" }, fine(step.at), i && after >= 1 ? ` +${span(after)}` : ""));
  }));
}

function where(product, step) {
  if (!step.position) return null;
  return h("span", { class: "soft" }, ` position ${step.position}`, step.session_id ? [" in ", sessionLink(product, step.session_id)] : null);
}
