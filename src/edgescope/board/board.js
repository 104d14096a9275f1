// The page: what is chosen and drawn, what the server tells, the theme and the keys.

import { Chart } from "./charts.js";
import { List, chip, element, number } from "./list.js";

const SVG = "http://www.w3.org/2000/svg";
// The colours in an order in which the first ones are far apart.
const ORDER = [2, 1, 3, 5, 0, 4];
const find = (id) => document.getElementById(id);
const root = document.documentElement;

let look = { palette: ["#1a63bc"], shapes: ["circle"], most: 12, alarm: "#b3261e", folder: "" };
const chosen = [];  // a name or null in each place, so that a run keeps its colour
let drawn = [];  // the names of those whose panels are shown, in the order of the server
let bounds = [null, null];
const charts = new Map();

// ------------------------------------------------------------------------------------------------- marks and colours

const PATHS = {
  circle: "M7 2.5a4.5 4.5 0 1 0 0.01 0Z", square: "M3 3H11V11H3Z", "triangle-up": "M7 2L12 11H2Z", diamond: "M7 1.5L12 7L7 12.5L2 7Z",
  cross: "M5 2H9V5H12V9H9V12H5V9H2V5H5Z", "triangle-down": "M2 3H12L7 12Z", "triangle-right": "M3 2L12 7L3 12Z",
};

function styleAt(place) {
  const { palette, shapes } = look;
  return { colour: palette[ORDER[place % palette.length] ?? 0], shape: shapes[Math.floor(place / palette.length) % shapes.length] };
}

function drawing(width, path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} 14`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", 14);
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  for (const [name, value] of Object.entries(path)) shape.setAttribute(name, value);
  svg.append(shape);
  return svg;
}

function markAt(place) {
  const { colour, shape } = styleAt(place);
  return drawing(14, { d: PATHS[shape] || PATHS.circle, fill: colour });
}

const placeOf = (name) => chosen.indexOf(name);
const chosenNames = () => chosen.filter((name) => name !== null);

// ---------------------------------------------------------------------------------------------------------- the list

const list = new List(find("list"), {
  choose,
  markOf: (name) => (placeOf(name) < 0 ? null : markAt(placeOf(name))),
  counted: (shown, all) => { find("count").textContent = countText(shown, all); },
});

function countText(shown, all) {
  const running = [...list.rows.values()].filter((row) => row.state === "running").length;
  document.title = `${running ? `${running} running · ` : ""}${all} runs · Edgescope board`;
  const parts = [shown === all ? `${all} ${all === 1 ? "run" : "runs"}` : `${shown} of ${all} runs`];
  if (running) parts.push(`${running} running`);
  const unread = [...list.rows.values()].filter((row) => row.state === "not read yet").length;
  if (unread) parts.push(`${unread} still to read`);
  return parts.join(", ");
}

function choose(name, only) {
  const place = placeOf(name);
  if (only) {
    chosen.length = 0;
    chosen.push(name);
  } else if (place >= 0) {
    chosen[place] = null;
  } else if (chosenNames().length >= look.most) {
    trouble(`At most ${look.most} runs are drawn together.`);
    return;
  } else {
    const free = chosen.indexOf(null);
    if (free < 0) chosen.push(name);
    else chosen[free] = name;
  }
  changed();
}

function changed() {
  list.markAll();
  keepAddress();
  cards();
  refresh();
}

find("filter").addEventListener("input", (event) => { list.filter(event.target.value); keepAddress(); });
find("order").addEventListener("change", (event) => { list.order = event.target.value; list.arrange(); });
find("filter").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.value) {
    event.target.value = "";
    list.filter("");
    keepAddress();
    event.preventDefault();
  } else if ((event.key === "ArrowDown" || event.key === "Enter" || event.key === "Escape") && list.current !== null) {
    list.focus(list.current);
    event.preventDefault();
  }
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  find("filter").focus();
  find("filter").select();
});

// ------------------------------------------------------------------------------------------------ the address keeps it

function keepAddress() {
  const kept = new URLSearchParams();
  for (const name of chosenNames()) kept.append("run", name);
  if (find("filter").value) kept.set("filter", find("filter").value);
  if (bounds[0] !== null) kept.set("first", bounds[0]);
  if (bounds[1] !== null) kept.set("last", bounds[1]);
  history.replaceState(null, "", `#${kept}`);
}

function readAddress() {
  const kept = new URLSearchParams(location.hash.slice(1));
  chosen.length = 0;
  chosen.push(...new Set(kept.getAll("run")));
  const step = (name) => (/^\d{1,15}$/.test(kept.get(name) ?? "") ? Number(kept.get(name)) : null);
  bounds = [step("first"), step("last")];
  find("filter").value = kept.get("filter") ?? "";
  list.filter(find("filter").value);
}

// ----------------------------------------------------------------------------------------------------- the chosen runs

const DETAILED = 3;  // of so many runs the verdicts are shown in full
const opened = new Set();

function cards() {
  const place = find("chosen");
  const focused = document.activeElement?.closest?.("[data-card]")?.dataset.card;
  place.replaceChildren(...chosenNames().filter((name) => list.rows.has(name)).map((name) => {
    const row = list.rows.get(name);
    const card = element("article", "card");
    card.dataset.card = name;
    const head = element("header", "");
    head.append(markAt(placeOf(name)), element("h2", "", name));
    const remove = element("button", "", "remove");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${name} from the charts`);
    remove.addEventListener("click", () => choose(name, false));
    head.append(remove);
    const facts = element("div", "facts");
    facts.append(chip(row.state === "abandoned" ? "ended without notice" : row.state));
    if (row.regime) facts.append(chip(row.regime === "not known" ? "regime not known" : row.regime));
    for (const [label, value] of [["step", row.step], ["loss", row.loss], ["ratio", row.ratio]]) {
      if (value !== null) facts.append(element("span", "", `${label} ${number(value)}`));
    }
    card.append(head, facts);
    if (row.about) card.append(element("p", "about", row.about));
    if (row.fault) card.append(element("p", "why", row.fault));
    const words = [];
    if (row.sentences.length) words.push(element("p", "why", `${row.sentences.join(". ")}.`));
    if (row.advice) words.push(element("p", "advice", `Advice: ${row.advice}.`));
    if (words.length && chosenNames().length > DETAILED) {
      const details = element("details", "");
      details.open = opened.has(name);
      details.addEventListener("toggle", () => { opened[details.open ? "add" : "delete"](name); });
      details.append(element("summary", "", "Why"), ...words);
      words.splice(0, words.length, details);
    }
    card.append(...words);
    return card;
  }));
  if (focused) place.querySelector(`[data-card="${CSS.escape(focused)}"] button`)?.focus();
  const none = list.rows.size === 0;
  const empty = find("empty");
  empty.hidden = chosenNames().length > 0;
  empty.textContent = none
    ? `There are no runs below ${look.folder} yet. Runs of es.Monitor(..., out="..."), es.watch, edgescope train or edgescope sweep appear here when they begin.`
    : "No run is chosen. Click a run in the list, or move there with the arrow keys and press Enter.";
}

// ---------------------------------------------------------------------------------------------------------- the charts

const tooltip = element("div", "tooltip");
tooltip.hidden = true;
document.body.append(tooltip);

const page = {
  get alarm() { return look.alarm; },
  get several() { return drawn.length > 1; },
  get marked() { return chosen.length > look.palette.length; },
  name: (run) => drawn[run],
  style: (run) => styleAt(Math.max(0, placeOf(drawn[run]))),
  mark: (run) => markAt(Math.max(0, placeOf(drawn[run]))),
  stroke(line, shown) {
    const { colour } = this.several ? { colour: "#656d76" } : this.style(line.run);
    const faded = shown.some((other) => other.fade !== line.fade) ? line.fade : 1;
    return drawing(22, { d: "M1 7H21", stroke: colour, "stroke-width": 2, "stroke-opacity": faded, ...(line.dashed ? { "stroke-dasharray": "5 3" } : {}) });
  },
  zoom(first, last) {
    bounds = [first, last];
    keepAddress();
    refresh();
  },
  say(text) { find("said").textContent = text; },
  tooltip(content, x, y) {
    tooltip.hidden = content === null;
    if (content === null) return;
    tooltip.replaceChildren(...content);
    const { width, height } = tooltip.getBoundingClientRect();
    tooltip.style.left = `${Math.max(4, x + 16 + width > root.clientWidth ? x - 16 - width : x + 16)}px`;
    tooltip.style.top = `${Math.max(4, Math.min(y + 12, window.innerHeight - height - 4))}px`;
  },
};

let fetching = false;
let again = false;

async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    do {
      again = false;
      await load();
    } while (again);
  } catch (error) {
    trouble(`The charts could not be loaded (${error.message}).`);
  } finally {
    fetching = false;
  }
}

async function load() {
  const names = chosenNames().filter((name) => list.rows.has(name));
  if (!names.length) {
    show({ runs: [], panels: [] });
    return;
  }
  const query = new URLSearchParams(names.map((name) => ["run", name]));
  if (bounds[0] !== null) query.set("first", bounds[0]);
  if (bounds[1] !== null) query.set("last", bounds[1]);
  const answer = await fetch(`/panels?${query}`);
  if (!answer.ok) {
    trouble(await answer.text());
    return;
  }
  show(await answer.json());
  trouble("");
}

function show({ runs, panels }) {
  drawn = runs;
  const place = find("panels");
  for (const [name, chart] of charts) {
    if (panels.some((panel) => panel.name === name)) continue;
    chart.close();
    charts.delete(name);
  }
  panels.forEach((panel, at) => {
    if (!charts.has(panel.name)) charts.set(panel.name, new Chart(panel.name, page));
    const chart = charts.get(panel.name);
    if (place.children[at] !== chart.figure) place.insertBefore(chart.figure, place.children[at] || null);
    chart.draw(panel).catch((error) => trouble(`${panel.title} cannot be drawn (${error.message}).`));
  });
  find("steps").hidden = !runs.length;
  find("every").disabled = bounds[0] === null && bounds[1] === null;
  for (const [at, id] of ["first", "last"].entries()) {
    if (document.activeElement !== find(id)) find(id).value = bounds[at] ?? "";
  }
}

find("steps").addEventListener("submit", (event) => {
  event.preventDefault();
  const read = (id) => (find(id).value === "" ? null : Math.max(0, Math.round(Number(find(id).value))));
  page.zoom(read("first"), read("last"));
});
find("every").addEventListener("click", () => page.zoom(null, null));

function trouble(text) {
  find("trouble").textContent = text;
  find("trouble").hidden = !text;
}

// ----------------------------------------------------------------------------------------------- what the server tells

function listen() {
  const source = new EventSource("/events");
  const link = find("link");
  source.addEventListener("open", () => {
    link.textContent = "live";
    link.className = "link live";
  });
  source.addEventListener("error", () => {
    link.textContent = "no connection: what is shown may be out of date";
    link.className = "link lost";
  });
  source.addEventListener("look", (event) => {
    look = JSON.parse(event.data);
    find("folder").textContent = look.folder;
  });
  let begun = false;
  source.addEventListener("runs", (event) => {
    const told = JSON.parse(event.data);
    list.update(told.rows, told.gone);
    if (!begun) {
      begun = true;
      if (!chosenNames().some((name) => list.rows.has(name))) {
        chosen.length = 0;
        const first = latest();
        if (first) chosen.push(first);
      }
      changed();
    } else if (told.rows.some((row) => placeOf(row.name) >= 0) || told.gone.some((name) => placeOf(name) >= 0)) {
      cards();
      refresh();
    } else if (!chosenNames().length) {
      const first = list.rows.size === told.rows.length ? latest() : null;  // the first runs of an empty folder
      if (first) choose(first, true);
      else cards();
    }
  });
}

function latest() {
  const rows = [...list.rows.values()].sort((a, b) => (b.state === "running") - (a.state === "running") || b.changed - a.changed);
  return rows[0]?.name;
}

// ---------------------------------------------------------------------------------------------------------- the theme

const KEY = "edgescope-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const theme = find("theme");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
const named = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
const kept = window.localStorage.getItem(KEY);
if (kept === "dark" || kept === "light") root.dataset.theme = kept;
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  window.localStorage.setItem(KEY, root.dataset.theme);
  named();
});
system.addEventListener("change", named);
named();

readAddress();
listen();
