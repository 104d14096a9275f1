// The charts: drawn by Vega from the lines that the server sends, each updated in place as its run goes on.

import { element, number } from "./list.js";

const FONT = "Liberation Sans, Arial, Helvetica, sans-serif";
const INK = "#1f2328";
const MUTED = "#656d76";
const DASH = [5, 3];
const MARKS = 7;
const refuse = (address) => Promise.reject(new Error(`this page loads nothing, not ${address}`));
const LOADER = { load: refuse, sanitize: refuse, http: refuse, file: refuse };

// Vega is large and comes after the list of runs.
const vega = document.getElementById("vega");
const ready = new Promise((resolve, reject) => {
  if (window.vegaEmbed) resolve();
  vega.addEventListener("load", resolve);
  vega.addEventListener("error", () => reject(new Error("the script that draws charts did not load")));
});

const text = { labelFont: FONT, titleFont: FONT, labelColor: INK, titleColor: INK, labelFontSize: 11, titleFontSize: 11 };
const axis = { ...text, titleFontWeight: "normal", domainColor: MUTED, tickColor: MUTED, tickSize: 4, labelPadding: 4, labelOverlap: true };

function specification(panel, logarithmic, alarm) {
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    autosize: { type: "fit", contains: "padding" },
    padding: { left: 2, right: 8, top: 6, bottom: 2 },
    signals: [
      { name: "horizontal", value: [0, 1] },
      { name: "vertical", value: logarithmic ? [1, 10] : [0, 1] },
      { name: "pointed", value: null },
    ],
    data: [{ name: "lines", values: [] }, { name: "marks", values: [] }],
    scales: [
      { name: "x", type: "linear", domain: { signal: "horizontal" }, range: "width", zero: false, nice: false },
      { name: "y", type: logarithmic ? "log" : "linear", domain: { signal: "vertical" }, range: "height", zero: false, nice: false },
    ],
    axes: [
      { orient: "bottom", scale: "x", title: panel.horizontal, tickCount: 6, ...axis },
      { orient: "left", scale: "y", grid: true, gridColor: "#e6e8eb", domain: false, ticks: false, tickCount: logarithmic ? 4 : 5,
        format: logarithmic ? "~g" : undefined, title: panel.unit || undefined, ...axis },
    ],
    marks: [
      {
        type: "group", clip: true,
        encode: { update: { width: { signal: "width" }, height: { signal: "height" } } },
        marks: [
          ...(panel.at === null ? [] : [{
            type: "rule",
            encode: { update: {
              x: { value: 0 }, x2: { signal: "width" }, y: { scale: "y", value: panel.at },
              stroke: { value: alarm }, strokeDash: { value: DASH }, strokeWidth: { value: 1.4 },
            } },
          }]),
          {
            type: "group", from: { facet: { name: "line", data: "lines", groupby: "line" } },
            marks: [{
              type: "line", from: { data: "line" },
              encode: { update: {
                x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" }, defined: { signal: "datum.y !== null" },
                stroke: { field: "colour" }, strokeWidth: { value: 1.7 }, strokeOpacity: { field: "fade" },
                strokeDash: { signal: `datum.dashed ? [${DASH}] : [1, 0]` }, strokeJoin: { value: "round" }, strokeCap: { value: "round" }, // which draws a dot for a single value
              } },
            }],
          },
          {
            type: "symbol", from: { data: "marks" },
            encode: { update: {
              x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" }, size: { value: 42 },
              shape: { field: "shape" }, fill: { field: "colour" }, fillOpacity: { field: "fade" },
            } },
          },
          {
            type: "rule",
            encode: { update: {
              x: { signal: "pointed === null ? -10 : scale('x', pointed)" }, y: { value: 0 }, y2: { signal: "height" },
              stroke: { value: MUTED }, strokeOpacity: { signal: "pointed === null ? 0 : 0.6" },
            } },
          },
        ],
      },
    ],
  };
}

// The place of the value nearest to x in a sorted array.
function nearest(sorted, x) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - sorted[low - 1] < sorted[low] - x ? low - 1 : low;
}

function extent(panel, logarithmic) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const line of panel.lines) {
    left = Math.min(left, line.x[0]);
    right = Math.max(right, line.x[line.x.length - 1]);
    for (const value of line.y) {
      if (value === null || (logarithmic && value <= 0)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (left === right) [left, right] = [left - 1, right + 1];
  if (!(low <= high)) return { x: [left, right], y: logarithmic ? [1, 10] : [0, 1] };
  if (logarithmic) {
    const air = Math.max(1.1, (high / low) ** 0.05);
    return { x: [left, right], y: [low / air, high * air] };
  }
  if (panel.at !== null) [low, high] = [Math.min(low, panel.at), Math.max(high, panel.at)];
  if (low > 0 && low < 0.4 * high) low = 0;
  const air = high > low ? 0.05 * (high - low) : 0.1 * Math.abs(high) || 1;
  return { x: [left, right], y: [low === 0 ? 0 : low - air, high + air] };
}

export class Chart {
  // `style(run)` gives the colour and shape of a run by its place in the answer of the server, `name(run)` its name.
  constructor(name, page) {
    this.page = page;
    this.name = name;
    this.view = null;
    this.byHand = null;
    this.figure = element("figure", "panel");
    this.figure.dataset.panel = name;
    const caption = element("figcaption", "");
    this.title = element("h3", "");
    const label = element("label", "");
    this.log = element("input", "");
    this.log.type = "checkbox";
    label.append(this.log, "log");
    caption.append(this.title, label);
    this.plot = element("div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.place = element("div", "");
    this.plot.append(this.place);
    this.note = element("p", "hint");
    this.legend = element("div", "legend");
    this.figure.append(caption, this.plot, this.legend, this.note);
    this.log.addEventListener("change", () => {
      this.byHand = this.log.checked;
      this.draw(this.panel);
    });
    this.watch();
    this.size = new ResizeObserver(() => this.fit());
    this.size.observe(this.plot);
  }

  async draw(panel) {
    this.panel = panel;
    this.label();
    const positive = panel.lines.some((line) => line.y.some((value) => value > 0));
    const logarithmic = positive && (this.byHand ?? panel.logarithmic);
    this.log.checked = logarithmic;
    this.log.disabled = !positive;
    this.log.setAttribute("aria-label", `logarithmic axis: ${panel.title}`);
    const kind = `${logarithmic} ${panel.horizontal} ${panel.unit} ${panel.at}`;
    if (this.kind !== kind) {
      this.kind = kind;
      this.view?.finalize();
      this.view = null;
      await ready;
      if (this.kind !== kind) return;
      const spec = specification(this.panel, logarithmic, this.page.alarm);
      const { width, height } = this.plot.getBoundingClientRect();
      const options = { mode: "vega", renderer: "svg", actions: false, ast: true, defaultStyle: false, loader: LOADER,
        width: Math.max(120, width), height: Math.max(80, height), tooltip: false, hover: false };
      const made = await window.vegaEmbed(this.place, spec, options);
      if (this.kind !== kind) return;
      this.view = made.view;
      this.place.querySelector("svg").setAttribute("aria-hidden", "true");
    }
    this.fill(logarithmic);
  }

  fill(logarithmic) {
    if (!this.view) return;
    const rows = [];
    const marks = [];
    this.panel.lines.forEach((line, place) => {
      const { colour, shape } = this.page.style(line.run);
      const row = { line: place, colour, shape, dashed: line.dashed, fade: line.fade };
      const drawn = line.y.map((value) => (logarithmic && value <= 0 ? null : value));
      drawn.forEach((y, at) => rows.push({ ...row, x: line.x[at], y }));
      if (line.dashed || !this.page.marked || this.panel.horizontal !== "step") return;
      const step = Math.max(1, Math.floor(drawn.length / MARKS));
      for (let at = drawn.length - 1; at >= 0; at -= step) if (drawn[at] !== null) marks.push({ ...row, x: line.x[at], y: drawn[at] });
    });
    const { x, y } = extent(this.panel, logarithmic);
    this.view.data("lines", rows).data("marks", marks).signal("horizontal", x).signal("vertical", y);
    this.view.runAsync();
  }

  label() {
    const { panel } = this;
    this.title.replaceChildren(panel.title);
    if (panel.unit) this.title.append(element("span", "", ` (${panel.unit})`));
    this.note.textContent = panel.note;
    const last = panel.lines.slice(0, 6).map((line) => `${this.nameOf(line)} ${number(line.y[line.y.length - 1])}`);
    this.plot.setAttribute("aria-label", `Chart: ${panel.title}. Last values: ${last.join("; ")}. Arrow keys read the values.`);
    const parts = [...new Map(panel.lines.filter((line) => line.part).map((line) => [line.part, line])).values()];
    const named = panel.horizontal === "step" && (parts.length > 1 || parts.some((line) => line.dashed)) ? parts : [];
    this.legend.replaceChildren(...named.map((line) => {
      const entry = element("span", "");
      entry.append(this.page.stroke(line, named), line.part);
      return entry;
    }));
  }

  nameOf(line) {
    const run = this.page.several ? this.page.name(line.run) : "";
    return [run, line.part].filter(Boolean).join(", ") || this.panel.title;
  }

  fit() {
    if (!this.view) return;
    const { width, height } = this.plot.getBoundingClientRect();
    this.view.width(Math.max(120, width)).height(Math.max(80, height)).runAsync();
  }

  close() {
    this.size.disconnect();
    this.view?.finalize();
    this.figure.remove();
  }

  // ------------------------------------------------------------------------------------ pointer and keys on a chart

  watch() {
    const { plot } = this;
    let from = null;
    const picked = element("div", "picked");
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.view || this.panel.horizontal !== "step") return;
      from = this.at(event);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!this.view) return;
      const x = this.at(event);
      if (from !== null && Math.abs(x - from) > 4) {
        plot.setPointerCapture(event.pointerId);
        const origin = this.view.origin()[0];
        picked.style.left = `${origin + Math.min(from, x)}px`;
        picked.style.width = `${Math.abs(x - from)}px`;
        plot.append(picked);
      }
      this.read(this.view.scale("x").invert(x), event.clientX, event.clientY);
    });
    plot.addEventListener("pointerup", (event) => {
      const x = this.at(event);
      if (from !== null && Math.abs(x - from) > 4) {
        const ends = [from, x].map((end) => Math.round(this.view.scale("x").invert(end))).sort((a, b) => a - b);
        this.page.zoom(Math.max(0, ends[0]), Math.max(ends[0] + 1, ends[1]));
      }
      from = null;
      picked.remove();
    });
    plot.addEventListener("pointerleave", () => this.unread());
    plot.addEventListener("dblclick", () => this.page.zoom(null, null));
    plot.addEventListener("blur", () => this.unread());
    plot.addEventListener("keydown", (event) => this.key(event));
  }

  at(event) {
    const width = this.view.width() || 1;
    const x = event.clientX - this.plot.getBoundingClientRect().left - this.view.origin()[0];
    return Math.max(0, Math.min(width, x));
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.view) return;
    const steps = this.panel.lines[0].x;
    const now = this.pointed === undefined ? steps.length - 1 : nearest(steps, this.pointed);
    const by = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: now - by, ArrowRight: now + by, Home: 0, End: steps.length - 1 }[event.key];
    if (event.key === "Escape") this.unread();
    if (to === undefined) return;
    event.preventDefault();
    const step = steps[Math.max(0, Math.min(steps.length - 1, to))];
    const area = this.plot.getBoundingClientRect();
    const x = area.left + this.view.origin()[0] + this.view.scale("x")(step);
    this.page.say(this.read(step, x, area.top + area.height / 3));
  }

  // Show the values at the readings nearest to x, beside a place on the page; they are returned as a sentence.
  read(x, clientX, clientY) {
    const { lines } = this.panel;
    const near = lines.map((line) => ({ line, at: nearest(line.x, x) }));
    const closest = near.reduce((best, one) => (Math.abs(one.line.x[one.at] - x) < Math.abs(best - x) ? one.line.x[one.at] : best), Infinity);
    const told = near.filter(({ line, at }) => this.panel.horizontal !== "step" || line.x[at] === closest).slice(0, 16);
    this.pointed = closest;
    this.view.signal("pointed", closest).runAsync();
    const table = element("table", "");
    for (const { line, at } of told) {
      const row = element("tr", "");
      const mark = element("td", "");
      mark.append(this.page.mark(line.run));
      row.append(mark, element("td", "", this.nameOf(line)), element("td", "", number(line.y[at])));
      table.append(row);
    }
    const head = `${this.panel.horizontal} ${number(closest)}`;
    this.page.tooltip([element("div", "", head), table], clientX, clientY);
    return `${head}: ${told.map(({ line, at }) => `${this.nameOf(line)} ${number(line.y[at])}`).join("; ")}`;
  }

  unread() {
    this.pointed = undefined;
    this.page.tooltip(null);
    this.view?.signal("pointed", null).runAsync();
  }
}
