// A session: its strip, and a slider that takes the whole page to any version.

import { follow, get, left } from "./api.js";
import { h, put, said, settled, throttled } from "./dom.js";
import { count } from "./format.js";
import { fine, mishap, section, userLink } from "./parts.js";
import { note, to } from "./router.js";
import { asOf } from "./session-as-of.js";
import { eventList } from "./session-events.js";
import { strip } from "./tape.js";
import { legend } from "./tape-marks.js";

export async function session({ product, given: [id], query, show, signal }) {
  let told = await get([product, "sessions", id, "timeline"], {}, signal);
  let entries = anchored(told.entries);
  const first = () => entries.find((row) => row.version !== null)?.version ?? told.version;
  const last = () => told.version;
  const wanted = Number(query.version);
  let version = Number.isInteger(wanted) && wanted > 0 ? Math.min(Math.max(wanted, first()), last()) : last();

  const pick = (entry) => choose(entry.anchor ?? first());
  const tape = strip({ ...told, entries }, pick);
  const list = eventList(product, pick);
  const then = h("div", { class: "as-of", "aria-live": "off" });
  const where = h("output", { class: "where", for: "version" });
  const slider = h("input", { id: "version", type: "range", min: first(), max: last(), step: 1, value: version,
    "aria-label": "Version of the session", on: { input: () => choose(Number(slider.value)) } });
  const fresh = h("button", { type: "button", class: "fresh-note", hidden: true, on: { click: () => choose(last()) } });

  const evaluate = settled(async () => {
    const asked = version;
    try {
      const found = await get([product, "sessions", id, "evaluation"], { version: asked }, signal);
      if (asked === version) put(then, asOf(product, found));
    } catch (error) {
      if (!left(error)) put(then, mishap(error));
    } finally {
      if (asked === version) then.removeAttribute("aria-busy");
    }
  }, 60);

  function choose(wish, { quiet = false } = {}) {
    version = Math.min(Math.max(wish, first()), last());
    const entry = entries.find((row) => row.version === version);
    slider.value = version;
    slider.setAttribute("aria-valuetext", entry ? `Version ${version}: ${entry.text}` : `Version ${version}`);
    put(where, h("b", {}, `Version ${version}`), ` of ${last()} · `, entry ? fine(entry.at) : null);
    tape.select(version);
    list.select(version);
    then.setAttribute("aria-busy", "true");
    if (!quiet) note({ version: version === last() ? null : version });
    evaluate();
  }

  const reload = throttled(async () => {
    try {
      const atEnd = version === last();
      told = await get([product, "sessions", id, "timeline"], {}, signal);
      entries = anchored(told.entries);
      Object.assign(slider, { min: first(), max: last() });
      tape.update({ ...told, entries });
      list.update(entries);
      fresh.hidden = atEnd;
      put(fresh, `${count(last() - version, "newer event")}: to the newest`);
      if (atEnd) choose(last());
      else choose(version, { quiet: true });
    } catch (error) {
      if (!left(error)) put(then, mishap(error));
    }
  }, 700);

  const node = h("div", { class: "session-page", data: { steps: "" }, on: { "console:step": (event) => {
    event.preventDefault();
    choose(version + event.detail);
  } } },
  heading(product, told, entries),
  h("section", { class: "card tape-card" }, tools(tape), tape.node, h("div", { class: "slide" }, step(-1), slider, step(1), where, fresh), legend()),
  h("div", { class: "pair session-columns" }, section("What happened", list.node), then));

  function step(by) {
    return h("button", { type: "button", class: "icon", "aria-label": by < 0 ? "Version before" : "Next version", on: { click: () => choose(version + by) } }, by < 0 ? "‹" : "›");
  }
  show(`Session ${id}`, node);
  list.update(entries);
  choose(version, { quiet: true });
  follow(product, { session: (row) => row.session_id === id && reload() }, () => {}, signal);
}

/** Entries of other streams, such as a delivery, have no version of the session: they stand at the one before. */
function anchored(entries) {
  let anchor = null;
  return entries.map((entry) => {
    anchor = entry.version ?? anchor;
    return { ...entry, anchor };
  });
}

function heading(product, told, entries) {
  const cut = entries.find((entry) => entry.version !== null)?.version > 1;
  return h("div", { class: "head" }, h("h1", {}, "Session ", said(told.session_id)),
    h("span", {}, "user ", userLink(product, told.user_id)),
    cut ? h("span", { class: "soft" }, `the newest ${count(entries.length, "event")}`) : null,
    h("span", { class: "gap" }),
    h("a", { href: to([product, "decisions"], { session_id: told.session_id }) }, "Decisions"),
    h("a", { href: to([product, "why-not"], { session_id: told.session_id }) }, "Why not?"));
}

function tools(tape) {
  const button = (label, name, work) => h("button", { type: "button", class: "icon", "aria-label": name, title: name, on: { click: work } }, label);
  const squeeze = tape.squeezable ? h("label", {}, h("input", { type: "checkbox", checked: true, on: { change: (event) => tape.squeeze(event.target.checked) } }), " shorten idle time") : null;
  return h("div", { class: "tools" }, squeeze, h("span", { class: "gap" }),
    button("←", "Earlier", () => tape.pan(-0.4)), button("→", "Later", () => tape.pan(0.4)),
    button("−", "Zoom out", () => tape.zoom(0.5)), button("+", "Zoom in", () => tape.zoom(2)), button("⤢", "Fit", () => tape.fit()));
}
