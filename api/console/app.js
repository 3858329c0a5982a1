// Boot: which page an address shows, its errors in words, and what every page has in common.

import { left } from "./api.js";
import { announce, h, put } from "./dom.js";
import { notice } from "./parts.js";
import { here, routed } from "./router.js";
import { keyboard } from "./keys.js";
import { frame } from "./shell.js";
import { backtest } from "./page-backtest.js";
import { backtests } from "./page-backtests.js";
import { decision, simulated } from "./page-decision.js";
import { decisions } from "./page-decisions.js";
import { found } from "./page-found.js";
import { live } from "./page-live.js";
import { products } from "./page-products.js";
import { revisions } from "./page-revisions.js";
import { session } from "./page-session.js";
import { sessions } from "./page-sessions.js";
import { triggers } from "./page-triggers.js";
import { whyNot } from "./page-why-not.js";

// By the parts of an address behind the product; `*` is any one part, handed on.
const PAGES = [
  [[], live],
  [["sessions"], sessions],
  [["sessions", "*"], session],
  [["decisions"], decisions],
  [["decisions", "*"], decision],
  [["why-not"], whyNot],
  [["triggers"], triggers],
  [["revisions"], revisions],
  [["backtests"], backtests],
  [["backtests", "*"], backtest],
  [["backtests", "*", "*", "*"], simulated],
  [["search"], found],
];

const main = document.getElementById("main");
let leave = new AbortController();

function pageOf(rest) {
  for (const [pattern, page] of PAGES) {
    if (pattern.length !== rest.length) continue;
    if (pattern.every((part, i) => part === "*" || part === rest[i])) return [page, rest.filter((_, i) => pattern[i] === "*")];
  }
  return [nowhere, []];
}

async function nowhere({ show }) {
  show("No such page", notice("There is no such page", "The address may be mistyped.", h("a", { href: "/console" }, "All products")));
}

/** A page gets where it stands and draws by `show(title, …nodes)`; `signal` aborts once it is left. */
async function render() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const { parts: [product, ...rest], query } = here();
  const [page, given] = product === undefined ? [products, []] : pageOf(rest);
  frame(product, rest[0] ?? (product === undefined ? "products" : "live"));
  let drawn = false;
  const show = (title, ...nodes) => {
    if (signal.aborted) return;
    document.title = `${title} · nudgeledger`;
    put(main, ...nodes);
    main.removeAttribute("aria-busy");
    if (!drawn) announce(title);
    drawn = true;
  };
  main.setAttribute("aria-busy", "true");
  put(main, h("p", { class: "loading" }, "Reading the ledger …"));
  scrollTo(0, 0);
  try {
    await page({ product, given, query, show, signal });
  } catch (error) {
    if (left(error) || signal.aborted) return;
    show(error.title ?? "Something went wrong", notice.of(error, render));
    if (error.status === undefined) throw error;
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
}

routed(() => {
  render();
  main.focus({ preventScroll: true });
});
keyboard(main);
render();
