// Two revisions of the config side by side.

import { get } from "./api.js";
import { h, put, said } from "./dom.js";
import { difference } from "./diff.js";
import { dayAndTime, head, notice } from "./parts.js";
import { note, to } from "./router.js";
import { yaml } from "./yaml.js";

export async function revisions({ product, query, show, signal }) {
  const { revisions: listed } = await get([product, "config", "revisions"], {}, signal);
  if (!listed.length) {
    show("Revisions", head("Revisions"), notice("No revision yet", "The first is made when a config is put.", h("a", { href: to([product]) }, "Live")));
    return;
  }
  const known = new Map(listed.map((row) => [row.revision, row]));
  const right = known.has(query.right) ? query.right : listed[0].revision;
  const before = listed[listed.findIndex((row) => row.revision === right) + 1]?.revision ?? right;
  const shown = { left: known.has(query.left) ? query.left : before, right };
  const texts = new Map();
  const text = (id) => {
    if (!texts.has(id)) texts.set(id, yaml(known.get(id).config));
    return texts.get(id);
  };
  const result = h("section", { class: "card" });
  const draw = () => {
    note(shown);
    put(result, shown.left === shown.right
      ? h("div", {}, h("p", { class: "soft" }, "One revision: pick another beside it to compare."), h("pre", { class: "code" }, text(shown.right)))
      : difference(text(shown.left), text(shown.right)));
  };
  const pick = (side) => {
    const select = h("select", { "aria-label": `Revision on the ${side}`, on: { change: () => {
      shown[side] = select.value;
      draw();
    } } }, listed.map((row, i) => h("option", { value: row.revision }, `${row.revision}${i === 0 ? " (in force)" : ""}, ${row.activated_at.slice(0, 19).replace("T", " ")}`)));
    select.value = shown[side];
    return select;
  };
  const unknown = [query.left, query.right].filter((id) => id && !known.has(id));
  show("Revisions", head("Revisions", h("span", { class: "ranges" }, pick("left"), " beside ", pick("right"))),
    unknown.length ? h("p", { class: "mishap" }, "No such revision: ", said(unknown.join(", "))) : null, result,
    h("p", { class: "soft" }, "In force since ", dayAndTime(listed[0].activated_at), " UTC. A revision never changes: each decision names the one it was taken under."));
  draw();
}
