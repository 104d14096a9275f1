"use strict";
(function () {
  const root = document.documentElement;
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));

  // Dark and light: as the system has it, until the switch is used; kept where the browser lets a file keep anything.
  const KEY = "edgescope-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = (value) => {
    try {
      if (value === undefined) return window.localStorage.getItem(KEY);
      window.localStorage.setItem(KEY, value);
    } catch { /* no storage for files: the choice lasts as long as the page */ }
    return null;
  };
  const button = document.querySelector("[data-theme-switch]");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const kept = stored();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();

  // Filter by verdict and by words.
  const filter = document.querySelector("[data-filter]");
  const cards = all(".card");
  if (filter) {
    const text = filter.querySelector("input");
    const buttons = all("button", filter);
    const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
    const apply = () => {
      const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const verdicts = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.verdict);
      let shown = 0;
      for (const card of cards) {
        const fits = (!verdicts.length || verdicts.includes(card.dataset.verdict)) &&
          wanted.every((word) => words.get(card).includes(word));
        card.hidden = !fits;
        shown += fits;
      }
      for (const entry of all(".contents [data-for]")) entry.hidden = document.getElementById(entry.dataset.for).hidden;
      for (const group of all(".topic, .topic-cards")) {
        group.hidden = !all("[data-for], .card", group).some((part) => !part.hidden);
      }
      document.querySelector("[data-nothing]").hidden = shown > 0;
      const some = wanted.length || verdicts.length;
      filter.querySelector(".filter-count").textContent = some ? `${shown} of ${cards.length} claims` : "";
    };
    text.addEventListener("input", apply);
    for (const b of buttons) {
      b.addEventListener("click", () => {
        b.setAttribute("aria-pressed", b.getAttribute("aria-pressed") === "true" ? "false" : "true");
        apply();
      });
    }
    // A link to a claim that the filter hides takes the filter away.
    window.addEventListener("hashchange", () => {
      const target = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
      const card = target && target.closest(".card");
      if (!card || !card.hidden) return;
      text.value = "";
      for (const b of buttons) b.setAttribute("aria-pressed", "false");
      apply();
      target.scrollIntoView();
    });
    filter.hidden = false;
  }

  // A chosen entry closes the contents of a narrow page.
  const open = document.getElementById("contents-open");
  for (const link of all(".contents a")) link.addEventListener("click", () => { open.checked = false; });

  // Where the reader is.
  const entries = new Map(all(".contents [data-for] a").map((link) => [link.parentNode.dataset.for, link]));
  if (entries.size && "IntersectionObserver" in window) {
    const watcher = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const link = entries.get(target.id);
        if (!link) continue;
        if (isIntersecting) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-20% 0px -70% 0px" });
    for (const card of cards) watcher.observe(card);
  }

  if (!window.vegaEmbed) return;
  for (const hint of all("[data-scripted]")) hint.hidden = false;

  // The values under the pointer. Everything is set as text.
  const box = document.createElement("div");
  box.className = "tooltip";
  box.setAttribute("role", "status");
  document.body.appendChild(box);
  const round = (value) => {
    if (typeof value !== "number" || !Number.isFinite(value)) return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? value.toLocaleString("en-US") : value.toExponential(3);
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e6) return value.toExponential(3);
    return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
  };
  const tell = (event, item, value) => {
    if (value === null || value === undefined || value === "" || (item && item.opacity === 0)) {
      box.classList.remove("told");
      return;
    }
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    const list = document.createElement("dl");
    for (const [name, told] of pairs) {
      if (told === "" || told === null || told === undefined) continue;
      const dt = document.createElement("dt");
      const dd = document.createElement("dd");
      dt.textContent = name;
      dd.textContent = round(told);
      list.append(dt, dd);
    }
    box.replaceChildren(list);
    box.classList.add("told");
    const [x, y] = event.pagePoint || [event.clientX, event.clientY];
    const { width, height } = box.getBoundingClientRect();
    const left = x + 14 + width > root.clientWidth ? x - 14 - width : x + 14;
    const top = y + 14 + height > root.clientHeight ? y - 14 - height : y + 14;
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${Math.max(4, top)}px`;
  };
  window.addEventListener("scroll", () => box.classList.remove("told"), { passive: true });

  // Figures are shown larger or smaller than they were drawn. Vega takes the places of events for those of the
  // drawing, so they are converted before it sees them.
  let held = null;
  const convert = (event) => {
    const over = event.target instanceof Element ? event.target.closest(".live") : null;
    if (event.type === "pointerdown") held = over;
    const figure = held || over;
    if (event.type === "pointerup" || event.type === "pointercancel") held = null;
    const svg = figure && figure.querySelector("svg");
    if (!svg || event.pagePoint) return;
    const area = svg.getBoundingClientRect();
    const scale = area.width / svg.viewBox.baseVal.width;
    if (!(scale > 0)) return;
    const { clientX, clientY } = event;
    const at = { clientX: area.left + (clientX - area.left) / scale, clientY: area.top + (clientY - area.top) / scale };
    for (const name of ["clientX", "clientY"]) Object.defineProperty(event, name, { value: at[name] });
    Object.defineProperty(event, "pagePoint", { value: [clientX, clientY] });
  };
  for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerover", "pointerout",
    "mousedown", "mousemove", "mouseup", "mouseover", "mouseout", "click", "dblclick", "wheel"]) {
    window.addEventListener(type, convert, { capture: true, passive: true });
  }

  // Nothing is loaded: a figure that asks for an address is refused.
  const refuse = (address) => Promise.reject(new Error(`this page loads nothing, not ${address}`));
  const loader = { load: refuse, sanitize: refuse, http: refuse, file: refuse };
  const options = {
    mode: "vega", renderer: "svg", actions: false, ast: true, defaultStyle: false, loader,
    tooltip: (handler, event, item, value) => tell(event, item, value),
  };
  const enliven = async (picture) => {
    const source = document.getElementById(`live-${picture.dataset.picture}`);
    if (!source || picture.classList.contains("alive")) return;
    const place = document.createElement("div");
    place.className = "live";
    const still = picture.querySelector(".still svg");
    try {
      picture.append(place);
      const { view } = await window.vegaEmbed(place, JSON.parse(source.textContent), options);
      await view.runAsync();
      const svg = place.querySelector("svg");
      svg.style.width = `${still.getAttribute("width")}px`;
      svg.setAttribute("aria-label", still.getAttribute("aria-label"));
      picture.classList.add("alive");
      place.addEventListener("pointerleave", () => box.classList.remove("told"));
    } catch (error) {
      place.remove();  // the still picture stays
      console.error(`figure ${picture.dataset.picture}: ${error.message}`);
    }
  };
  const pictures = all(".picture");
  if ("IntersectionObserver" in window) {
    const watcher = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        enliven(target);
      }
    }, { rootMargin: "300px 0px" });
    for (const picture of pictures) watcher.observe(picture);
  } else {
    pictures.forEach(enliven);
  }
})();
