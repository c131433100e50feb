// Resources of an application, drawn: tree, network and pods; zoom, filter, fold, keys. The list has the same data.
// Every box has its place, but only those near the view are in the page: thousands move like a few.
import { $, $$, need } from "./app/dom.js";
import { toast } from "./app/toast.js";
import { listen } from "./tree/input.js";
import { linesOf, pathOf } from "./tree/lines.js";
import { groupBy, HEIGHT, Model, WIDTH } from "./tree/model.js";
import { classesOf, contentsOf, podMap, putAll, svg } from "./tree/svg.js";

/** @typedef {import("./tree/model.js").Box} Box */
/** @typedef {import("./tree/model.js").TreeNode} TreeNode */
/** @typedef {import("./tree/lines.js").Line} Line */
/** @typedef {import("./tree/lines.js").View} View */
/** @typedef {HTMLElement & {tree?: Tree}} TreeElement */

// How far outside of the view boxes are drawn already, in pixels of the screen.
const AROUND = 300;
/** @type {Record<string, string>} */
const TABS = { d: "diff", l: "logs", e: "events", m: "live" };

export class Tree {
  /** @param {TreeElement} box */
  constructor(box) {
    this.box = box;
    this.mode = box.dataset.mode || "tree";
    /** @type {Set<string>} */
    this.folded = new Set();
    /** @type {Set<string>} */
    this.opened = new Set();
    /** @type {Map<string, SVGGElement>} */
    this.drawn = new Map();
    /** @type {Map<string, SVGPathElement>} */
    this.lined = new Map();
    /** What is in each box that is drawn. @type {WeakMap<SVGGElement, string>} */
    this.inner = new WeakMap();
    this.zoom = 1;
    this.filter = "";
    this.kind = "";
    this.group = false;
    this.focus = "";
    this.selected = box.dataset.selected || "";
    this.canvas = need("[data-canvas]", box);
    /** @type {Model | null} */
    this.model = null;
    /** @type {SVGSVGElement | null} */
    this.svg = null;
    this.trunks = svg("g", { role: "presentation" });
    /** @type {Box[] | null} */
    this.boxes = null;
    /** @type {Map<string, Box>} */
    this.at = new Map();
    /** @type {Map<string, Line>} */
    this.lines = new Map();
    this.width = 0;
    this.height = 0;
    this.asking = false;
    this.again = false;
    listen(this);
    this.load();
  }

  /** Loads again. One request at a time, and the longer an answer takes, the longer until the next. */
  async follow() {
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    try {
      do {
        this.again = false;
        const began = performance.now();
        await this.load();
        const pause = 2 * (performance.now() - began);
        await new Promise((done) => setTimeout(done, pause));
      } while (this.again && document.contains(this.box));
    } finally {
      this.asking = false;
    }
  }

  /** The application as a node. @returns {TreeNode} */
  get app() {
    const { name = "", health, sync } = this.box.dataset;
    return { k: "", kind: "Application", name, h: health, s: sync, root: true };
  }

  async load() {
    const address = this.box.dataset.tree ?? "";
    const answer = await fetch(address, { credentials: "same-origin" }).catch(() => null);
    const data = answer?.ok ? await answer.json().catch(() => null) : null;
    if (!data) {
      if (!this.model) this.say("The resources could not be read. What runs is not touched.");
      return;
    }
    this.model = new Model(data);
    const count = this.model.nodes.length;
    need("[data-tree-count]", this.box).textContent = `${count} resource${count === 1 ? "" : "s"}`;
    this.listKinds(this.model);
    this.draw();
  }

  /** @param {string} text */
  say(text) {
    this.canvas.textContent = text;
    this.drawn.clear();
    this.svg = null;
    this.boxes = null;
  }

  /** @param {Model} model */
  listKinds(model) {
    /** @type {HTMLSelectElement} */
    const select = need("[data-tree-kind]", this.box);
    const was = select.value;
    const kinds = groupBy(model.nodes, (node) => node.kind);
    const options = [...kinds.keys()]
      .sort()
      .map((kind) => new Option(`${kind} (${kinds.get(kind)?.length})`, kind));
    select.replaceChildren(new Option("Every kind", ""), ...options);
    select.value = kinds.has(was) ? was : "";
    this.kind = select.value;
  }

  // ---------- drawing ----------
  draw() {
    if (!this.model) return;
    for (const button of $$("[data-tree-mode]", this.box)) {
      button.setAttribute("aria-pressed", String(button.dataset.treeMode === this.mode));
    }
    need("[data-tree-group]", this.box).hidden = this.mode !== "tree";
    need("[aria-label=Zoom]", this.box).hidden = this.mode === "pods";
    if (this.mode === "pods") this.drawPods(this.model);
    else this.drawBoxes(this.model);
  }

  /** @param {Model} model */
  drawBoxes(model) {
    const isNetwork = this.mode === "network";
    const { boxes, edges } = isNetwork ? model.network() : model.tree(this.app, this);
    if (!boxes.length) {
      this.say("Nothing here takes traffic.");
      return;
    }
    if (!this.svg) this.begin();
    this.boxes = boxes;
    this.at = new Map(boxes.map((box) => [box.node.k, box]));
    this.width = Math.max(...boxes.map((box) => box.x)) + WIDTH + 2;
    this.height = Math.max(...boxes.map((box) => box.y)) + HEIGHT + 2;
    this.lines = linesOf(edges);
    // Not all are in the page, so each says which of how many it is.
    for (const family of groupBy(boxes, (box) => box.parent).values()) {
      for (const [n, box] of family.entries())
        Object.assign(box, { nth: n + 1, of: family.length });
    }
    if (!this.at.has(this.focus)) this.focus = boxes[0].node.k;
    this.size();
    this.paint();
    this.count();
  }

  begin() {
    const label = `Resources of ${this.box.dataset.name}`;
    this.canvas.textContent = "";
    this.drawn.clear();
    this.lined.clear();
    this.trunks = svg("g", { role: "presentation" });
    this.svg = svg("svg", { class: "tree", role: "tree", "aria-label": label }, this.trunks);
    this.canvas.append(this.svg);
  }

  /** What is in view and a little around it, in the drawing's own units. @returns {View} */
  view() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.canvas;
    return {
      left: (scrollLeft - AROUND) / this.zoom,
      right: (scrollLeft + clientWidth + AROUND) / this.zoom,
      top: (scrollTop - AROUND) / this.zoom,
      bottom: (scrollTop + clientHeight + AROUND) / this.zoom,
    };
  }

  paint() {
    if (!this.svg || !this.boxes) return;
    const view = this.view();
    const hadFocus = this.svg.contains(document.activeElement);
    const isNear = (/** @type {Box} */ { x, y }) =>
      y < view.bottom && y + HEIGHT > view.top && x < view.right && x + WIDTH > view.left;
    const near = this.boxes.filter((box) => box.node.k === this.focus || isNear(box));
    const keep = new Set(near.map((box) => box.node.k));
    for (const [key, group] of this.drawn) {
      if (keep.has(key)) continue;
      group.remove();
      this.drawn.delete(key);
    }
    /** @type {SVGElement} */
    let before = this.trunks;
    for (const box of near) {
      const group = this.drawBox(box);
      // What is in its place stays there untouched.
      if (before.nextElementSibling !== group) before.after(group);
      before = group;
    }
    this.paintLines(view);
    if (!hadFocus || this.svg.contains(document.activeElement)) return;
    this.drawn.get(this.focus)?.focus({ preventScroll: true });
  }

  /** @param {View} view */
  paintLines(view) {
    const keep = new Set();
    for (const [name, edge] of this.lines) {
      const d = pathOf(edge, view);
      if (!d) continue;
      keep.add(name);
      let line = this.lined.get(name);
      if (!line) {
        line = svg("path", { class: `edge${edge.bad ? " bad" : ""}` });
        this.lined.set(name, line);
        this.trunks.append(line);
      }
      putAll(line, { d });
    }
    for (const [name, line] of this.lined) {
      if (keep.has(name)) continue;
      line.remove();
      this.lined.delete(name);
    }
  }

  /** @param {Box} box */
  drawBox(box) {
    const { node } = box;
    let group = this.drawn.get(node.k);
    if (!group) {
      group = svg("g", { role: "treeitem" });
      group.dataset.key = node.k;
      this.drawn.set(node.k, group);
    }
    const isFolded = this.folded.has(node.k);
    const isSelected = Boolean(node.k) && node.k === this.selected;
    putAll(group, {
      class: classesOf(node, { isSelected, isFaded: !this.fits(node) }),
      transform: `translate(${box.x} ${box.y})`,
      tabindex: node.k === this.focus ? 0 : -1,
      "aria-level": box.depth + 1,
      "aria-posinset": box.nth ?? null,
      "aria-setsize": box.of ?? null,
      "aria-expanded": box.children ? !isFolded : null,
    });
    const inner = JSON.stringify([node, box.children, isFolded]);
    if (this.inner.get(group) !== inner) {
      this.inner.set(group, inner);
      group.replaceChildren(...contentsOf(box, this.box.dataset.icons ?? "", isFolded));
    }
    return group;
  }

  /** @param {Model} model */
  drawPods(model) {
    this.svg = null;
    this.boxes = null;
    this.drawn.clear();
    const pods = model.nodes.filter((node) => node.kind === "Pod");
    if (!pods.length) {
      this.say("No pods run.");
      return;
    }
    /** @type {HTMLSelectElement} */
    const by = need("[data-tree-pods]", this.box);
    const groupOf = (/** @type {TreeNode} */ pod) =>
      by.value === "node" ? pod.on || "no machine yet" : model.topOf(pod);
    const map = podMap(pods, groupOf, this.box.dataset.icons ?? "");
    /** @type {HTMLElement | null | undefined} */
    const held = document.activeElement?.closest(".podmap [data-key]");
    this.canvas.replaceChildren(map);
    if (held) {
      const same = $$("[data-key]", map).find((cell) => cell.dataset.key === held.dataset.key);
      same?.focus({ preventScroll: true });
    }
    this.fade();
  }

  // ---------- size and view ----------
  size() {
    if (!this.svg) return;
    const width = this.width + 16;
    putAll(this.svg, {
      viewBox: `-4 -4 ${width} ${this.height + 8}`,
      width: width * this.zoom,
      height: (this.height + 8) * this.zoom,
    });
    need("[data-tree-zoom]", this.box).textContent = `${Math.round(this.zoom * 100)} %`;
  }

  /**
   * Zooms; the point stays under the pointer.
   * @param {number} to
   * @param {number} [x]
   * @param {number} [y]
   */
  scale(to, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const next = Math.min(2, Math.max(0.1, to));
    const grown = next / this.zoom;
    const left = (this.canvas.scrollLeft + x) * grown - x;
    const top = (this.canvas.scrollTop + y) * grown - y;
    this.zoom = next;
    this.size();
    this.canvas.scrollTo(left, top);
    this.paint();
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    const across = (clientWidth - 32) / (this.width + 16);
    this.scale(Math.min(1, across, (clientHeight - 32) / (this.height + 8)));
    this.canvas.scrollTo(0, 0);
  }

  // ---------- filter ----------
  /** @param {TreeNode | undefined} node */
  fits(node) {
    if (!this.filter && !this.kind) return true;
    if (!node || node.root || node.fold || (this.kind && node.kind !== this.kind)) return false;
    const facts = [node.kind, node.name, node.ns, node.h, node.s, node.n].map((fact) => fact || "");
    const text = facts.join(" ").toLowerCase();
    return this.filter
      .toLowerCase()
      .split(/\s+/)
      .every((word) => text.includes(word));
  }

  fade() {
    for (const cell of $$(".podmap [data-key]", this.canvas)) {
      const node = this.model?.byKey.get(cell.dataset.key ?? "");
      cell.classList.toggle("is-faded", !this.fits(node));
    }
    this.paint();
    this.count();
  }

  count() {
    const isShown = (/** @type {TreeNode} */ node) =>
      this.mode === "pods" ? node.kind === "Pod" : this.at.has(node.k);
    const found = this.model?.nodes.filter((node) => this.fits(node)) ?? [];
    const other = found.filter((node) => !isShown(node)).length;
    const text = `${found.length - other} found${other ? `, ${other} not in this view` : ""}`;
    need("[data-tree-found]", this.box).textContent = this.filter || this.kind ? text : "";
  }

  /** Goes to the next match below the focus; after the last comes the first. */
  next() {
    if (!this.boxes || (!this.filter && !this.kind)) return;
    const from = this.boxes.findIndex((box) => box.node.k === this.focus) + 1;
    const order = [...this.boxes.slice(from), ...this.boxes.slice(0, from)];
    const found = order.find((box) => this.fits(box.node));
    if (found) this.go(found.node.k);
  }

  // ---------- choosing ----------
  /**
   * Shows a resource in the panel; a box of many opens.
   * @param {string} key
   * @param {string} [tab]
   */
  show(key, tab = "") {
    if (key.startsWith("*")) {
      this.opened.add(key.slice(1));
      this.draw();
      return;
    }
    if (!key) return;
    this.selected = key;
    this.paint();
    replaceQuery("resource", key);
    const query = `key=${encodeURIComponent(key)}${tab ? `&tab=${tab}` : ""}`;
    const into = { target: "#panel", swap: "innerHTML" };
    htmx.ajax("GET", `${this.box.dataset.panel}?${query}`, into);
  }

  /** @param {string} key */
  toggle(key) {
    if (!this.folded.delete(key)) this.folded.add(key);
    this.draw();
  }

  /** @param {string} key */
  go(key) {
    if (!this.at.has(key)) return;
    this.focus = key;
    this.paint();
    const group = this.drawn.get(key);
    group?.focus({ preventScroll: true });
    group?.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.paint();
  }

  /**
   * Where each key moves to from a box.
   * @param {Box[]} boxes
   * @param {Box} at
   * @returns {Record<string, string | null | undefined>}
   */
  steps(boxes, at) {
    const byHeight = (/** @type {Box} */ a, /** @type {Box} */ b) => a.y - b.y;
    const column = boxes.filter((box) => box.depth === at.depth).sort(byHeight);
    const isChild = (/** @type {Box} */ box) => box.parent === at.node.k && box !== at;
    const row = column.indexOf(at);
    return {
      ArrowDown: column[row + 1]?.node.k,
      ArrowUp: column[row - 1]?.node.k,
      ArrowRight: boxes.filter(isChild).sort(byHeight)[0]?.node.k,
      ArrowLeft: at.parent,
      Home: boxes[0].node.k,
      End: boxes[boxes.length - 1].node.k,
    };
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const at = this.at.get(this.focus);
    if (!this.boxes || !at || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = this.steps(this.boxes, at);
    const tab = TABS[event.key.toLowerCase()];
    if (event.key in steps) {
      const to = steps[event.key];
      if (to !== undefined && to !== null) this.go(to);
    } else if (event.key === "Enter") this.show(this.focus);
    else if (event.key === "n") this.next();
    else if (event.key === " " && at.children && this.focus) this.toggle(this.focus);
    else if (event.key === " ") this.show(this.focus);
    else if (tab) this.show(this.focus, tab);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * Draws another view.
   * @param {string} mode
   */
  turn(mode) {
    this.mode = mode;
    this.svg = null;
    this.boxes = null;
    const label = need("[data-tree-pods]", this.box).closest("label");
    if (label) label.hidden = mode !== "pods";
    replaceQuery("view", mode === "tree" ? "" : mode);
    this.draw();
  }
}

/**
 * Sets a parameter of the page's address, or removes it.
 * @param {string} name
 * @param {string} value
 */
function replaceQuery(name, value) {
  const url = new URL(location.href);
  if (value) url.searchParams.set(name, value);
  else url.searchParams.delete(name);
  history.replaceState(history.state, "", url);
}

function start() {
  /** @type {TreeElement | null} */
  const box = $("[data-tree]");
  if (!box || box.tree) return;
  // A phone shows the list, which has the same.
  const isChosen = new URLSearchParams(location.search).has("view");
  if (matchMedia("(max-width: 40rem)").matches && !isChosen) {
    const into = { target: "#resources", swap: "outerHTML", select: "#resources" };
    htmx.ajax("GET", box.dataset.list ?? "", into);
    return;
  }
  box.tree = new Tree(box);
}

start();
document.addEventListener("htmx:afterSwap", () => {
  start();
  /** @type {TreeElement | null} */
  const box = $("[data-tree]");
  const state = $("#state");
  if (!box?.tree || !state) return;
  const { health, sync } = state.dataset;
  if (box.dataset.health === health && box.dataset.sync === sync) return;
  Object.assign(box.dataset, { health, sync });
  box.tree.draw();
});
window.addEventListener("error", (event) => {
  if (!/\/tree(\/\w+)?\.js$/.test(event.filename)) return;
  toast("The drawing failed; the list has the same.", "bad");
});
