// Where in a config's text a path stands, so that a fault can be clicked.

/** The line (from 0) of `triggers[0].criteria.type`, or of its nearest ancestor that has one; null: nowhere. */
export function lineOf(text, path) {
  const named = /^line (\d+)/.exec(path); // the text itself could not be read there
  if (named) return Number(named[1]) - 1;
  const lines = text.trimStart().startsWith("{") ? ofJson(text) : ofYaml(text);
  for (let wanted = path; wanted; wanted = wanted.replace(/(\.[^.[\]]*|\[\d+\])$|^[^.[\]]*$/, "")) {
    if (lines.has(wanted)) return lines.get(wanted);
  }
  return null;
}

const joined = (parent, key) => (parent ? `${parent}.${key}` : key);
const unquoted = (key) => key.replace(/^(["'])(.*)\1$/, "$2");

/** YAML in block style, by its indentation; keys inside a flow collection on the same line are found too. */
function ofYaml(text) {
  const found = new Map();
  const open = []; // [{indent, path, items}] of the blocks around the line
  text.split("\n").forEach((line, number) => {
    if (!line.trim() || line.trim().startsWith("#")) return;
    let indent = line.search(/\S/);
    let rest = line.trim();
    const parent = () => {
      while (open.length && open.at(-1).indent >= indent) open.pop();
      return open.at(-1);
    };
    while (rest.startsWith("- ") || rest === "-") {
      while (open.length && (open.at(-1).indent > indent || (open.at(-1).indent === indent && open.at(-1).item))) open.pop();
      const list = open.at(-1);
      const path = `${list?.path ?? ""}[${list ? list.items++ : 0}]`;
      if (!found.has(path)) found.set(path, number);
      open.push({ indent, path, items: 0, item: true });
      const inner = rest.slice(1);
      indent += 1 + inner.search(/\S|$/);
      rest = inner.trim();
    }
    const key = /^("[^"]*"|'[^']*'|[^\s:{[#][^:]*?)\s*:(\s|$)/.exec(rest);
    const owner = parent()?.path ?? "";
    if (key) {
      const path = joined(owner, unquoted(key[1]));
      if (!found.has(path)) found.set(path, number);
      open.push({ indent, path, items: 0, item: false });
      flowKeys(rest.slice(key[0].length), path, number, found);
    } else flowKeys(rest, owner, number, found);
  });
  return found;
}

function flowKeys(text, path, number, found) {
  if (!text.trim().startsWith("{")) return;
  for (const [, key] of text.matchAll(/[{,]\s*("[^"]*"|'[^']*'|[\w-]+)\s*:/g)) {
    const own = joined(path, unquoted(key));
    if (!found.has(own)) found.set(own, number);
  }
}

/** JSON, character by character. */
function ofJson(text) {
  const found = new Map();
  const open = []; // [{path, index}]: index is null in an object
  let line = 0;
  let key = "";
  const path = () => {
    const own = open.at(-1);
    if (!own) return "";
    return own.index === null ? joined(own.path, key) : `${own.path}[${own.index}]`;
  };
  for (const [token] of text.matchAll(/"(?:[^"\\\n]|\\.)*"[ \t]*:?|[{}[\],\n]|[^\s{}[\],"\n]+/g)) {
    if (token === "\n") line += 1;
    else if (token === "{" || token === "[") {
      const own = path();
      if (own && !found.has(own)) found.set(own, line);
      open.push({ path: own, index: token === "[" ? 0 : null });
    } else if (token === "}" || token === "]") open.pop();
    else if (token === ",") {
      if (open.at(-1)?.index !== null && open.length) open.at(-1).index += 1;
    } else {
      if (token.endsWith(":") && token.startsWith('"')) key = token.replace(/[ \t]*:$/, "").slice(1, -1);
      const own = path();
      if (own && !found.has(own)) found.set(own, line);
    }
  }
  return found;
}
