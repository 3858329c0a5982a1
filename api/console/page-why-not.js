// Why not: a session, a trigger, a time; and the explanation of what did not happen.

import { address, get, left } from "./api.js";
import { h, put, said, settled } from "./dom.js";
import { explained } from "./explanation.js";
import { instant, millis, moment } from "./format.js";
import { instantField } from "./instant-field.js";
import { head, mishap, notice, statePill } from "./parts.js";
import { go, note, to } from "./router.js";
import { sessionStrip } from "./page-decision.js";

export async function whyNot({ product, query, show, signal }) {
  const { revisions } = await get([product, "config", "revisions"], {}, signal);
  const known = everKnown(revisions);
  const asked = { user_id: query.user_id, session_id: query.session_id, trigger_id: query.trigger_id ?? known[0]?.id, at: query.at ?? "" };
  const answer = h("div", { class: "answer" });
  const sessions = h("div", { class: "choice" });

  const again = (changes) => go(to([product, "why-not"], { ...query, ...changes }));
  const form = h("form", { class: "ask-form", on: { submit: (event) => event.preventDefault() } },
    field("User", h("input", { name: "user", value: asked.user_id ?? "", placeholder: "user id", autocomplete: "off", spellcheck: "false",
      on: { change: (event) => again({ user_id: event.target.value.trim(), session_id: null, at: null }) } })),
    field("Session", h("input", { name: "session", value: asked.session_id ?? "", placeholder: "session id", autocomplete: "off", spellcheck: "false",
      on: { change: (event) => again({ session_id: event.target.value.trim(), at: null }) } })),
    field("Trigger", triggerField(known, asked.trigger_id, (id) => {
      asked.trigger_id = id;
      ask();
    })));
  show("Why not", head("Why not?"), h("section", { class: "card" }, form, sessions), answer);

  if (asked.user_id && !asked.session_id) {
    await choose(product, asked, sessions, signal);
    put(answer);
    return;
  }
  if (!asked.session_id) {
    put(answer, notice("Silence can be asked about", "Name a user or a session, a trigger and a time: the recorded events are evaluated again as of then, and the answer says what stopped it and how close it came."));
    return;
  }
  const ask = settled(() => explain(product, asked, answer, signal), 80);
  const timeline = await get([product, "sessions", asked.session_id, "timeline"], { limit: 1 }, signal);
  form.append(times(timeline, asked, ask));
  ask();
}

const field = (label, control) => h("label", { class: "field" }, h("span", {}, label), control);

/** The triggers of every revision, the newest first: last week's question may be about one that is gone. */
function everKnown(revisions) {
  const found = new Map();
  revisions.forEach(({ config }, age) => {
    for (const { id, builtin, name } of config.triggers ?? []) {
      const own = id ?? builtin;
      if (!found.has(own)) found.set(own, { id: own, name: age ? `${name ?? own}, no longer in force` : name });
    }
  });
  return [...found.values()];
}

function triggerField(known, chosen, changed) {
  const ids = known.map(({ id }) => id);
  const list = chosen && !ids.includes(chosen) ? [{ id: chosen, name: "in no config" }, ...known] : known;
  const select = h("select", { name: "trigger", on: { change: () => changed(select.value) } },
    list.map(({ id, name }) => h("option", { value: id }, name ? `${name} (${id})` : id)));
  select.value = chosen ?? "";
  return select;
}

/** The user's sessions, of which one is to be picked. */
async function choose(product, asked, into, signal) {
  const { sessions, next } = await get([product, "sessions"], { user_id: asked.user_id, limit: 20 }, signal);
  if (!sessions.length) {
    put(into, h("p", { class: "soft" }, "This user has no session. The host may report another id than you have: ",
      h("a", { href: to([product, "sessions"]) }, "look among all sessions"), "."));
    return;
  }
  put(into, h("h2", {}, "Which session?"), h("ul", { class: "chips" }, sessions.map((row) =>
    h("li", {}, h("a", { class: "chip", href: to([product, "why-not"], { ...asked, session_id: row.session_id }), data: { item: "" } },
      said(row.session_id), " ", statePill(row.current_state), " ", h("small", {}, `until ${moment(row.last_event_at)}`))))),
    next && h("p", {}, h("a", { href: to([product, "sessions"], { user_id: asked.user_id }) }, "Earlier sessions of this user")));
}

/** A slider over the session's time and a field for an exact instant; at the slider's end: now. */
function times(timeline, asked, ask) {
  const start = Math.floor(millis(timeline.from));
  const end = Date.now();
  const given = asked.at ? millis(asked.at) : NaN; // one that cannot be read is refused by the service, in words
  const value = Number.isNaN(given) ? end : Math.min(end, given);
  const exact = instantField("Time", (ms) => set(ms), 23);
  const slider = h("input", { type: "range", min: 0, max: 1000, step: 1, "aria-label": "Time", on: { input: () => set(start + (Number(slider.value) / 1000) * (sliderEnd - start)) } });
  // Long after a session's end nothing moves: the slider ends ten minutes after the newest event.
  const sliderEnd = Math.min(end, millis(timeline.to) + 600000);
  const now = h("button", { type: "button", on: { click: () => set(null) } }, "Now");
  const set = (ms) => {
    asked.at = ms === null ? "" : instant(Math.min(ms, Date.now()));
    write(ms ?? Date.now());
    ask();
  };
  const write = (ms) => {
    exact.set(ms);
    slider.value = Math.round(((ms - start) / Math.max(1, sliderEnd - start)) * 1000);
    slider.setAttribute("aria-valuetext", `${instant(ms).slice(0, 19).replace("T", " ")} UTC`);
  };
  write(value);
  return h("div", { class: "field time-field" }, h("span", {}, "Time (UTC)"), h("div", {}, slider, exact.node, now));
}

async function explain(product, asked, answer, signal) {
  note({ trigger_id: asked.trigger_id, at: asked.at });
  const query = { trigger_id: asked.trigger_id, at: asked.at };
  answer.setAttribute("aria-busy", "true");
  const [id, at] = [asked.trigger_id, asked.at];
  try {
    const told = await get([product, "sessions", asked.session_id, "why-not"], query, signal);
    if (id !== asked.trigger_id || at !== asked.at) return; // another question was asked meanwhile
    const paper = sessionStrip(product, told, signal);
    put(answer, ...explained(product, told, { point: paper.point, strip: paper.node, json: address([product, "sessions", asked.session_id, "why-not"], query) }));
  } catch (error) {
    if (!left(error)) put(answer, mishap(error));
  } finally {
    answer.removeAttribute("aria-busy");
  }
}
