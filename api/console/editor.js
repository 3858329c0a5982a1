// A plain text field with line numbers, and faults that lead to their line.

import { h, put } from "./dom.js";

/** `{node, text(), write(text), mark(lines), reveal(line)}`; `changed(text)` is called on every change. */
export function editor(label, changed) {
  const gutter = h("div", { class: "gutter", "aria-hidden": "true" });
  const field = h("textarea", { class: "code", "aria-label": label, spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off", rows: 26 });
  let marked = new Set();
  let drawn = "";

  const numbers = () => {
    const lines = field.value.split("\n").length;
    const now = `${lines}:${[...marked].join(",")}`;
    if (now === drawn) return;
    drawn = now;
    put(gutter, Array.from({ length: lines }, (_, i) => h("div", { class: marked.has(i) ? "wrong" : null }, i + 1)));
    gutter.scrollTop = field.scrollTop;
  };
  field.addEventListener("input", () => {
    numbers();
    changed(field.value);
  });
  field.addEventListener("scroll", () => { gutter.scrollTop = field.scrollTop; });
  numbers();
  return {
    node: h("div", { class: "editor" }, gutter, field),
    text: () => field.value,
    write(text) {
      field.value = text;
      numbers();
      changed(text);
    },
    mark(lines) {
      marked = new Set(lines);
      numbers();
    },
    reveal(line) {
      const rows = field.value.split("\n");
      const start = rows.slice(0, line).join("\n").length + (line ? 1 : 0);
      field.focus();
      field.setSelectionRange(start, start + (rows[line] ?? "").length);
      field.scrollTop = Math.max(0, line - 6) * (field.scrollHeight / rows.length);
    },
  };
}
