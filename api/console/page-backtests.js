// A candidate config over recorded events: written here with its faults as one types, and started.

import { address, ask, get, left, post } from "./api.js";
import { h, put, said, settled } from "./dom.js";
import { editor } from "./editor.js";
import { instant } from "./format.js";
import { lineOf } from "./locate.js";
import { dayAndTime, faults, head, mishap } from "./parts.js";
import { ranges } from "./ranges.js";
import { go, to } from "./router.js";
import { yaml } from "./yaml.js";

export async function backtests({ product, query, show, signal }) {
  const [{ backtests: jobs }, current] = await Promise.all([
    get([product, "backtests"], {}, signal),
    get([product, "config"], {}, signal).catch((error) => {
      if (error.status === 404) return null;
      throw error;
    }),
  ]);
  const candidate = query.config ? (await get([product, "backtests", query.config], {}, signal)).config : null;
  const start = candidate ?? current?.config ?? { schema: 1, product_id: product, triggers: [] };
  const state = h("div", { class: "validity", role: "status" });
  const trouble = h("div");
  const text = editor("Candidate config", (now) => {
    put(state, h("span", { class: "soft" }, "checking …"));
    check(now);
  });
  const check = settled(async (now) => {
    const verdict = await validated(product, now, signal);
    if (verdict === null || now !== text.text()) return;
    draw(state, verdict, now, text);
    button.disabled = !verdict.valid;
  }, 250);
  const range = windowPicker();
  const button = h("button", { type: "button", class: "main", on: { click: async () => {
    button.disabled = true;
    put(trouble);
    try {
      const job = await post([product, "backtests"], { config_text: text.text(), from: instant(range.from()), to: instant(range.to()) }, { signal });
      go(to([product, "backtests", job.backtest_id]));
    } catch (error) {
      if (!left(error)) put(trouble, mishap(error));
      button.disabled = false;
    }
  } } }, "Run the backtest");
  const reset = h("button", { type: "button", on: { click: () => text.write(yaml(current.config)) } }, "Load the config in force");
  show("Backtests", head("Backtests"),
    h("p", { class: "lead soft" }, "The candidate and the config in force are simulated over the same recorded events, with sessions, cooldowns and limits. Nothing is sent, and nothing is written to the ledger."),
    h("div", { class: "pair wide-left" },
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Candidate"), h("span", { class: "gap" }), current ? reset : null), text.node, state),
      h("section", {}, h("div", { class: "card" }, h("h2", {}, "Recorded events"), range.node, trouble, button), earlier(product, jobs))));
  text.write(yaml(start));
}

/** `{valid, …}`, or null once the page was left. */
async function validated(product, text, signal) {
  const type = text.trimStart().startsWith("{") ? "application/json" : "application/yaml";
  try {
    return await ask(address([product, "config", "validate"]), { method: "POST", body: text, type, signal });
  } catch (error) {
    return left(error) ? null : { valid: false, error };
  }
}

function draw(state, verdict, now, text) {
  if (verdict.valid) {
    text.mark([]);
    put(state, h("span", { class: "good" }, "✓ valid"), h("span", { class: "soft" }, verdict.in_force ? " the same as the config in force" : ` ${verdict.digest}, not in force`));
    return;
  }
  const list = verdict.error.faults;
  const lines = list.map((fault) => lineOf(now, fault.path));
  text.mark(lines.filter((line) => line !== null));
  put(state, h("span", { class: "bad" }, `✗ ${list.length > 1 ? `${list.length} faults` : list.length ? "1 fault" : verdict.error.message}`),
    faults(list, (fault) => text.reveal(lineOf(text.text(), fault.path) ?? 0)));
}

/** The recorded events to run over: the last day, unless another stretch is picked. */
function windowPicker() {
  let range;
  const node = h("div");
  const draw = (query) => {
    range = ranges(query, draw, { start: "24h" });
    put(node, range.node);
  };
  draw({});
  return { node, from: () => range.from, to: () => range.to };
}

function earlier(product, jobs) {
  if (!jobs.length) return h("div", { class: "card" }, h("h2", {}, "Earlier backtests"), h("p", { class: "soft" }, "None yet. Change the candidate, choose a stretch of time and run it."));
  return h("div", { class: "card" }, h("h2", {}, "Earlier backtests"), h("ul", { class: "rows jobs" }, jobs.map((job) =>
    h("li", { class: "row job-row" }, h("span", { class: `pill job-${job.status}` }, job.status),
      h("a", { class: "cover", href: to([product, "backtests", job.backtest_id]), data: { item: "" } }, said(job.request.config_digest ?? job.backtest_id)),
      h("span", { class: "soft" }, dayAndTime(job.created_at))))));
}
