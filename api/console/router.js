// Which view an address means, and going from one to another without loading the page anew.

import { search } from "./api.js";

const listeners = [];

/** `/console/<part>/<part>?query`. */
export function to(parts, query = {}) {
  return `/console${parts.map((part) => `/${encodeURIComponent(part)}`).join("")}${search(query)}`;
}

/** The address in the bar: its decoded parts after `/console`, and its query. */
export function here() {
  const parts = location.pathname.split("/").slice(2).filter(Boolean).map(decoded);
  return { parts, query: Object.fromEntries(new URLSearchParams(location.search)) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray per cent sign: taken as it stands
  }
}

export function go(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else if (path !== location.pathname + location.search) history.pushState(null, "", path);
  for (const listener of listeners) listener();
}

/** Changes the query of the present view without showing it anew. */
export function note(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}

/** Calls `listener` whenever another view is wanted, and takes clicks on our own links. */
export function routed(listener) {
  listeners.push(listener);
  addEventListener("popstate", listener);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='/console']");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || event.defaultPrevented || link.target || link.pathname.startsWith("/console-files")) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
