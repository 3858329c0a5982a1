// Two texts line by line: which lines stayed, went and came.

import { h } from "./dom.js";
import { count } from "./format.js";

const CONTEXT = 3; // unchanged lines kept around a change

const split = (text) => text.replace(/\n$/, "").split("\n");

/** [[" " | "-" | "+", line, left number, right number]]: what both have in common is as long as can be. */
function compare(before, after) {
  const [a, b] = [split(before), split(after)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let same = 0;
  while (same < a.length - start && same < b.length - start && a.at(-1 - same) === b.at(-1 - same)) same += 1;
  const rows = a.slice(0, start).map((line, i) => [" ", line, i + 1, i + 1]);
  rows.push(...middle(a.slice(start, a.length - same), b.slice(start, b.length - same), start));
  for (let i = same; i > 0; i -= 1) rows.push([" ", a.at(-i), a.length - i + 1, b.length - i + 1]);
  return rows;
}

/** The longest common subsequence of what lies between; `start`: how many lines lie before. */
function middle(a, b, start) {
  const wide = b.length + 1;
  const common = new Uint32Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * wide + j] = a[i] === b[j]
        ? common[(i + 1) * wide + j + 1] + 1
        : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
    }
  }
  const rows = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const both = i < a.length && j < b.length;
    if (both && a[i] === b[j]) rows.push([" ", a[i++], start + i, start + ++j]);
    else if (j >= b.length || (both && common[(i + 1) * wide + j] >= common[i * wide + j + 1])) rows.push(["-", a[i++], start + i, null]);
    else rows.push(["+", b[j++], null, start + j]);
  }
  return rows;
}

/** The difference as a table; long stretches without a change are folded, and open on a click. */
export function difference(before, after) {
  const rows = compare(before, after);
  const changed = rows.filter(([sign]) => sign !== " ").length;
  if (!changed) return h("p", { class: "soft" }, "The two are the same, line for line.");
  const near = rows.map((_, i) => rows.slice(Math.max(0, i - CONTEXT), i + CONTEXT + 1).some(([sign]) => sign !== " "));
  const body = h("tbody");
  for (let i = 0; i < rows.length; i += 1) {
    if (near[i]) body.append(line(rows[i]));
    else {
      let end = i;
      while (end < rows.length && !near[end]) end += 1;
      body.append(fold(rows.slice(i, end)));
      i = end - 1;
    }
  }
  const [gone, come] = ["-", "+"].map((sign) => rows.filter(([own]) => own === sign).length);
  return h("div", {}, h("p", { class: "soft" }, `${count(gone, "line")} only on the left, ${count(come, "line")} only on the right.`),
    h("div", { class: "scroll" }, h("table", { class: "diff" }, h("caption", { class: "quiet" }, "Difference of two revisions"), body)));
}

function line([sign, text, left, right]) {
  const name = { " ": "same", "-": "gone", "+": "come" }[sign];
  return h("tr", { class: name }, h("td", { class: "at" }, left ?? ""), h("td", { class: "at" }, right ?? ""),
    h("td", {}, h("span", { "aria-hidden": sign === " " }, sign), h("code", {}, text)));
}

function fold(hidden) {
  const row = h("tr", { class: "fold" }, h("td", { colspan: 3 }, h("button", { type: "button",
    on: { click: () => row.replaceWith(...hidden.map(line)) } }, `${count(hidden.length, "line")} without a change`)));
  return row;
}
