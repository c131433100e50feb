// Pieces of the drawing: elements of SVG, the shape of a state, one resource's box, the map of pods.
import { make } from "../app/dom.js";
import { groupBy, HEIGHT, WIDTH, worstFirst } from "./model.js";
import { fitted } from "./names.js";

/** @typedef {import("./model.js").TreeNode} TreeNode */
/** @typedef {import("./model.js").Box} Box */
/** @typedef {Record<string, string | number | boolean | null>} Attributes */

/** @type {Record<string, [tone: string, shape: string]>} */
const SHAPES = {
  Healthy: ["ok", "healthy"],
  Progressing: ["busy", "progressing"],
  Degraded: ["bad", "degraded"],
  Suspended: ["held", "suspended"],
  Missing: ["none", "missing"],
  Unknown: ["none", "unknown"],
};

/**
 * Returns a new element of SVG.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  putAll(element, attributes);
  element.append(...children);
  return element;
}

/**
 * Sets attributes that differ: setting one again is a change to who observes it, even to the same value.
 * @param {Element} element
 * @param {Attributes} attributes null removes one
 */
export function putAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value))
      element.setAttribute(name, String(value));
  }
}

const TEXT_X = 34;
const MARK_X = 184;
const NAME = "600 12px"; // as the styles of .node text say
const KIND = "400 10.5px";

/** @param {string} style weight and size */
const font = (style) => `${style} ${getComputedStyle(document.body).fontFamily}`;

/** @param {TreeNode} node */
function toneOf(node) {
  if (node.h === "Degraded") return "is-bad";
  if (node.h === "Progressing") return "is-busy";
  if (node.s === "OutOfSync" || node.h === "Missing") return "is-drift";
  return node.h === "Suspended" ? "is-held" : "";
}

/**
 * Returns the classes of a box.
 * @param {TreeNode} node
 * @param {{isSelected: boolean, isFaded: boolean}} state
 */
export function classesOf(node, { isSelected, isFaded }) {
  const classes = [
    "node",
    node.root && "root",
    toneOf(node),
    node.o && "is-orphan",
    node.fold && "is-fold",
    isSelected && "is-sel",
    isFaded && "is-faded",
  ];
  return classes.filter(Boolean).join(" ");
}

/**
 * @param {string} icons where the sprite is
 * @param {[tone: string, shape: string]} look
 * @param {number} x
 * @param {string} title
 */
function icon(icons, [tone, shape], x, title) {
  return svg(
    "svg",
    { class: `c-${tone}`, x, y: 12, width: 16, height: 16 },
    svg("title", {}, title),
    svg("use", { href: `${icons}#i-${shape}` }),
  );
}

/** @param {TreeNode} node */
function fullNameOf(node) {
  const name = `${node.kind} ${node.name}${node.ns ? ` in ${node.ns}` : ""}`;
  const sync = node.s === "OutOfSync" ? node.s : "";
  return [name, node.h, sync, node.o ? "not in Git" : "", node.n].filter(Boolean).join(", ");
}

/**
 * Returns what a box contains.
 * @param {Box} box
 * @param {string} icons where the sprite is
 * @param {boolean} isFolded
 * @returns {SVGElement[]}
 */
export function contentsOf({ node, children }, icons, isFolded) {
  const kind = `${node.kind}${node.w ? ` · wave ${node.w}` : ""}${node.n ? ` · ${node.n}` : ""}`;
  const ring = { class: "ring", x: -3, y: -3, width: WIDTH + 6, height: HEIGHT + 6, rx: 8 };
  /** @type {SVGElement[]} */
  const parts = [
    svg("title", {}, fullNameOf(node)),
    svg("rect", ring),
    svg("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 6 }),
  ];
  if (node.h) parts.push(icon(icons, SHAPES[node.h] || SHAPES.Unknown, 10, node.h));
  const end = node.s === "OutOfSync" ? MARK_X : WIDTH;
  const room = end - TEXT_X - 12;
  parts.push(
    svg("text", { x: TEXT_X, y: 17 }, fitted(node.name, room, font(NAME))),
    svg("text", { class: "kind", x: TEXT_X, y: 31 }, fitted(kind, room, font(KIND))),
  );
  if (node.s === "OutOfSync") parts.push(icon(icons, ["drift", "outofsync"], MARK_X, node.s));
  if (children && !node.root) parts.push(toggle(isFolded));
  return parts;
}

/** @param {boolean} isFolded */
function toggle(isFolded) {
  const transform = `translate(${WIDTH} ${HEIGHT / 2})`;
  const sign = svg("text", { "text-anchor": "middle", y: 4 }, isFolded ? "+" : "−");
  const circle = svg("circle", { r: 8 });
  return svg("g", { class: "toggle", "data-toggle": "1", transform }, circle, sign);
}

/**
 * Returns the map of pods: one cell each, grouped by owner or machine, the worst first.
 * @param {TreeNode[]} pods
 * @param {(pod: TreeNode) => string} groupOf
 * @param {string} icons where the sprite is
 */
export function podMap(pods, groupOf, icons) {
  const map = make("div", { className: "fleetmap podmap" });
  for (const [name, list] of [...groupBy(pods, groupOf)].sort()) {
    const heading = make("h3", { textContent: `${name} · ${list.length}` });
    list.sort((a, b) => worstFirst(a, b) || a.name.localeCompare(b.name));
    const cells = make("div", { className: "cells" }, ...list.map((pod) => cellOf(pod, icons)));
    map.append(make("div", {}, heading, cells));
  }
  return map;
}

/**
 * @param {TreeNode} pod
 * @param {string} icons
 */
function cellOf(pod, icons) {
  const [tone, shape] = SHAPES[pod.h ?? ""] || SHAPES.Unknown;
  const title = `${pod.name}: ${pod.h || "Unknown"}${pod.n ? ` · ${pod.n}` : ""}`;
  const mark = svg("svg", { class: "i", "aria-hidden": "true" });
  mark.append(svg("use", { href: `${icons}#i-${shape}` }));
  const cell = make("button", { type: "button", className: `cell ${tone}`, title }, mark);
  cell.dataset.key = pod.k;
  cell.setAttribute("aria-label", title);
  return cell;
}
