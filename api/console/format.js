// Instants and numbers as people read them. Every instant is UTC, as in the ledger.

/** Milliseconds since 1970 of an RFC 3339 instant in UTC, with its microseconds after the point. */
export function millis(text) {
  const fraction = /\.(\d{4,6})/.exec(text);
  const more = fraction ? Number(fraction[1].padEnd(6, "0").slice(3)) / 1000 : 0;
  return Date.parse(text) + more;
}

/** RFC 3339 of milliseconds. */
export const instant = (ms) => new Date(Math.round(ms)).toISOString();

/** `09:53:52` or, with `fine`, `09:53:52.090`. */
export function clock(value, fine = false) {
  const text = typeof value === "string" ? value : instant(value);
  return text.slice(11, fine ? 23 : 19);
}

/** `21 Nov` or, in another year than `now`, `21 Nov 2025`. */
export function day(value, now = Date.now()) {
  const date = new Date(typeof value === "string" ? millis(value) : value);
  const year = date.getUTCFullYear() === new Date(now).getUTCFullYear() ? undefined : "numeric";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year, timeZone: "UTC" });
}

/** `21 Nov 09:53:52`; without the day where that is today. */
export function moment(value, now = Date.now()) {
  const text = typeof value === "string" ? value : instant(value);
  return text.slice(0, 10) === instant(now).slice(0, 10) ? clock(text) : `${day(text, now)} ${clock(text)}`;
}

/** A length of time: `850 ms`, `12 s`, `3 min 5 s`, `2 h 4 min`, `3 d 2 h`. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let seconds = ms < 10000 ? Math.round(ms / 100) / 10 : Math.round(ms / 1000);
  const told = [];
  for (const [unit, size] of parts) {
    const count = unit === "s" ? seconds : Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) told.push(`${Math.round(count * 10) / 10} ${unit}`);
    if (told.length === 2 || (told.length === 1 && size <= 1)) break;
  }
  return told.join(" ") || "0 s";
}

/** `3 min ago`. */
export function ago(value, now = Date.now()) {
  const gone = now - millis(value);
  return gone < 2000 ? "just now" : `${span(gone).split(" ").slice(0, 2).join(" ")} ago`;
}

export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
export const number = (n) => Number(n).toLocaleString("en-GB").replaceAll(",", " ");
export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");

/** A code as words: `cooldown_active` reads `cooldown active`. */
export const words = (code) => String(code ?? "").replaceAll("_", " ");

/** Anything observed, as text. */
export function plain(value) {
  if (value === null || value === undefined) return "nothing";
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, of]) => `${name} ${plain(of)}`).join(", ");
}
