// What stands above every page: the product, where one can go, search, theme and help.

import { get, left } from "./api.js";
import { h, put } from "./dom.js";
import { go, to } from "./router.js";
import { theme, turn } from "./theme.js";

const PAGES = [
  ["live", "Live", []],
  ["sessions", "Sessions", ["sessions"]],
  ["decisions", "Decisions", ["decisions"]],
  ["why-not", "Why not", ["why-not"]],
  ["triggers", "Triggers", ["triggers"]],
  ["revisions", "Revisions", ["revisions"]],
  ["backtests", "Backtests", ["backtests"]],
];

const bar = document.getElementById("bar");
let drawn;

/** Draws the bar for a product (undefined: none is chosen yet) and marks the present page. */
export function frame(product, page) {
  if (drawn !== (product ?? "")) draw(product);
  drawn = product ?? "";
  for (const link of bar.querySelectorAll("[data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function draw(product) {
  const brand = h("a", { class: "brand", href: "/console", "aria-label": "nudgeledger: all products" },
    h("img", { src: "/console-files/recorder.svg", width: 26, height: 26, alt: "" }), h("b", {}, "nudgeledger"));
  if (product === undefined) return put(bar, brand, h("span", { class: "gap" }), ...buttons());
  const links = PAGES.map(([name, label, parts]) => h("a", { href: to([product, ...parts]), data: { page: name } }, label));
  put(bar, brand, picker(product), h("nav", { "aria-label": "Pages" }, links), search(product), ...buttons());
}

function picker(product) {
  const select = h("select", { id: "product", "aria-label": "Product", on: { change: () => go(to([select.value])) } },
    h("option", { value: product }, product));
  get([], {}, undefined).then(({ products }) => {
    const known = products.map((row) => row.product_id);
    if (!known.includes(product)) known.unshift(product);
    put(select, known.map((id) => h("option", { value: id }, id)));
    select.value = product;
  }).catch((error) => {
    if (!left(error)) select.title = error.message; // the page itself says what is wrong
  });
  return select;
}

function search(product) {
  const field = h("input", { id: "search", type: "search", placeholder: "Find by id", autocomplete: "off",
    spellcheck: "false", "aria-label": "Search for a session, a user or a decision", "aria-keyshortcuts": "/" });
  const look = (event) => {
    event.preventDefault();
    if (field.value.trim()) go(to([product, "search"], { q: field.value.trim() }));
  };
  return h("form", { role: "search", on: { submit: look } }, field, h("kbd", { "aria-hidden": "true" }, "/"));
}

function buttons() {
  const shade = h("button", { type: "button", class: "icon", id: "theme", on: { click: () => name(turn()) } }, "◐");
  const name = (choice) => {
    shade.title = `Theme: ${choice === "system" ? "as the system" : choice}`;
    shade.setAttribute("aria-label", shade.title);
  };
  name(theme());
  const help = h("button", { type: "button", class: "icon", title: "Keys", "aria-label": "Keys", "aria-keyshortcuts": "?",
    on: { click: () => document.dispatchEvent(new Event("console:help")) } }, "?");
  return [shade, help];
}
