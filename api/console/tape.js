// A session as a strip of paper: decisions, acts, the machine's state, cooldowns and tours over one time axis.

import { h, put, s } from "./dom.js";
import { clock, day, millis, span } from "./format.js";
import { stateName } from "./parts.js";
import { nearest } from "./plot.js";
import { linear, roomFor, squeezed, tickLabel, timeTicks } from "./scale.js";
import { LANES, marks, playhead } from "./tape-marks.js";

const HEIGHT = 148;
const SHORTEST = 4000; // milliseconds that the paper shows at least
const PAD = 10; // pixels left and right of the paper's first and last instant

/**
 * The strip of a timeline, as the API gives it.
 *
 * `pick(entry)`: somebody pointed at an event. The result's `select(version)` and
 * `stand(instant)` move the needle, `highlight(ids)` rings events, `update(timeline)` draws grown history, `zoom(factor)` and `fit()` scale.
 */
export function strip(timeline, pick, { label = "Timeline of the session" } = {}) {
  let entries, scale, ends, width = 0, view = null, chosen = null, ringed = new Set(), squeeze = true;
  const holder = h("div", { class: "tape-room" });
  const tip = h("div", { class: "tip", hidden: true });

  function take(told) {
    timeline = told;
    entries = told.entries.map((entry) => ({ ...entry, ms: millis(entry.at) }));
    ends = [millis(told.from), millis(told.to)];
    const knots = [...entries.map((entry) => entry.ms), ...ends, ...bounds(told.bands), ...bounds(told.cooldowns), ...bounds(told.tours)];
    const start = knots.reduce((least, knot) => Math.min(least, knot), Infinity);
    ends = [start, Math.max(start + SHORTEST, knots.reduce((most, knot) => Math.max(most, knot), -Infinity))];
    scale = squeezed(knots, squeeze ? roomFor(knots) : Infinity);
    strips.squeezable = roomFor(knots) !== Infinity;
  }

  const bounds = (rows) => rows.flatMap((row) => [row.from, row.to]).filter(Boolean).map(millis);
  const whole = () => [scale.to(ends[0]), Math.max(scale.to(ends[1]), scale.to(ends[0]) + 1)];
  const across = () => linear(view ?? whole(), [PAD, width - PAD]);

  function draw() {
    if (!width) return;
    const x = across();
    const place = (ms) => x.to(scale.to(ms));
    const svg = s("svg", { class: "tape", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${label}. ${summary()}` });
    ruler(svg, x, place);
    breaks(svg, place);
    for (const band of timeline.bands) stateBand(svg, place, band);
    for (const cool of timeline.cooldowns) box(svg, place, cool, LANES.state, "cooling", "cooling down");
    for (const tour of timeline.tours) box(svg, place, tour, LANES.tour, "tour", `Tour ${tour.tour_id}`);
    svg.append(...marks(entries, place, width));
    const rings = s("g", { class: "rings" });
    for (const entry of entries) {
      if (ringed.has(entry.event_id)) rings.append(s("circle", { cx: place(entry.ms), cy: LANES.acts.y + LANES.acts.height / 2, r: 8 }));
    }
    svg.append(rings, playhead(chosen && place(chosen.ms), chosen && clock(chosen.at), width));
    put(holder, svg, tip);
  }

  function ruler(svg, x, place) {
    const [from, to] = [scale.from(x.from(0)), scale.from(x.from(width))];
    const round = timeTicks(from, to, Math.max(2, width / 95) * (scale.cuts.length ? 6 : 1));
    // Within shortened time no round instant has a place that tells anything: its end is named in their stead.
    const cut = (at) => scale.cuts.some(([start, end]) => start < at && at < end);
    const ticks = [ends[0], ...round.ticks.filter((at) => !cut(at)), ...scale.cuts.map(([, end]) => end)].sort((a, b) => a - b);
    const needle = chosen ? place(chosen.ms) : -Infinity;
    let last = -Infinity;
    for (const at of ticks) {
      const left = place(at);
      if (left - last < 70 || left < 0 || left > width - 24) continue;
      last = left;
      svg.append(s("line", { class: "grid", x1: left, x2: left, y1: 16, y2: HEIGHT }));
      if (left > needle + 30 || left + 64 < needle - 30) svg.append(s("text", { class: "axis", x: left + 4, y: 13 }, tickLabel(at, round.step)));
    }
    svg.append(s("line", { class: "edge", x1: 0, x2: width, y1: 18, y2: 18 }));
  }

  /** Where idle time was shortened, unless such a place is marked close by. */
  function breaks(svg, place) {
    let last = -Infinity;
    for (const [from, to] of scale.cuts) {
      const middle = (place(from) + place(to)) / 2;
      if (place(to) - place(from) < 8 || middle - last < 44) continue;
      last = middle;
      svg.append(s("path", { class: "break", d: `M${middle - 5} 22l4 -8M${middle + 1} 22l4 -8` }, s("title", {}, `${span(to - from)} without events`)));
    }
  }

  function stateBand(svg, place, band) {
    const [left, right] = [place(millis(band.from)), band.to ? place(millis(band.to)) : Math.max(place(ends[1]), width)];
    const wide = Math.max(1, right - left);
    const lane = LANES.state;
    svg.append(s("rect", { class: `band-${stateName(band.state)}`, x: left, y: lane.y, width: wide, height: lane.height }, s("title", {}, stateName(band.state))));
    const seen = [Math.max(left, 0), Math.min(right, width)];
    if (seen[1] - seen[0] > 64) svg.append(s("text", { class: "band-name", x: seen[0] + 7, y: lane.y + lane.height / 2 + 4 }, stateName(band.state)));
  }

  function box(svg, place, { from, to }, lane, name, title) {
    const [left, right] = [place(millis(from)), to ? place(millis(to)) : width];
    svg.append(s("rect", { class: `lane-${name}`, x: left, y: lane.y, width: Math.max(2, right - left), height: lane.height, rx: name === "tour" ? 3 : 0 }, s("title", {}, title)));
  }

  const summary = () => `${entries.length} events from ${day(ends[0])} ${clock(ends[0])} to ${clock(ends[1])} UTC, ${
    entries.filter((entry) => entry.kind === "offer").length} offered, ${entries.filter((entry) => entry.kind === "withheld").length} withheld`;

  function under(event) {
    const x = across();
    const left = event.clientX - holder.getBoundingClientRect().left;
    const i = nearest(entries, (entry) => Math.abs(x.to(scale.to(entry.ms)) - left), 14);
    return entries[i];
  }

  holder.addEventListener("pointermove", (event) => {
    const entry = under(event);
    tip.hidden = !entry;
    if (entry) {
      tip.textContent = `${clock(entry.at, true)}  ${entry.text}`;
      tip.style.setProperty("--x", `${Math.min(width - 130, Math.max(130, across().to(scale.to(entry.ms))))}px`);
      if (event.buttons & 1) pick(entry);
    }
  });
  holder.addEventListener("pointerleave", () => { tip.hidden = true; });
  holder.addEventListener("pointerdown", (event) => {
    const entry = under(event);
    if (entry) pick(entry);
  });
  holder.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!sideways && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    if (sideways) strips.pan(event.deltaX / width);
    else strips.zoom(event.deltaY < 0 ? 1.25 : 0.8, across().from(event.offsetX));
  }, { passive: false });
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now > 40 && now !== width) {
      width = now;
      draw();
    }
  }).observe(holder);

  const strips = {
    node: holder,
    squeezable: false,
    update(told) { take(told); draw(); },
    squeeze(on) { squeeze = on; view = null; take(timeline); draw(); },
    highlight(ids) { ringed = new Set(ids); draw(); },
    select(version) { this.stand(entries.find((entry) => entry.version === version)?.at); },
    stand(at) {
      chosen = at ? { at, ms: millis(at) } : null;
      if (view && chosen) {
        const at = scale.to(chosen.ms);
        const wide = view[1] - view[0];
        if (at < view[0] || at > view[1]) view = [at - wide / 2, at + wide / 2];
      }
      draw();
    },
    zoom(factor, centre) {
      const [from, to] = view ?? whole();
      const at = centre ?? (chosen ? scale.to(chosen.ms) : (from + to) / 2);
      view = [at - (at - from) / factor, at + (to - at) / factor];
      if (view[1] - view[0] >= whole()[1] - whole()[0]) view = null;
      draw();
    },
    pan(share) {
      const [from, to] = view ?? whole();
      const by = (to - from) * share;
      view = [from + by, to + by];
      draw();
    },
    fit() { view = null; draw(); },
  };
  take(timeline);
  return strips;
}
