// Small pieces that several pages share.

import { h, put, said } from "./dom.js";
import { ago, clock, day, moment, words } from "./format.js";
import { to } from "./router.js";

const STATES = { thinking: "thinking", proactive_assistance: "proactive", reactive_assistance: "reactive" };

/** What there is to say where there is nothing to show, and what to do next. */
export function notice(title, text, ...more) {
  return h("section", { class: "notice" }, h("h1", {}, title), text && h("p", {}, said(text)), more);
}

/** An error of the API in words, with its paths. */
notice.of = (error, again) =>
  h("section", { class: "notice failed", role: "alert" },
    h("h1", {}, error.title ?? "Something went wrong"),
    error.message && h("p", {}, said(error.message)),
    faults(error.faults ?? []),
    error.path && h("p", { class: "soft" }, "Asked: ", h("code", {}, said(error.path))),
    again && h("button", { type: "button", on: { click: again } }, "Try again"));

/** An error beside other things, as a line. */
export function mishap(error) {
  return h("div", { class: "mishap", role: "alert" }, h("b", {}, error.title ?? "Something went wrong"), ": ", said(error.message), faults(error.faults ?? []));
}

export function faults(list, pick) {
  const named = list.filter((fault) => fault.path || list.length > 1);
  if (!named.length) return null;
  const path = (fault) => (pick
    ? h("button", { type: "button", class: "path", on: { click: () => pick(fault) } }, said(fault.path || "the whole"))
    : h("code", {}, said(fault.path || "the whole")));
  return h("ul", { class: "faults" }, named.map((fault) => h("li", {}, path(fault), " ", said(fault.detail))));
}

export function head(title, ...beside) {
  return h("div", { class: "head" }, h("h1", {}, title), beside);
}

export function section(title, ...children) {
  return h("section", { class: "card" }, title && h("h2", {}, title), children);
}

export const stateName = (state) => STATES[state] ?? words(state);
export const statePill = (state) => h("span", { class: `pill state-${stateName(state)}` }, stateName(state));
export const outcomePill = (outcome, reason) =>
  h("span", { class: `pill outcome-${outcome}` }, outcome, reason && reason !== "ok" && outcome === "withheld" ? `: ${words(reason)}` : null);

/** A verdict as sign and word: never by colour alone. */
export function verdict(value) {
  const [sign, word] = value === true ? ["✓", "true"] : value === false ? ["✗", "false"] : ["?", "unknown"];
  return h("span", { class: `verdict ${word}`, role: "img", "aria-label": word, title: word }, sign);
}

/** An instant, with its whole text and day in the tooltip. */
export function when(text, style = moment) {
  return text ? h("time", { datetime: text, title: `${text} UTC` }, style(text)) : "–";
}
export const since = (text) => when(text, ago);
export const fine = (text) => when(text, (value) => clock(value, true));
export const dayAndTime = (text) => when(text, (value) => `${day(value)} ${clock(value)}`);

export const sessionLink = (product, id, query) => h("a", { href: to([product, "sessions", id], query) }, said(id));
export const userLink = (product, id) => (id ? h("a", { href: to([product, "sessions"], { user_id: id }) }, said(id)) : h("span", { class: "soft" }, "unknown"));
export const decisionLink = (product, id, text) => h("a", { href: to([product, "decisions", id]) }, text ?? said(id));

/** Terms and what they are; rows without a value are left out. */
export function facts(rows, properties) {
  const told = rows.filter(([, value]) => value !== null && value !== undefined && value !== false);
  return h("dl", { class: "facts", ...properties }, told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A table that scrolls by itself where it is too wide. */
export function table(caption, heads, rows, properties) {
  const cell = (value, i) => h("td", { class: heads[i]?.startsWith("#") ? "num" : null }, value);
  return h("div", { class: "scroll", ...properties },
    h("table", {}, h("caption", { class: "quiet" }, caption),
      h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col", class: name.startsWith("#") ? "num" : null }, name.replace(/^#/, ""))))),
      h("tbody", {}, rows.map((row) => (row instanceof Node ? row : h("tr", {}, row.map(cell)))))));
}

/** A list that is fetched page by page: `more(next)` gives `{nodes, next}`, and the button asks for the next. */
export function paged(list, more) {
  const button = h("button", { type: "button", class: "more" }, "Older");
  const holder = h("div", {}, list, button);
  let next;
  const load = async () => {
    button.disabled = true;
    try {
      const page = await more(next);
      list.append(...page.nodes);
      next = page.next;
      button.hidden = next === null || next === undefined;
    } catch (error) {
      if (error.name !== "AbortError") put(holder, list, mishap(error), button);
    } finally {
      button.disabled = false;
    }
  };
  button.addEventListener("click", load);
  return { node: holder, load };
}
