// A config as YAML, for reading, editing and comparing. Whatever could be misread is quoted as JSON does,
// which is YAML too.

const PLAIN = /^[A-Za-z_\u00C0-\u024F][^:#\n\r\t"'{}[\],&*!|>%@`\x7f-\x9f\u2028\u2029\ufeff]*$/;
const IN_FLOW = /^[A-Za-z_][\w ./-]*$/;
const WORDS = /^(true|false|yes|no|on|off|null|y|n|~)$/i;
const BREAKS = /[\x7f-\x9f\u2028\u2029\ufeff]/g; // YAML would take some of them for ends of lines
const LITERAL = /^[^\s][^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]*[^\s]\n?$/;

function quoted(value) {
  return JSON.stringify(value).replace(BREAKS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function scalar(value, plain = PLAIN) {
  if (typeof value === "number") return String(value).replace(/^(-?\d+)e/, "$1.0e"); // 1e-7 alone would be a text
  if (typeof value !== "string") return JSON.stringify(value);
  return plain.test(value) && !WORDS.test(value) && value === value.trim() ? value : quoted(value);
}

const simple = (value) => value === null || typeof value !== "object";
const empty = (value) => !simple(value) && Object.keys(value).length === 0;

/** One line where a list or object is short and flat, as people write it. */
function flow(value) {
  if (simple(value)) return scalar(value, IN_FLOW);
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  const inner = Object.entries(value).map(([key, of]) => `${scalar(key, IN_FLOW)}: ${flow(of)}`);
  return `{${inner.join(", ")}}`;
}

const flat = (value) => Object.values(value).every((of) => simple(of) || (Array.isArray(of) && of.every(simple)));

function lines(value, indent) {
  const pad = "  ".repeat(indent);
  const isList = Array.isArray(value);
  return Object.entries(value).flatMap(([key, of]) => {
    const start = isList ? `${pad}- ` : `${pad}${scalar(key)}:`;
    const space = isList ? "" : " ";
    if (typeof of === "string" && of.trim().includes("\n") && LITERAL.test(of)) {
      const mark = of.endsWith("\n") ? "|" : "|-";
      const body = of.replace(/\n$/, "").split("\n").map((line) => (line ? `${pad}  ${line}` : ""));
      return [`${start}${space}${mark}`, ...body];
    }
    if (simple(of)) return [`${start}${space}${scalar(of)}`];
    const short = `${start}${space}${flow(of)}`;
    if (empty(of) || (flat(of) && short.length < 96 && !isList && indent > 0) || (flat(of) && short.length < 80)) return [short];
    const inner = lines(of, indent + 1);
    if (!isList) return [start, ...inner];
    return [`${start}${inner[0].trimStart()}`, ...inner.slice(1)];
  });
}

/** The config as text that parses to the same config. */
export function yaml(config) {
  return `${lines(config, 0).join("\n")}\n`;
}
