// The public API, and nothing else: requests with their errors in words, and the live stream.

/** What the service refused, or why it could not be asked. */
class ApiError extends Error {
  constructor(status, title, detail, faults, path) {
    super(detail || title);
    Object.assign(this, { status, title, detail, faults, path });
  }
}

/** `/v1/products/<product>/…` with every part encoded; `query` leaves out what is empty. */
export function address(parts, query = {}) {
  const path = `/v1/products${parts.map((part) => `/${encodeURIComponent(part)}`).join("")}`;
  return path + search(query);
}

/** `?a=1&b=2`, without what is null, undefined or empty. */
export function search(query) {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return text ? `?${text}` : "";
}

/** The JSON answer of a request. Throws ApiError, or AbortError once `signal` says so. */
export async function ask(path, { method = "GET", body, type = "application/json", signal } = {}) {
  const headers = body === undefined ? {} : { "content-type": type };
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: typeof body === "object" ? JSON.stringify(body) : body });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The service does not answer", "It may be stopped, or the connection is down.", [], path);
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok && told !== null) return told;
  const title = told?.title ?? `The service answered ${answer.status}`;
  throw new ApiError(answer.status, title, told?.detail ?? "", told?.errors ?? [], path);
}

export const get = (parts, query, signal) => ask(address(parts, query), { signal });
export const post = (parts, body, options = {}) => ask(address(parts), { method: "POST", body, ...options });

/** Whether an error only says that the page was left. */
export const left = (error) => error.name === "AbortError";

/**
 * The live stream of a product until `signal` aborts.
 *
 * `listeners`: by event name, called with its data; `status(open)`: whenever the connection comes or goes.
 * Browsers reconnect by themselves after a broken connection, with the last id; after a refusal they give up,
 * and then it is opened anew here, more slowly each time.
 */
export function follow(product, listeners, status, signal) {
  let wait = 1000;
  let source;
  const open = () => {
    source = new EventSource(address([product, "live"]));
    source.addEventListener("open", () => {
      wait = 1000;
      status(true);
    });
    source.addEventListener("error", () => {
      status(false);
      if (source.readyState !== EventSource.CLOSED || signal.aborted) return;
      setTimeout(() => !signal.aborted && open(), wait);
      wait = Math.min(wait * 2, 30000);
    });
    for (const [name, listener] of Object.entries(listeners)) {
      source.addEventListener(name, (event) => listener(JSON.parse(event.data)));
    }
  };
  open();
  signal.addEventListener("abort", () => source.close());
}
