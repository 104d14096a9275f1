// The list of runs: filtered, in an order, and moved through with the arrow keys.

const NUMBER = /(\d+(?:\.\d+)?(?:e[-+]?\d+)?)/i;

// By name, with numbers in it by their size: lr0.02 before lr0.1 before lr10.
export function byName(a, b) {
  const [left, right] = [a.split(NUMBER), b.split(NUMBER)];
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const order = at % 2 ? Number(left[at]) - Number(right[at]) : left[at].localeCompare(right[at], "en");
    if (order) return order;
  }
  return left.length - right.length || (a < b ? -1 : a > b ? 1 : 0);
}

const TINTS = {
  finished: "good", running: "good", diverged: "bad", failed: "bad", damaged: "bad", interrupted: "warn", abandoned: "warn",
  "flow-aligned": "good", sharpening: "good", "at the edge": "warn", "beyond it and oscillating": "warn",
  "beyond it and diverging": "bad", trapped: "warn",
};

export function element(kind, className, text) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;  // names come from disk: always as text
  return made;
}

export function chip(text) {
  return element("span", `chip ${TINTS[text] || ""}`, text);
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(digits)));
}

const ORDERS = {
  running: (a, b) => (b.state === "running") - (a.state === "running"),
  name: () => 0,
  changed: (a, b) => Math.round(b.changed / 60) - Math.round(a.changed / 60),
  loss: (a, b) => (a.loss ?? Infinity) - (b.loss ?? Infinity) || 0,
  ratio: (a, b) => (b.ratio ?? -Infinity) - (a.ratio ?? -Infinity) || 0,
};

export class List {
  // `choose(name, only)` is called when a run is to be drawn alone, or to be added or removed; `markOf(name)` gives the
  // mark of one that is drawn.
  constructor(place, { choose, markOf, counted }) {
    Object.assign(this, { place, choose, markOf, counted });
    this.rows = new Map();
    this.items = new Map();
    this.words = [];
    this.order = "running";
    this.current = null;
    place.addEventListener("keydown", (event) => this.key(event));
    place.addEventListener("click", (event) => {
      const item = event.target.closest(".run");
      if (!item) return;
      const add = event.target.closest(".box") || event.ctrlKey || event.metaKey || event.shiftKey;
      this.focus(item.dataset.name, false);
      this.choose(item.dataset.name, !add);
    });
  }

  update(rows, gone) {
    for (const name of gone) {
      this.rows.delete(name);
      this.items.get(name)?.remove();
      this.items.delete(name);
    }
    for (const row of rows) {
      this.rows.set(row.name, row);
      this.draw(row);
    }
    this.arrange();
  }

  draw(row) {
    let item = this.items.get(row.name);
    if (!item) {
      item = element("li", "run");
      item.setAttribute("role", "option");
      item.tabIndex = -1;
      item.dataset.name = row.name;
      this.items.set(row.name, item);
    }
    const facts = element("div", "facts");
    facts.append(chip(row.state === "abandoned" ? "ended without notice" : row.state));
    if (row.regime && row.regime !== "not known") facts.append(chip(row.regime));
    const told = [["step", row.step], ["loss", row.loss], ["ratio", row.ratio]];
    for (const [name, value] of told) if (value !== null) facts.append(element("span", "", `${name} ${number(value, 3)}`));
    const right = element("div", "");
    right.append(element("div", "name", row.name), facts);
    const box = element("span", "box");
    box.setAttribute("aria-hidden", "true");
    item.replaceChildren(box, right);
    item.title = row.fault || row.about;
    item.dataset.words = [row.name, row.state, row.regime, row.about, ...row.tags].join(" ").toLowerCase();
    this.mark(row.name);
  }

  mark(name) {
    const item = this.items.get(name);
    if (!item) return;
    const mark = this.markOf(name);
    item.setAttribute("aria-selected", String(Boolean(mark)));
    item.firstChild.replaceChildren(...(mark ? [mark] : []));
  }

  markAll() {
    for (const name of this.items.keys()) this.mark(name);
  }

  arrange() {
    const compare = ORDERS[this.order];
    const rows = [...this.rows.values()].sort((a, b) => compare(a, b) || byName(a.name, b.name));
    let shown = 0;
    const items = rows.map((row) => {
      const item = this.items.get(row.name);
      item.hidden = !this.words.every((word) => item.dataset.words.includes(word));
      shown += !item.hidden;
      return item;
    });
    const focused = document.activeElement;
    items.forEach((item, place) => {
      if (this.place.children[place] !== item) this.place.insertBefore(item, this.place.children[place] || null);
    });
    if (focused && focused.classList.contains("run") && document.activeElement !== focused) focused.focus();
    if (!this.visible().some((item) => item.dataset.name === this.current)) {
      this.current = this.visible()[0]?.dataset.name ?? null;
    }
    for (const item of items) item.tabIndex = item.dataset.name === this.current ? 0 : -1;
    this.counted(shown, rows.length);
  }

  filter(text) {
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.arrange();
  }

  visible() {
    return [...this.place.children].filter((item) => !item.hidden);
  }

  focus(name, move = true) {
    if (this.items.has(this.current)) this.items.get(this.current).tabIndex = -1;
    this.current = name;
    const item = this.items.get(name);
    if (!item) return;
    item.tabIndex = 0;
    if (move) {
      item.focus();
      item.scrollIntoView({ block: "nearest" });
    }
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const items = this.visible();
    const at = items.findIndex((item) => item.dataset.name === this.current);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1, PageDown: at + 10, PageUp: at - 10,
    }[event.key];
    if (to !== undefined && items.length) {
      this.focus(items[Math.max(0, Math.min(items.length - 1, to))].dataset.name);
    } else if (event.key === "Enter" && this.current !== null) {
      this.choose(this.current, true);
    } else if (event.key === " " && this.current !== null) {
      this.choose(this.current, false);
    } else {
      return;
    }
    event.preventDefault();
  }
}
