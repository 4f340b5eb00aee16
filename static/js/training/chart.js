// A line chart in SVG. Colours come from the style sheet, so that nothing is drawn anew when the theme changes.
//
// new Chart(root, options).show({ series, marks, log })
//   series: [{ name, slot, points: [[step, value], …], look: "line" | "thin" | "dots" }], by step
//   marks:  [{ step, best }], vertical lines; `best` is a sentence's word, or empty
// `root` is a <div class="tr-chart">; its data-title names the chart for screen readers.

const SVG = "http://www.w3.org/2000/svg";
const PAD = { top: 14, right: 14, bottom: 26, left: 52 };
const DOTS = 60; // points of a curve that have a dot each, at most
const MANY = 400; // points of a curve that is drawn thin
const GAP = 64; // pixels between two labels of the x axis, at least

const node = (tag, attributes, parent, text) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
};

export const figure = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return size >= 1000 ? Math.round(value).toLocaleString() : String(Number(value.toPrecision(4)));
};

export const bytes = (value) => value >= 1e9 ? `${Number((value / 1e9).toPrecision(3))} GB` : value ? `${(value / 1e6).toFixed(0)} MB` : "0";

// Round numbers from low to high, about `count` of them.
function linear(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

function logarithmic(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const each of [1, 2, 5]) found.push(Number(`${each}e${power}`));
  }
  const inside = found.filter((each) => each >= low * 0.999 && each <= high * 1.001);
  return inside.length > 9 ? inside.filter((each) => String(each).replace(/[0.]|e.*/g, "")[0] === "1") : inside;
}

// The index of the point whose step is nearest.
function nearest(points, step) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < step) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - step) <= Math.abs(points[high][0] - step) ? low : high;
}

export class Chart {
  constructor(root, { format = figure, empty = "Nothing measured yet", zero = false } = {}) {
    Object.assign(this, { root, format, empty, zero, drawn: [], data: { series: [], marks: [], log: false } });
    this.svg = node("svg", { role: "img" }, root);
    this.tip = document.createElement("div");
    this.tip.className = "tr-tip";
    this.tip.hidden = true;
    root.append(this.tip);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.draw()).observe(root);
  }

  show(data) {
    this.data = { marks: [], log: false, ...data };
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  get lines() {
    const kept = this.data.log ? ([, value]) => value > 0 : () => true;
    return this.data.series.map((line) => ({ ...line, points: line.points.filter(kept) })).filter((line) => line.points.length);
  }

  scale(lines) {
    this.log = this.data.log;
    this.width = Math.max(this.root.clientWidth, 120);
    this.height = Math.max(this.root.clientHeight, 80);
    const steps = lines.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]);
    this.first = Math.min(...steps);
    this.last = Math.max(...steps, this.first + 1);
    let low = Infinity, high = -Infinity;
    for (const { points } of lines) for (const [, value] of points) { low = Math.min(low, value); high = Math.max(high, value); }
    if (this.zero && !this.log) low = Math.min(low, 0);
    const room = this.log ? 0 : (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    this.low = this.log ? low * 0.94 : this.zero ? low : low - room;
    this.high = this.log ? high * 1.06 : high + room;
  }

  x(step) { return PAD.left + ((this.width - PAD.left - PAD.right) * (step - this.first)) / (this.last - this.first); }

  y(value) {
    const at = this.log
      ? (Math.log(value) - Math.log(this.low)) / (Math.log(this.high) - Math.log(this.low))
      : (value - this.low) / (this.high - this.low);
    return this.height - PAD.bottom - (this.height - PAD.top - PAD.bottom) * at;
  }

  draw() {
    const lines = this.drawn = this.lines;
    this.svg.replaceChildren();
    this.leave();
    this.root.toggleAttribute("data-empty", !lines.length);
    if (!lines.length) return this.drawNothing();
    this.scale(lines);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("aria-label", `${this.root.dataset.title}: ${lines.map((line) => this.sentence(line)).join("; ")}`);
    this.drawAxes();
    this.drawMarks();
    for (const line of lines) this.drawLine(line);
    this.cross = node("g", { class: "tr-cross", visibility: "hidden" }, this.svg);
  }

  drawNothing() {
    this.svg.setAttribute("viewBox", "0 0 300 80");
    this.svg.setAttribute("aria-label", `${this.root.dataset.title}: ${this.empty}`);
    node("text", { x: 150, y: 44, "text-anchor": "middle", class: "tr-nothing" }, this.svg, this.empty);
  }

  sentence({ name, points }) {
    return `${name} from ${this.format(points[0][1])} at step ${points[0][0]} to ${this.format(points.at(-1)[1])} at step ${points.at(-1)[0]}`;
  }

  drawAxes() {
    const axes = node("g", { class: "tr-axes", "aria-hidden": "true" }, this.svg);
    const rows = Math.max(3, Math.round((this.height - PAD.top - PAD.bottom) / 48));
    for (const value of this.log ? logarithmic(this.low, this.high) : linear(this.low, this.high, rows)) {
      const y = this.y(value);
      node("line", { x1: PAD.left, x2: this.width - PAD.right, y1: y, y2: y }, axes);
      node("text", { x: PAD.left - 8, y: y + 4, "text-anchor": "end" }, axes, this.format(value));
    }
    const columns = Math.max(2, Math.floor((this.width - PAD.left - PAD.right) / GAP));
    for (const step of linear(this.first, this.last, columns).filter(Number.isInteger)) {
      const x = this.x(step), edge = x > this.width - PAD.right - 12;
      node("text", { x: edge ? this.width - 2 : x, y: this.height - 8, "text-anchor": edge ? "end" : "middle" }, axes, step.toLocaleString());
    }
  }

  drawMarks() {
    for (const mark of this.data.marks.filter(({ step }) => step >= this.first && step <= this.last)) {
      const x = this.x(mark.step), group = node("g", { class: "tr-mark", ...(mark.best && { "data-best": "" }) }, this.svg);
      node("line", { x1: x, x2: x, y1: PAD.top, y2: this.height - PAD.bottom }, group);
      node("text", { x, y: PAD.top - 2, "text-anchor": "middle" }, group, mark.best ? "★" : "▾");
    }
  }

  drawLine({ points, look = "line", slot }) {
    const at = points.map(([step, value]) => `${this.x(step).toFixed(1)},${this.y(value).toFixed(1)}`);
    const many = points.length > MANY && { "data-many": "" };
    node("polyline", { points: at.join(" "), class: "tr-line", "data-look": look, "data-slot": slot, ...many }, this.svg);
    if (look === "dots" ? points.length > DOTS : points.length > 1) return;
    for (const each of at) {
      const [cx, cy] = each.split(",");
      node("circle", { cx, cy, r: 3, class: "tr-dot", "data-slot": slot }, this.svg);
    }
  }

  point(event) {
    const lines = this.drawn;
    if (!lines.length) return;
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right);
    const wanted = this.first + share * (this.last - this.first);
    const found = lines.map((line) => ({ ...line, at: line.points[nearest(line.points, wanted)] }));
    const step = found.reduce((best, { at }) => Math.abs(at[0] - wanted) < Math.abs(best - wanted) ? at[0] : best, found[0].at[0]);
    this.cross.replaceChildren();
    this.cross.setAttribute("visibility", "visible");
    const x = this.x(step);
    node("line", { x1: x, x2: x, y1: PAD.top, y2: this.height - PAD.bottom }, this.cross);
    for (const { at, slot } of found) node("circle", { cx: this.x(at[0]), cy: this.y(at[1]), r: 4, class: "tr-dot", "data-slot": slot }, this.cross);
    this.say(step, found, x / this.width);
  }

  say(step, found, share) {
    const mark = this.data.marks.find((each) => each.step === step);
    const row = (name, value, slot) => {
      const line = document.createElement("span");
      if (slot !== undefined) line.dataset.slot = slot;
      line.append(name, Object.assign(document.createElement("b"), { textContent: value }));
      return line;
    };
    const head = Object.assign(document.createElement("strong"), { textContent: `Step ${step.toLocaleString()}${mark ? `, checkpoint${mark.best ? ` (${mark.best})` : ""}` : ""}` });
    this.tip.replaceChildren(head, ...found.map(({ name, at, slot }) => row(`${name}${at[0] === step ? "" : ` (step ${at[0].toLocaleString()})`}`, this.format(at[1]), slot)));
    this.tip.hidden = false;
    this.tip.style.left = share > 0.5 ? "auto" : `${share * 100}%`;
    this.tip.style.right = share > 0.5 ? `${(1 - share) * 100}%` : "auto";
  }

  leave() {
    this.tip.hidden = true;
    this.cross?.setAttribute("visibility", "hidden");
  }
}

// As TensorBoard does it: an exponential mean, freed of its start at zero.
export function smooth(points, weight) {
  let sum = 0, norm = 0;
  return points.map(([step, value]) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return [step, sum / norm];
  });
}
