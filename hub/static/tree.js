// Resources of an application, drawn: tree, network and pods; zoom, pan, filter, fold, keys. The list has the same data.
// Every box has its place, but only those near what is looked at are in the page: thousands move like a few.
import { $, $$, toast } from "./app.js";

// AROUND: how far outside of what is seen boxes are there already, in pixels of the screen.
const WIDTH = 210, HEIGHT = 40, GAP_X = 46, GAP_Y = 10, ALIKE = 12, AROUND = 300;
const SHAPES = { Healthy: ["ok", "healthy"], Progressing: ["busy", "progressing"], Degraded: ["bad", "degraded"], Suspended: ["held", "suspended"], Missing: ["none", "missing"], Unknown: ["none", "unknown"] };
const RANK = ["Degraded", "Missing", "Unknown", "Progressing", "Suspended", "Healthy", ""];
const NET = { Ingress: 0, HTTPRoute: 0, Gateway: 0, Service: 1, Pod: 2 };
const svg = (name, attributes = {}) => {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
};
// An attribute that is set again is a change to what watches, also when it says the same.
const put = (element, name, value) => {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
};
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

class Tree {
  constructor(box) {
    this.box = box;
    this.mode = box.dataset.mode || "tree";
    this.folded = new Set();
    this.opened = new Set();
    this.drawn = new Map();
    this.zoom = 1;
    this.filter = "";
    this.kind = "";
    this.group = false;
    this.focus = "";
    this.selected = box.dataset.selected || "";
    this.canvas = $("[data-canvas]", box);
    this.wire();
    this.load();
  }

  // One question at a time, and the longer an answer takes, the longer until the next: a hub that is busy is not pressed.
  async follow() {
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    try {
      do {
        this.again = false;
        const began = performance.now();
        await this.load();
        await new Promise((done) => { setTimeout(done, 2 * (performance.now() - began)); });
      } while (this.again && document.contains(this.box));
    } finally { this.asking = false; }
  }

  get app() { return { k: "", kind: "Application", name: this.box.dataset.name, h: this.box.dataset.health, s: this.box.dataset.sync, root: true }; }

  async load() {
    const answer = await fetch(this.box.dataset.tree, { credentials: "same-origin" }).catch(() => null);
    const data = answer?.ok ? await answer.json().catch(() => null) : null;
    if (!data) { if (!this.data) this.say("The resources could not be read. What runs is not touched."); return; }
    this.data = data;
    this.byKey = new Map(this.data.nodes.map((node) => [node.k, node]));
    this.below = new Map();
    for (const node of this.data.nodes) {
      const owner = node.p && this.byKey.has(node.p) ? node.p : "";
      if (!this.below.has(owner)) this.below.set(owner, []);
      this.below.get(owner).push(node);
    }
    $("[data-tree-count]", this.box).textContent = `${this.data.nodes.length} resource${this.data.nodes.length === 1 ? "" : "s"}`;
    this.kinds();
    this.draw();
  }

  say(text) { this.canvas.textContent = text; this.drawn.clear(); this.svg = null; this.boxes = null; }

  kinds() {
    const select = $("[data-tree-kind]", this.box), was = select.value;
    const counts = {};
    for (const node of this.data.nodes) counts[node.kind] = (counts[node.kind] || 0) + 1;
    select.replaceChildren(new Option("Every kind", ""), ...Object.keys(counts).sort().map((kind) => new Option(`${kind} (${counts[kind]})`, kind)));
    select.value = counts[was] ? was : "";
    this.kind = select.value;
  }

  // ---------- what is shown, and where ----------
  alike(nodes) {
    // Many of one kind without anything below them become one, the worst stay to be seen.
    const kinds = new Map();
    for (const node of nodes) { if (!kinds.has(node.kind)) kinds.set(node.kind, []); kinds.get(node.kind).push(node); }
    const result = [];
    for (const [kind, list] of kinds) {
      const leaves = list.filter((node) => !this.below.has(node.k));
      const most = this.group ? 1 : ALIKE, keep = this.group ? 0 : 4;
      const name = `${nodes[0].p || ""}>${kind}`;
      if (leaves.length <= most || this.opened.has(name)) { result.push(...list); continue; }
      const ordered = [...leaves].sort((a, b) => RANK.indexOf(a.h || "") - RANK.indexOf(b.h || ""));
      const hidden = new Set(ordered.slice(keep));
      result.push(...list.filter((node) => !hidden.has(node)));
      const bad = [...hidden].filter((node) => node.h === "Degraded").length;
      result.push({ k: `*${name}`, kind, name: `${hidden.size} ${kind}s${bad ? `, ${bad} Degraded` : ""}`, h: ordered[keep]?.h, s: [...hidden].some((n) => n.s === "OutOfSync") ? "OutOfSync" : "", fold: name, count: hidden.size });
    }
    return result;
  }

  treeBoxes() {
    const boxes = [], edges = [];
    let line = 0;
    const place = (nodes, depth, parent) => {
      const own = [];
      for (const node of this.alike(nodes)) {
        const at = boxes.length;
        boxes.push(null);
        const children = this.below.get(node.k) || [];
        const shown = children.length && !this.folded.has(node.k) ? place(children, depth + 1, node.k) : [];
        const y = shown.length ? (shown[0].y + shown.at(-1).y) / 2 : line++ * (HEIGHT + GAP_Y);
        const found = { node, depth, x: depth * (WIDTH + GAP_X), y, children: children.length, parent };
        boxes[at] = found;
        for (const child of shown) edges.push([found, child]);
        own.push(found);
      }
      return own;
    };
    const root = this.app, top = place(this.below.get("") || [], 1, "");
    const box = { node: root, depth: 0, x: 0, y: top.length ? (top[0].y + top.at(-1).y) / 2 : 0, children: top.length, parent: null };
    return { boxes: [box, ...boxes], edges: [...top.map((child) => [box, child]), ...edges] };
  }

  netBoxes() {
    const used = new Set(this.data.links.flat());
    const columns = [[], [], []];
    for (const node of this.data.nodes) if (node.kind in NET || used.has(node.k)) columns[NET[node.kind] ?? 1].push(node);
    const boxes = new Map();
    while (columns.length && !columns[0].length) columns.shift();
    columns.forEach((column, depth) => column.forEach((node, row) => boxes.set(node.k, { node, depth, x: depth * (WIDTH + GAP_X * 2), y: row * (HEIGHT + GAP_Y), children: 0, parent: null })));
    const edges = this.data.links.filter(([from, to]) => boxes.has(from) && boxes.has(to)).map(([from, to]) => [boxes.get(from), boxes.get(to)]);
    for (const [from, to] of edges) to.parent ??= from.node.k;
    return { boxes: [...boxes.values()], edges };
  }

  // ---------- drawing ----------
  draw() {
    if (!this.data) return;
    $$("[data-tree-mode]", this.box).forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.treeMode === this.mode)));
    $("[data-tree-group]", this.box).hidden = this.mode !== "tree";
    $("[aria-label=Zoom]", this.box).hidden = this.mode === "pods";
    if (this.mode === "pods") { this.pods(); return; }
    const { boxes, edges } = this.mode === "network" ? this.netBoxes() : this.treeBoxes();
    if (!boxes.length) { this.say("Nothing here takes traffic."); return; }
    if (!this.svg) {
      this.canvas.textContent = "";
      this.drawn.clear();
      this.svg = svg("svg", { class: "tree", role: "tree", "aria-label": `Resources of ${this.box.dataset.name}` });
      this.lines = svg("g", { role: "presentation" });
      this.lined = new Map();
      this.svg.append(this.lines);
      this.canvas.append(this.svg);
    }
    this.boxes = boxes;
    this.at = new Map(boxes.map((box) => [box.node.k, box]));
    this.width = Math.max(...boxes.map((box) => box.x)) + WIDTH + 2;
    this.height = Math.max(...boxes.map((box) => box.y)) + HEIGHT + 2;
    this.edges = new Map();
    for (const [from, to] of edges) {
      const name = `${from.node.k} ${to.x}${to.node.h === "Degraded" ? " bad" : ""}`;
      if (!this.edges.has(name)) this.edges.set(name, { from, bad: to.node.h === "Degraded", to: [] });
      this.edges.get(name).to.push(to);
    }
    this.siblings();
    if (!this.at.has(this.focus)) this.focus = boxes[0].node.k;
    this.size();
    this.paint();
    this.count();
  }

  // Not all are in the page, so each says which of how many it is.
  siblings() {
    const families = new Map();
    for (const box of this.boxes) { if (!families.has(box.parent)) families.set(box.parent, []); families.get(box.parent).push(box); }
    for (const family of families.values()) family.forEach((box, n) => { box.nth = n + 1; box.of = family.length; });
  }

  // What is looked at and a little around it, in the drawing's own units.
  view() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.canvas, zoom = this.zoom;
    return { left: (scrollLeft - AROUND) / zoom, right: (scrollLeft + clientWidth + AROUND) / zoom, top: (scrollTop - AROUND) / zoom, bottom: (scrollTop + clientHeight + AROUND) / zoom };
  }

  paint() {
    if (!this.svg || !this.boxes) return;
    const seen = this.view(), had = this.svg.contains(document.activeElement);
    const near = this.boxes.filter((box) => box.node.k === this.focus || (box.y < seen.bottom && box.y + HEIGHT > seen.top && box.x < seen.right && box.x + WIDTH > seen.left));
    const keep = new Set(near.map((box) => box.node.k));
    for (const [key, group] of this.drawn) if (!keep.has(key)) { group.remove(); this.drawn.delete(key); }
    let before = this.lines;
    for (const box of near) {
      const group = this.node(box);
      // What is in its place stays there untouched.
      if (before.nextElementSibling !== group) before.after(group);
      before = group;
    }
    this.paintLines(seen);
    if (had && !this.svg.contains(document.activeElement)) this.drawn.get(this.focus).focus({ preventScroll: true });
  }

  paintLines(seen) {
    const keep = new Set();
    for (const [name, edge] of this.edges) {
      const d = this.path(edge, seen);
      if (!d) continue;
      keep.add(name);
      let line = this.lined.get(name);
      if (!line) { line = svg("path", { class: `edge${edge.bad ? " bad" : ""}` }); this.lined.set(name, line); this.lines.append(line); }
      put(line, "d", d);
    }
    for (const [name, line] of this.lined) if (!keep.has(name)) { line.remove(); this.lined.delete(name); }
  }

  // From one to all of its own: a trunk, and a branch to each that is seen.
  path({ from, to }, seen) {
    const start = from.x + WIDTH, y = from.y + HEIGHT / 2, ends = to.map((box) => ({ x: box.x, y: box.y + HEIGHT / 2 }));
    const low = Math.max(seen.top, Math.min(y, ...ends.map((end) => end.y))), high = Math.min(seen.bottom, Math.max(y, ...ends.map((end) => end.y)));
    if (low > high || start > seen.right || Math.max(...ends.map((end) => end.x)) < seen.left) return "";
    const inside = (at) => at >= seen.top && at <= seen.bottom, mid = (start + ends[0].x) / 2;
    const branches = ends.filter((end) => inside(end.y)).map((end) => `M${mid} ${end.y}H${end.x}`);
    return `${inside(y) ? `M${start} ${y}H${mid}` : ""}${low < high ? `M${mid} ${low}V${high}` : ""}${branches.join("")}`;
  }

  look({ node }) {
    const tone = node.h === "Degraded" ? " is-bad" : node.h === "Progressing" ? " is-busy" : node.s === "OutOfSync" || node.h === "Missing" ? " is-drift" : node.h === "Suspended" ? " is-held" : "";
    return `node${node.root ? " root" : ""}${tone}${node.o ? " is-orphan" : ""}${node.fold ? " is-fold" : ""}${node.k && node.k === this.selected ? " is-sel" : ""}${this.fits(node) ? "" : " is-faded"}`;
  }

  node(box) {
    const { node } = box;
    let group = this.drawn.get(node.k);
    if (!group) { group = svg("g", { role: "treeitem" }); this.drawn.set(node.k, group); group.dataset.key = node.k; }
    const facts = {
      "class": this.look(box), transform: `translate(${box.x} ${box.y})`, tabindex: node.k === this.focus ? 0 : -1, "aria-level": box.depth + 1, "aria-posinset": box.nth, "aria-setsize": box.of,
      "aria-expanded": box.children ? !this.folded.has(node.k) : null,
    };
    for (const [name, value] of Object.entries(facts)) put(group, name, value);
    const inner = JSON.stringify([node.name, node.kind, node.ns, node.w, node.h, node.s, node.n, node.o, box.children, this.folded.has(node.k)]);
    if (group.inner !== inner) { group.inner = inner; this.fill(group, box); }
    return group;
  }

  fill(group, box) {
    const { node } = box;
    group.replaceChildren(svg("rect", { class: "ring", x: -3, y: -3, width: WIDTH + 6, height: HEIGHT + 6, rx: 8 }), svg("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 6 }));
    if (node.h) group.append(this.icon(...(SHAPES[node.h] || SHAPES.Unknown), 10, node.h));
    const title = svg("text", { x: 34, y: 17 }), kind = svg("text", { class: "kind", x: 34, y: 31 }), full = svg("title");
    title.textContent = cut(node.name, 24);
    kind.textContent = cut(`${node.kind}${node.w ? ` · wave ${node.w}` : ""}${node.n ? ` · ${node.n}` : ""}`, 30);
    full.textContent = [`${node.kind} ${node.name}${node.ns ? ` in ${node.ns}` : ""}`, node.h, node.s === "OutOfSync" ? "OutOfSync" : "", node.o ? "not in Git" : "", node.n].filter(Boolean).join(", ");
    group.prepend(full);
    group.append(title, kind);
    if (node.s === "OutOfSync") group.append(this.icon("drift", "outofsync", 186, "OutOfSync"));
    if (!box.children || node.root) return;
    const toggle = svg("g", { class: "toggle", "data-toggle": "1", transform: `translate(${WIDTH} ${HEIGHT / 2})` });
    const sign = svg("text", { "text-anchor": "middle", y: 4 });
    sign.textContent = this.folded.has(node.k) ? "+" : "−";
    toggle.append(svg("circle", { r: 8 }), sign);
    group.append(toggle);
  }

  icon(tone, name, x, title) {
    const found = svg("svg", { class: `c-${tone}`, x, y: 12, width: 16, height: 16 });
    const words = svg("title");
    words.textContent = title;
    found.append(words, svg("use", { href: `${this.box.dataset.icons}#i-${name}` }));
    return found;
  }

  pods() {
    this.svg = null;
    this.boxes = null;
    this.drawn.clear();
    const pods = this.data.nodes.filter((node) => node.kind === "Pod");
    if (!pods.length) { this.say("No pods run."); return; }
    const by = $("[data-tree-pods]", this.box).value;
    const groups = new Map();
    for (const pod of pods) {
      const name = by === "node" ? pod.on || "no machine yet" : this.top(pod);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(pod);
    }
    const map = document.createElement("div");
    map.className = "fleetmap podmap";
    for (const [name, list] of [...groups].sort()) {
      const part = document.createElement("div"), head = document.createElement("h3"), cells = document.createElement("div");
      head.textContent = `${name} · ${list.length}`;
      cells.className = "cells";
      for (const pod of list.sort((a, b) => RANK.indexOf(a.h || "") - RANK.indexOf(b.h || "") || a.name.localeCompare(b.name))) {
        const cell = document.createElement("button"), [tone, shape] = SHAPES[pod.h] || SHAPES.Unknown;
        cell.type = "button";
        cell.className = `cell ${tone}`;
        cell.dataset.key = pod.k;
        cell.title = `${pod.name}: ${pod.h || "Unknown"}${pod.n ? ` · ${pod.n}` : ""}`;
        cell.setAttribute("aria-label", cell.title);
        const mark = svg("svg", { class: "i", "aria-hidden": "true" });
        mark.append(svg("use", { href: `${this.box.dataset.icons}#i-${shape}` }));
        cell.append(mark);
        cells.append(cell);
      }
      part.append(head, cells);
      map.append(part);
    }
    const held = document.activeElement?.closest(".podmap [data-key]")?.dataset.key;
    this.canvas.replaceChildren(map);
    if (held) $$("[data-key]", map).find((cell) => cell.dataset.key === held)?.focus({ preventScroll: true });
    this.fade();
  }

  top(node) {
    let found = node;
    while (found.p && this.byKey.has(found.p)) found = this.byKey.get(found.p);
    return `${found.kind} ${found.name}`;
  }

  // ---------- looking closer ----------
  size() {
    if (!this.svg) return;
    put(this.svg, "viewBox", `-4 -4 ${this.width + 16} ${this.height + 8}`);
    put(this.svg, "width", (this.width + 16) * this.zoom);
    put(this.svg, "height", (this.height + 8) * this.zoom);
    $("[data-tree-zoom]", this.box).textContent = `${Math.round(this.zoom * 100)} %`;
  }

  scale(to, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const next = Math.min(2, Math.max(0.1, to)), grown = next / this.zoom;
    const left = (this.canvas.scrollLeft + x) * grown - x, top = (this.canvas.scrollTop + y) * grown - y;
    this.zoom = next;
    this.size();
    this.canvas.scrollTo(left, top);
    this.paint();
  }

  fit() { this.scale(Math.min(1, (this.canvas.clientWidth - 32) / (this.width + 16), (this.canvas.clientHeight - 32) / (this.height + 8))); this.canvas.scrollTo(0, 0); }

  fits(node) {
    if (!this.filter && !this.kind) return true;
    if (node.root || node.fold || (this.kind && node.kind !== this.kind)) return false;
    const text = `${node.kind} ${node.name} ${node.ns || ""} ${node.h || ""} ${node.s || ""} ${node.n || ""}`.toLowerCase();
    return this.filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  fade() {
    for (const cell of $$(".podmap [data-key]", this.canvas)) cell.classList.toggle("is-faded", !this.fits(this.byKey.get(cell.dataset.key)));
    this.paint();
    this.count();
  }

  count() {
    const shown = this.mode === "pods" ? (node) => node.kind === "Pod" : (node) => this.at?.has(node.k);
    const found = this.data ? this.data.nodes.filter((node) => this.fits(node)) : [], folded = found.filter((node) => !shown(node)).length;
    const text = `${found.length - folded} found${folded ? `, ${folded} not in this view` : ""}`;
    $("[data-tree-found]", this.box).textContent = this.filter || this.kind ? text : "";
  }

  // The next that was looked for, below where the keyboard is; after the last comes the first.
  next() {
    if (!this.boxes || (!this.filter && !this.kind)) return;
    const from = this.boxes.findIndex((box) => box.node.k === this.focus) + 1;
    const found = [...this.boxes.slice(from), ...this.boxes.slice(0, from)].find((box) => this.fits(box.node));
    if (found) this.go(found.node.k);
  }

  // ---------- choosing ----------
  show(key, tab = "") {
    if (key.startsWith("*")) { this.opened.add(key.slice(1)); this.draw(); return; }
    if (!key) return;
    this.selected = key;
    this.paint();
    const url = new URL(location.href);
    url.searchParams.set("resource", key);
    history.replaceState(history.state, "", url);
    htmx.ajax("GET", `${this.box.dataset.panel}?key=${encodeURIComponent(key)}${tab ? `&tab=${tab}` : ""}`, { target: "#panel", swap: "innerHTML" });
  }

  toggle(key) {
    if (this.folded.has(key)) this.folded.delete(key); else this.folded.add(key);
    this.draw();
  }

  go(key) {
    if (!this.at?.has(key)) return;
    this.focus = key;
    this.paint();
    const group = this.drawn.get(key);
    group.focus({ preventScroll: true });
    group.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.paint();
  }

  key(event) {
    const at = this.at?.get(this.focus);
    if (!this.boxes || !at || event.ctrlKey || event.metaKey || event.altKey) return false;
    const column = this.boxes.filter((box) => box.depth === at.depth).sort((a, b) => a.y - b.y), row = column.indexOf(at);
    const child = this.boxes.filter((box) => box.parent === at.node.k && box !== at).sort((a, b) => a.y - b.y)[0];
    const tabs = { d: "diff", l: "logs", e: "events", m: "live" };
    const step = { ArrowDown: column[row + 1]?.node.k, ArrowUp: column[row - 1]?.node.k, ArrowRight: child?.node.k, ArrowLeft: at.parent, Home: this.boxes[0].node.k, End: this.boxes.at(-1).node.k };
    if (event.key in step) { if (step[event.key] !== undefined && step[event.key] !== null) this.go(step[event.key]); }
    else if (event.key === "Enter") this.show(this.focus);
    else if (event.key === "n") this.next();
    else if (event.key === " ") { if (at.children && this.focus) this.toggle(this.focus); else this.show(this.focus); }
    else if (tabs[event.key.toLowerCase()]) this.show(this.focus, tabs[event.key.toLowerCase()]);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  wire() {
    const box = this.box, canvas = this.canvas;
    canvas.addEventListener("click", (event) => {
      const toggle = event.target.closest("[data-toggle]"), node = event.target.closest("[data-key]");
      if (this.dragged) { this.dragged = false; return; }
      if (toggle && node) this.toggle(node.dataset.key);
      else if (node) { this.focus = node.dataset.key; this.show(node.dataset.key); }
    });
    // A screen reader goes where it likes.
    canvas.addEventListener("focusin", (event) => { const node = event.target.closest("[role=treeitem]"); if (node && node.dataset.key !== this.focus) { this.focus = node.dataset.key; this.paint(); } });
    let due = 0;
    const soon = () => { due ||= requestAnimationFrame(() => { due = 0; this.paint(); }); };
    canvas.addEventListener("scroll", soon, { passive: true });
    new ResizeObserver(soon).observe(canvas);
    canvas.addEventListener("keydown", (event) => { if (event.target.closest("[role=treeitem]")) this.key(event); });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const place = canvas.getBoundingClientRect();
      this.scale(this.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15), event.clientX - place.left, event.clientY - place.top);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType !== "mouse") return;
      const from = { x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop };
      const move = (now) => {
        const dx = now.clientX - from.x, dy = now.clientY - from.y;
        if (Math.abs(dx) + Math.abs(dy) > 6) { this.dragged = true; canvas.classList.add("is-dragged"); canvas.scrollTo(from.left - dx, from.top - dy); }
      };
      const end = () => { window.removeEventListener("pointermove", move); window.removeEventListener("pointerup", end); canvas.classList.remove("is-dragged"); setTimeout(() => { this.dragged = false; }, 0); };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
    });
    box.addEventListener("click", (event) => {
      const mode = event.target.closest("[data-tree-mode]"), zoom = event.target.closest("[data-tree-scale]");
      if (mode) this.turn(mode.dataset.treeMode);
      else if (zoom) { if (zoom.dataset.treeScale === "fit") this.fit(); else this.scale(this.zoom * Number(zoom.dataset.treeScale)); }
      else if (event.target.closest("[data-tree-group]")) { this.group = !this.group; this.opened.clear(); event.target.closest("[data-tree-group]").setAttribute("aria-pressed", String(this.group)); this.draw(); }
    });
    box.addEventListener("input", (event) => { if (event.target.matches("[data-tree-filter]")) { this.filter = event.target.value; this.fade(); } });
    box.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("[data-tree-filter], [data-tree-kind]")) { event.preventDefault(); this.next(); } });
    box.addEventListener("change", (event) => {
      if (event.target.matches("[data-tree-kind]")) { this.kind = event.target.value; this.fade(); }
      if (event.target.matches("[data-tree-pods]")) this.draw();
    });
    document.body.addEventListener("object-changed", () => { if (document.contains(this.box)) this.follow(); });
  }

  turn(mode) {
    this.mode = mode;
    this.svg = null;
    this.boxes = null;
    $("[data-tree-pods]", this.box).closest("label").hidden = mode !== "pods";
    const url = new URL(location.href);
    if (mode === "tree") url.searchParams.delete("view"); else url.searchParams.set("view", mode);
    history.replaceState(history.state, "", url);
    this.draw();
  }
}

function start() {
  const box = $("[data-tree]");
  if (!box || box.tree) return;
  // A phone shows the list, which has the same.
  if (matchMedia("(max-width: 40rem)").matches && !new URLSearchParams(location.search).has("view")) {
    htmx.ajax("GET", box.dataset.list, { target: "#resources", swap: "outerHTML", select: "#resources" });
    return;
  }
  box.tree = new Tree(box);
}

start();
document.addEventListener("htmx:afterSwap", () => {
  start();
  const box = $("[data-tree]");
  const facts = $("#state");
  if (!box?.tree || !facts || (box.dataset.health === facts.dataset.health && box.dataset.sync === facts.dataset.sync)) return;
  box.dataset.health = facts.dataset.health;
  box.dataset.sync = facts.dataset.sync;
  box.tree.draw();
});
window.addEventListener("error", (event) => { if (String(event.filename).endsWith("tree.js")) toast("The drawing failed; the list has the same.", "bad"); });
