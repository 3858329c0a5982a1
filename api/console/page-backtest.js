// A backtest by its id: progress while it runs, then what the candidate would have done beside the config in force.

import { address, get, left, post } from "./api.js";
import { h, put, said } from "./dom.js";
import { number } from "./format.js";
import { dayAndTime, facts, faults, head, mishap } from "./parts.js";
import { to } from "./router.js";
import { compared } from "./backtest-result.js";

const POLL = 400; // milliseconds
const OVER = ["done", "failed", "cancelled"];

export async function backtest({ product, given: [id], show, signal }) {
  let job = await get([product, "backtests", id], {}, signal);
  const progress = h("div", { class: "card" });
  const result = h("div", { class: "stack" });
  const trouble = h("div");
  show(`Backtest ${id}`, heading(product, job), progress, trouble, result);
  const draw = () => {
    put(progress, OVER.includes(job.status) ? over(job) : running(job, cancel));
    if (job.result) put(result, ...compared(product, job));
  };
  const cancel = async () => {
    try {
      job = await post([product, "backtests", id, "cancel"], undefined, { signal });
      draw();
    } catch (error) {
      if (!left(error)) put(trouble, mishap(error));
    }
  };
  draw();
  while (!OVER.includes(job.status) && !signal.aborted) {
    await new Promise((wake) => setTimeout(wake, POLL));
    try {
      job = await get([product, "backtests", id], {}, signal);
      put(trouble);
    } catch (error) {
      if (left(error)) return;
      put(trouble, mishap(error));
    }
    draw();
  }
}

function heading(product, job) {
  const { request } = job;
  return h("div", { class: "stack" }, head("Backtest", h("span", { class: `pill job-${job.status}`, id: "job-status" }, job.status), h("span", { class: "gap" }),
    h("a", { href: to([product, "backtests"], { config: job.backtest_id }) }, "Change its config and run again"),
    h("a", { href: address([product, "backtests", job.backtest_id]), target: "_blank", rel: "noopener" }, "JSON")),
  facts([
    ["From", dayAndTime(request.from)], ["To", dayAndTime(request.to)],
    ["Candidate", h("code", {}, said(request.config_digest))],
    ["In force", request.in_force_revision && h("a", { href: to([product, "revisions"], { right: request.in_force_revision }) }, request.in_force_revision)],
    ["Engine", request.engine_version], ["Positions", `${number(request.from_position)} to ${number(request.to_position)}`], ["Started", dayAndTime(job.created_at)],
  ]));
}

function running(job, cancel) {
  const { done, total, fraction } = job.progress;
  document.getElementById("job-status")?.replaceChildren(job.status);
  return h("div", { class: "progress" }, h("progress", { max: 1, value: fraction ?? 0, "aria-label": "Progress" }),
    h("span", { class: "num" }, `${Math.round((fraction ?? 0) * 100)} %`), h("span", { class: "soft" }, `${number(done)} of ${number(total)} events`),
    h("button", { type: "button", on: { click: cancel } }, "Cancel"));
}

function over(job) {
  const status = document.getElementById("job-status");
  status?.replaceChildren(job.status);
  if (status) status.className = `pill job-${job.status}`;
  if (job.status === "failed") {
    const error = job.error ?? {};
    return h("div", { class: "mishap", role: "alert" }, h("b", {}, "It failed: "), said(typeof error === "string" ? error : error.detail ?? error.title), faults(error.errors ?? []));
  }
  if (job.status === "cancelled") return h("p", {}, "It was cancelled; nothing is left of it but its request.");
  return h("p", { role: "status" }, "Done ", dayAndTime(job.finished_at), job.result ? `: ${number(job.result.events)} events of ${number(job.result.sessions_seen)} sessions and ${number(job.result.users)} users.` : null);
}
