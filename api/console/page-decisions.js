// Decisions, newest first, by trigger and outcome.

import { get } from "./api.js";
import { h, said } from "./dom.js";
import { head, notice, paged } from "./parts.js";
import { go, to } from "./router.js";
import { decisionRow } from "./rows.js";

export async function decisions({ product, query, show, signal }) {
  const { user_id, session_id, trigger_id, outcome, from, to: until } = query;
  const asked = { user_id, session_id, trigger_id, outcome, from, to: until, limit: 50 };
  const first = await get([product, "decisions"], asked, signal);
  const pick = (changes) => go(to([product, "decisions"], { ...query, ...changes }));
  const select = h("select", { "aria-label": "Outcome", on: { change: () => pick({ outcome: select.value }) } },
    [["", "offered or withheld"], ["offered", "offered"], ["withheld", "withheld"]].map(([value, label]) => h("option", { value }, label)));
  select.value = outcome ?? "";
  const chips = Object.entries({ trigger_id, session_id, user_id, from, to: until }).filter(([, value]) => value).map(([name, value]) =>
    h("button", { type: "button", class: "chip", "aria-label": `Without ${name} ${value}`, on: { click: () => pick({ [name]: null }) } }, name.replace("_id", ""), " ", said(value), " ×"));
  if (!first.decisions.length) {
    show("Decisions", head("Decisions", chips, select), notice("No decision",
      "A decision is recorded when a trigger's criteria are met: offered, or withheld by a gate. Silence is not recorded, but it can be asked for at any time.",
      h("a", { href: to([product, "why-not"]) }, "Ask why not")));
    return;
  }
  const list = h("ul", { class: "rows", "aria-label": "Decisions" });
  let next = first;
  const pages = paged(list, async (after) => {
    const page = next ?? await get([product, "decisions"], { ...asked, after }, signal);
    next = null;
    return { nodes: page.decisions.map((row) => decisionRow(product, row)), next: page.next };
  });
  show("Decisions", head("Decisions", chips, select), pages.node);
  await pages.load();
}
