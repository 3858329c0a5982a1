// What was searched for: a session, a user or a decision with exactly this id.

import { get } from "./api.js";
import { h, said } from "./dom.js";
import { head, notice } from "./parts.js";
import { go, to } from "./router.js";
import { decisionRow, sessionRow } from "./rows.js";

/** The answer, or null where there is none. */
async function maybe(asked) {
  try {
    return await asked;
  } catch (error) {
    if ([400, 404, 422].includes(error.status)) return null;
    throw error;
  }
}

export async function found({ product, query, show, signal }) {
  const id = query.q ?? "";
  const [session, decision, ofUser] = await Promise.all([
    maybe(get([product, "sessions", id], {}, signal)),
    maybe(get([product, "decisions", id], {}, signal)),
    maybe(get([product, "sessions"], { user_id: id, limit: 50 }, signal)),
  ]);
  const rows = ofUser?.sessions ?? [];
  const hits = [session && to([product, "sessions", id]), decision && to([product, "decisions", id]), rows.length && to([product, "sessions"], { user_id: id })].filter(Boolean);
  if (hits.length === 1) {
    go(hits[0], { replace: true });
    return;
  }
  if (!hits.length) {
    show("Nothing found", notice("Nothing has this id", `No session, user or decision is called “${id}”. Ids are compared letter by letter.`,
      h("a", { href: to([product, "sessions"]) }, "All sessions")));
    return;
  }
  show("Found", head(["Found for ", said(id)]), h("ul", { class: "rows" },
    session && h("li", { class: "row" }, h("a", { href: hits[0], data: { item: "" } }, "The session ", said(id))),
    decision && decisionRow(product, decision), rows.map((row) => sessionRow(product, row))));
}
