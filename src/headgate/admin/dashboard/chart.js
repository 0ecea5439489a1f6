// Lines of SVG. A chart has a text that says the same in words.

import { dayOf, el, setAttribute, setText, shortTime, svg, timeOf } from "./dom.js";

const HEIGHT = 132;
const LEFT = 44;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;

/** The next round number: 1, 2, 2.5 or 5 times a power of ten. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.999);
}

/** A path through [x, y] points; null and a step of more than `gap` begin anew. */
function path(points, x, y, gap) {
  let text = "";
  let before = null;
  for (const [at, value] of points) {
    if (value === null || value === undefined) continue;
    text += `${before !== null && at - before <= gap ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null || at - before > gap) text += "h.01"; // a single point is seen, too
    before = at;
  }
  return text;
}

function area(points, x, y, gap, floor) {
  let text = "";
  let start = null;
  let before = null;
  for (const [at, value] of points) {
    if (before === null || at - before > gap) {
      if (before !== null) text += `L${x(before).toFixed(1)} ${floor}L${x(start).toFixed(1)} ${floor}Z`;
      text += `M${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      start = at;
    } else text += `L${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    before = at;
  }
  return before === null ? "" : `${text}L${x(before).toFixed(1)} ${floor}L${x(start).toFixed(1)} ${floor}Z`;
}

export class Chart {
  #width = 0;
  #rows = [];

  /** figure: where it goes. lines: [{column, name, class, area}]. format: a value as text. */
  constructor(figure, lines, format) {
    this.lines = lines;
    this.format = format;
    this.drawing = svg("svg", { class: "chart", role: "img", height: HEIGHT, width: "100%" });
    this.grid = svg("g", { class: "grid" });
    this.paths = lines.map((line) => ({
      fill: line.area ? svg("path", { class: `area ${line.class}` }) : null,
      stroke: svg("path", { class: `line ${line.class}` }),
    }));
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.drawing.append(
      this.grid,
      ...this.paths.flatMap((one) => (one.fill ? [one.fill, one.stroke] : [one.stroke])),
      this.cursor,
    );
    this.values = lines.map(() => el("b"));
    this.when = el("span", { class: "when" });
    const legend = el(
      "p",
      { class: "legend" },
      ...lines.map((line, index) =>
        el(
          "span",
          {},
          svg(
            "svg",
            { class: "key", viewBox: "0 0 18 8", "aria-hidden": "true" },
            svg("path", { class: `line ${line.class}`, d: "M1 4H17" }),
          ),
          ` ${line.name} `,
          this.values[index],
        ),
      ),
      this.when,
    );
    figure.append(legend, this.drawing);
    this.drawing.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.drawing.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(([entry]) => {
      this.#width = entry.contentRect.width;
      this.draw(this.#rows, this.until, this.span, this.step);
    }).observe(this.drawing);
  }

  /** rows: as the balancer gives them. until: the right edge; span: from there to the left one; step: between rows; seconds. */
  draw(rows, until, span, step) {
    this.#rows = rows;
    this.until = until;
    this.span = span;
    this.step = step;
    const width = this.#width;
    if (!width || !until) return;
    const from = until - span;
    const shown = rows.filter((row) => row[0] >= from);
    let most = 0;
    for (const row of shown) for (const line of this.lines) most = Math.max(most, row[line.column] ?? 0);
    const top = ceiling(most);
    const x = (at) => LEFT + ((at - from) / span) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    this.x = x;
    this.from = from;
    this.#lattice(top, from, span, x, y, width);
    const gap = step * 2.6;
    this.lines.forEach((line, index) => {
      const points = shown.map((row) => [row[0], row[line.column]]);
      setAttribute(this.paths[index].stroke, "d", path(points, x, y, line.area ? gap : gap * 8));
      if (this.paths[index].fill) setAttribute(this.paths[index].fill, "d", area(points, x, y, gap, HEIGHT - BOTTOM));
    });
    if (this.at === undefined || this.at === null) this.#read(shown.at(-1), false);
    this.#words(shown);
  }

  #lattice(top, from, span, x, y, width) {
    const every = span === 900 ? (width < 380 ? 300 : 180) : width < 380 ? 28800 : 14400;
    // Whole hours by the clock on the wall, not by Greenwich's.
    const shift = span === 900 ? 0 : new Date(from * 1000).getTimezoneOffset() * 60;
    const marks = [];
    for (let at = Math.ceil((from - shift) / every) * every + shift; at <= from + span; at += every) marks.push(at);
    const label = (at) => (span !== 900 && shortTime(at * 1000) === "00:00" ? dayOf(at * 1000) : shortTime(at * 1000));
    const nodes = [];
    for (const value of [0, top / 2, top]) {
      nodes.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      const text = svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" });
      text.textContent = this.format(value);
      nodes.push(text);
    }
    for (const at of marks) {
      if (x(at) < LEFT + 14 || x(at) > width - RIGHT - 14) continue;
      const text = svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": "middle" });
      text.textContent = label(at);
      nodes.push(text);
    }
    this.grid.replaceChildren(...nodes);
  }

  #point(offset) {
    this.at = offset;
    if (offset === null || !this.#rows.length || !this.x) {
      this.cursor.setAttribute("visibility", "hidden");
      this.#read(this.#rows.at(-1), false);
      return;
    }
    const wanted = this.from + ((offset - LEFT) / (this.#width - LEFT - RIGHT)) * this.span;
    let best = null;
    for (const row of this.#rows)
      if (best === null || Math.abs(row[0] - wanted) < Math.abs(best[0] - wanted)) best = row;
    if (best === null || best[0] < this.from) return;
    this.cursor.setAttribute("visibility", "visible");
    this.cursor.setAttribute("x1", this.x(best[0]));
    this.cursor.setAttribute("x2", this.x(best[0]));
    this.#read(best, true);
  }

  #read(row, chosen) {
    this.lines.forEach((line, index) =>
      setText(this.values[index], row && row[line.column] !== null ? this.format(row[line.column]) : "–"),
    );
    setText(
      this.when,
      chosen ? (this.span === 900 ? timeOf(row[0] * 1000) : `${dayOf(row[0] * 1000)} ${shortTime(row[0] * 1000)}`) : "",
    );
  }

  /** The text alternative. It is not read out when it changes, only when somebody comes by. */
  #words(rows) {
    const span = this.span === 900 ? "the last 15 minutes" : "the last 24 hours";
    const parts = this.lines.map((line) => {
      const values = rows.map((row) => row[line.column]).filter((value) => value !== null);
      if (!values.length) return `${line.name}: none`;
      const least = values.reduce((a, b) => Math.min(a, b));
      const most = values.reduce((a, b) => Math.max(a, b));
      return `${line.name}: now ${this.format(values.at(-1))}, lowest ${this.format(least)}, highest ${this.format(most)}`;
    });
    setAttribute(this.drawing, "aria-label", `Over ${span}. ${parts.join(". ")}.`);
  }
}

/** A backend's own little line: mean time to the first byte. */
export class Sparkline {
  constructor() {
    this.line = svg("path", { class: "line" });
    this.fill = svg("path", { class: "area" });
    this.node = svg(
      "svg",
      { class: "spark", role: "img", viewBox: "0 0 120 28", preserveAspectRatio: "none" },
      this.fill,
      this.line,
    );
  }

  draw(points, durationText) {
    const known = points.map(([, ms], index) => [index + 60 - points.length, ms]).filter(([, ms]) => ms !== null);
    if (!known.length) {
      setAttribute(this.line, "d", "M0 27H120");
      setAttribute(this.fill, "d", null);
      setAttribute(this.node, "aria-label", "Latency: no answers in the last minutes");
      return;
    }
    const values = known.map(([, ms]) => ms);
    const most = values.reduce((a, b) => Math.max(a, b));
    const least = values.reduce((a, b) => Math.min(a, b));
    // From zero: a line that fills its box whatever the values are says that all is wild.
    const x = (index) => (index / 59) * 120;
    const y = (ms) => 27 - (ms / (most || 1)) * 25;
    setAttribute(this.line, "d", path(known, x, y, 3));
    setAttribute(this.fill, "d", area(known, x, y, 3, 28));
    setAttribute(
      this.node,
      "aria-label",
      `Latency, last minutes: ${durationText(least)} to ${durationText(most)}, now ${durationText(values.at(-1))}`,
    );
  }
}
