// From instants and numbers to places on a plot, and where its ticks stand.

import { clock, day } from "./format.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  0.001, 0.01, 0.1, 1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND,
  30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
  DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY,
];

export function linear([d0, d1], [r0, r1]) {
  const slope = d1 === d0 ? 0 : (r1 - r0) / (d1 - d0);
  return { to: (value) => r0 + (value - d0) * slope, from: (place) => (slope ? d0 + (place - r0) / slope : d0) };
}

/** At most about `most` round instants between two, in milliseconds. */
export function timeTicks(from, to, most) {
  const step = STEPS.find((size) => (to - from) / size <= most) ?? STEPS.at(-1);
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to && ticks.length < 200; at += step) ticks.push(at);
  return { step, ticks };
}

/** A tick in words: the day where days are counted, else the time of day. */
export function tickLabel(at, step) {
  if (step >= DAY) return day(at);
  if (at % DAY === 0) return day(at);
  if (step >= MINUTE) return clock(at).slice(0, 5);
  return clock(at, step < SECOND);
}

/** Round numbers from 0 to at least `highest`. */
export function numberTicks(highest, most = 4) {
  const rough = Math.max(1, highest) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
  const ticks = [];
  for (let n = 0; n < highest + step && ticks.length < 20; n += step) ticks.push(n);
  return ticks;
}

/**
 * Time with its idle stretches shortened: what lies between two of the `knots` takes at most `most`
 * milliseconds of room. Infinity shortens nothing. Order is kept, and every instant has one place.
 */
export function squeezed(knots, most) {
  const at = [...new Set(knots)].sort((a, b) => a - b);
  const room = [0];
  const cuts = [];
  for (let i = 1; i < at.length; i += 1) {
    const gap = at[i] - at[i - 1];
    if (gap > most) cuts.push([at[i - 1], at[i]]);
    room.push(room[i - 1] + Math.min(gap, most));
  }
  const between = (value, xs, ys) => {
    if (value <= xs[0]) return ys[0] - (xs[0] - value);
    let low = 0;
    let high = xs.length - 1;
    if (value >= xs[high]) return ys[high] + (value - xs[high]);
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= value) low = middle;
      else high = middle;
    }
    const width = xs[high] - xs[low];
    return width ? ys[low] + ((value - xs[low]) / width) * (ys[high] - ys[low]) : ys[low];
  };
  return { to: (instant) => between(instant, at, room), from: (place) => between(place, room, at), cuts, length: room.at(-1) };
}

/** The room that an idle stretch may take so that a session with long pauses stays readable. */
export function roomFor(knots) {
  const at = [...new Set(knots)].sort((a, b) => a - b);
  const gaps = at.slice(1).map((value, i) => value - at[i]).sort((a, b) => a - b);
  if (!gaps.length) return Infinity;
  const middle = gaps[gaps.length >> 1];
  const most = Math.max(middle * 4, 2 * SECOND, (at.at(-1) - at[0]) / 400);
  return gaps.at(-1) > most * 3 ? most : Infinity;
}
