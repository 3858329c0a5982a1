// Sessions, newest first: all of them, those of a user, those in a state.

import { get } from "./api.js";
import { h, put, said } from "./dom.js";
import { head, notice, paged } from "./parts.js";
import { go, to } from "./router.js";
import { decisionRow, sessionRow } from "./rows.js";

const STATES = ["thinking", "proactive_assistance", "reactive_assistance"];

export async function sessions({ product, query, show, signal }) {
  const { user_id: user, state } = query;
  const first = await get([product, "sessions"], { user_id: user, state, limit: 50 }, signal);
  const select = h("select", { "aria-label": "State", on: { change: () => go(to([product, "sessions"], { user_id: user, state: select.value })) } },
    h("option", { value: "" }, "in any state"), STATES.map((name) => h("option", { value: name }, name.replaceAll("_", " "))));
  select.value = state ?? "";
  const title = user ? ["Sessions of ", said(user)] : "Sessions";
  if (!first.sessions.length) {
    show("Sessions", head(title, select), notice(user ? "No session of this user" : "No session", user
      ? "The id may be written otherwise; ids are compared letter by letter."
      : "Sessions appear with their first event.", h("a", { href: to([product, "sessions"]) }, "All sessions")));
    return;
  }
  const list = h("ul", { class: "rows", "aria-label": "Sessions" });
  let next = first;
  const pages = paged(list, async (after) => {
    const page = next ?? await get([product, "sessions"], { user_id: user, state, limit: 50, after }, signal);
    next = null;
    return { nodes: page.sessions.map((row) => sessionRow(product, row)), next: page.next };
  });
  const decided = h("section", { class: "beneath" });
  const whyNot = user && [h("span", { class: "gap" }), h("a", { href: to([product, "why-not"], { user_id: user }) }, "Why not?")];
  show(user ? `Sessions of ${user}` : "Sessions", head(title, select, whyNot), pages.node, decided);
  await pages.load();
  if (!user) return;
  const { decisions } = await get([product, "decisions"], { user_id: user, limit: 50 }, signal);
  put(decided, h("h2", {}, "Decisions for this user"), decisions.length
    ? h("ul", { class: "rows" }, decisions.map((row) => decisionRow(product, row)))
    : h("p", { class: "soft" }, "None was recorded. ", h("a", { href: to([product, "why-not"], { user_id: user }) }, "Ask why not"), "."));
}
