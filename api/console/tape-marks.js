// The marks on a session's strip. Thousands of events are a handful of paths: one for each kind.

import { h, s } from "./dom.js";

export const LANES = {
  decisions: { y: 24, height: 30 },
  acts: { y: 58, height: 26 },
  state: { y: 90, height: 34 },
  tour: { y: 130, height: 10 },
};

const top = LANES.decisions.y;
const middle = LANES.acts.y + LANES.acts.height / 2;
const circle = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
const diamond = (x, y, r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}Z`;
const tick = (x, half) => `M${x} ${middle - half}V${middle + half}`;

// Kinds as the timeline names them: where each stands and how it looks.
const SHAPES = {
  action: (x) => tick(x, 6),
  chat: (x) => circle(x, middle, 5),
  interaction: (x) => diamond(x, middle, 5.5),
  tour: (x) => `M${x - 4} ${middle - 4}h8v8h-8Z`,
  goal: (x) => `M${x} ${middle - 7}l2 5h5l-4 3.4l1.6 5l-4.6 -3l-4.6 3l1.6 -5l-4 -3.4h5Z`,
  identity: (x) => tick(x, 10),
  correction: (x) => tick(x, 10),
  failure: (x) => `M${x - 5} ${middle - 5}l10 10M${x + 5} ${middle - 5}l-10 10`,
  other: (x) => tick(x, 3),
  shown: (x) => circle(x, top + 25, 2.5),
  dismissed: (x) => `M${x - 3} ${top + 22}l6 6M${x + 3} ${top + 22}l-6 6`,
  timeout: (x) => `M${x} ${LANES.state.y - 4}V${LANES.state.y + LANES.state.height + 4}`,
  withheld: (x) => `M${x} ${top + 30}V${top + 4}h12v9h-12`,
  offer: (x) => `M${x} ${top + 30}V${top}h15l-4 5.5l4 5.5h-15`,
};

const LEGEND = [
  ["offer", "offered"], ["withheld", "withheld"], ["action", "action"], ["interaction", "answer"], ["chat", "chat"], ["tour", "tour"], ["goal", "goal"], ["timeout", "timeout"],
];

/** The paths of all events that are in view. */
export function marks(entries, place, width) {
  const drawn = new Map();
  for (const entry of entries) {
    const x = Math.round(place(entry.ms) * 10) / 10;
    if (x < -20 || x > width + 20) continue;
    const kind = SHAPES[entry.kind] ? entry.kind : "other";
    drawn.set(kind, (drawn.get(kind) ?? "") + SHAPES[kind](x));
  }
  return Object.keys(SHAPES).filter((kind) => drawn.has(kind)).map((kind) => s("path", { class: `mark mark-${kind}`, d: drawn.get(kind) }));
}

/** The needle: where the page stands. */
export function playhead(x, text, width) {
  if (x === null || x === undefined) return s("g", {});
  const left = Math.min(width - 62, Math.max(2, x - 30));
  return s("g", { class: "needle" },
    s("line", { x1: x, x2: x, y1: 17, y2: 148 }),
    s("rect", { x: left, y: 1, width: 60, height: 16, rx: 3 }),
    s("text", { x: left + 30, y: 13, "text-anchor": "middle" }, text));
}

// Tall marks are drawn smaller beside their name: x, y, scale.
const SMALL = { offer: [3, -12, 0.5], withheld: [3, -12, 0.5], timeout: [9, -30, 0.35] };

export function legend() {
  const sample = (kind) => {
    const [x, y, scale] = SMALL[kind] ?? [9, 8 - middle, 1];
    return s("svg", { width: 18, height: 16, viewBox: "0 0 18 16", "aria-hidden": "true" },
      s("path", { class: `mark mark-${kind}`, d: SHAPES[kind](0), transform: `translate(${x} ${y}) scale(${scale})` }));
  };
  const bands = ["thinking", "proactive", "reactive", "cooling"];
  return h("ul", { class: "legend" },
    LEGEND.map(([kind, label]) => h("li", {}, sample(kind), label)),
    bands.map((name) => h("li", {}, h("i", { class: `swatch swatch-${name}` }), name === "cooling" ? "cooling down" : name)));
}
