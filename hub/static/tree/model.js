// What the drawing shows of an application, and where: values in, values out.

/**
 * @typedef {object} TreeNode
 * @property {string} k key: group/kind/namespace/name
 * @property {string} kind
 * @property {string} name
 * @property {string} [ns] namespace
 * @property {string} [p] key of its owner
 * @property {string} [h] health
 * @property {string} [s] sync status
 * @property {number} [w] wave
 * @property {string} [n] notes
 * @property {boolean} [o] not in Git
 * @property {string} [on] machine of a pod
 * @property {boolean} [root] the application itself
 * @property {string} [fold] what a box of many stands for
 */
/** @typedef {{nodes: TreeNode[], links: [from: string, to: string][]}} TreeData */
/**
 * @typedef {object} Box
 * @property {TreeNode} node
 * @property {number} depth
 * @property {number} x
 * @property {number} y
 * @property {number} children
 * @property {string | null} parent
 * @property {number} [nth]
 * @property {number} [of]
 */
/** @typedef {{boxes: Box[], edges: [from: Box, to: Box][]}} Layout */
/** @typedef {{group: boolean, folded: Set<string>, opened: Set<string>}} Choices */

export const WIDTH = 210;
export const HEIGHT = 40;
const GAP_X = 46;
const GAP_Y = 10;
// More leaves of one kind than this become one box; the worst of them stay visible.
const ALIKE = 12;
const WORST = 4;
const RANK = ["Degraded", "Missing", "Unknown", "Progressing", "Suspended", "Healthy", ""];
/** @type {Record<string, number>} */
const COLUMNS = { Ingress: 0, HTTPRoute: 0, Gateway: 0, Service: 1, Pod: 2 };

/**
 * Orders the worst first.
 * @param {TreeNode} a
 * @param {TreeNode} b
 */
export const worstFirst = (a, b) => RANK.indexOf(a.h || "") - RANK.indexOf(b.h || "");

/**
 * Returns values by a name that each has.
 * @template T
 * @template K
 * @param {Iterable<T>} values
 * @param {(value: T) => K} nameOf
 * @returns {Map<K, T[]>}
 */
export function groupBy(values, nameOf) {
  const groups = new Map();
  for (const value of values) {
    const name = nameOf(value);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(value);
  }
  return groups;
}

/** The resources of an application: who owns whom. */
export class Model {
  /** @param {TreeData} data */
  constructor({ nodes, links }) {
    this.nodes = nodes;
    this.links = links;
    this.byKey = new Map(nodes.map((node) => [node.k, node]));
    /** The nodes below a key; those that nobody here owns are below "". */
    this.below = groupBy(nodes, ({ p }) => (p && this.byKey.has(p) ? p : ""));
  }

  /**
   * Returns the owner of all owners of a node, as people call it.
   * @param {TreeNode} node
   */
  topOf(node) {
    let found = node;
    for (let owner = this.byKey.get(found.p ?? ""); owner; owner = this.byKey.get(found.p ?? "")) {
      found = owner;
    }
    return `${found.kind} ${found.name}`;
  }

  /**
   * Returns nodes with one box for many leaves of a kind.
   * @param {TreeNode[]} nodes
   * @param {Choices} choices
   */
  fold(nodes, { group, opened }) {
    const most = group ? 1 : ALIKE;
    /** @type {TreeNode[]} */
    const result = [];
    for (const [kind, list] of groupBy(nodes, (node) => node.kind)) {
      const leaves = list.filter((node) => !this.below.has(node.k));
      const name = `${nodes[0].p || ""}>${kind}`;
      if (leaves.length <= most || opened.has(name)) {
        result.push(...list);
        continue;
      }
      const hidden = new Set([...leaves].sort(worstFirst).slice(group ? 0 : WORST));
      result.push(...list.filter((node) => !hidden.has(node)), boxOfMany(name, kind, [...hidden]));
    }
    return result;
  }

  /**
   * Returns the boxes of the tree: owners left of what they own.
   * @param {TreeNode} root
   * @param {Choices} choices
   * @returns {Layout}
   */
  tree(root, choices) {
    /** @type {Box[]} */
    const boxes = [];
    /** @type {[Box, Box][]} */
    const edges = [];
    let line = 0;
    /** @type {(nodes: TreeNode[], depth: number, parent: string) => Box[]} */
    const place = (nodes, depth, parent) =>
      this.fold(nodes, choices).map((node) => {
        const children = this.below.get(node.k) || [];
        const isOpen = children.length > 0 && !choices.folded.has(node.k);
        const x = depth * (WIDTH + GAP_X);
        /** @type {Box} */
        const box = { node, depth, x, y: 0, children: children.length, parent };
        boxes.push(box);
        const shown = isOpen ? place(children, depth + 1, node.k) : [];
        box.y = shown.length ? middle(shown) : line++ * (HEIGHT + GAP_Y);
        for (const child of shown) edges.push([box, child]);
        return box;
      });
    const top = place(this.below.get("") || [], 1, "");
    const y = top.length ? middle(top) : 0;
    /** @type {Box} */
    const box = { node: root, depth: 0, x: 0, y, children: top.length, parent: null };
    /** @type {[Box, Box][]} */
    const first = top.map((child) => [box, child]);
    return { boxes: [box, ...boxes], edges: [...first, ...edges] };
  }

  /**
   * Returns the boxes of what takes traffic: entrances, services, pods.
   * @returns {Layout}
   */
  network() {
    const used = new Set(this.links.flat());
    const shown = this.nodes.filter((node) => node.kind in COLUMNS || used.has(node.k));
    const columns = [...groupBy(shown, (node) => COLUMNS[node.kind] ?? 1)].sort(
      ([a], [b]) => a - b,
    );
    const first = columns[0]?.[0] ?? 0;
    /** @type {Map<string, Box>} */
    const boxes = new Map();
    for (const [column, nodes] of columns) {
      const depth = column - first;
      for (const [row, node] of nodes.entries()) {
        const x = depth * (WIDTH + GAP_X * 2);
        const y = row * (HEIGHT + GAP_Y);
        boxes.set(node.k, { node, depth, x, y, children: 0, parent: null });
      }
    }
    /** @type {[Box, Box][]} */
    const edges = [];
    for (const [a, b] of this.links) {
      const from = boxes.get(a);
      const to = boxes.get(b);
      if (!from || !to) continue;
      to.parent ??= from.node.k;
      edges.push([from, to]);
    }
    return { boxes: [...boxes.values()], edges };
  }
}

/** @param {Box[]} boxes */
const middle = (boxes) => (boxes[0].y + boxes[boxes.length - 1].y) / 2;

/**
 * @param {string} name
 * @param {string} kind
 * @param {TreeNode[]} hidden
 * @returns {TreeNode}
 */
function boxOfMany(name, kind, hidden) {
  const bad = hidden.filter((node) => node.h === "Degraded").length;
  return {
    k: `*${name}`,
    kind,
    name: `${hidden.length} ${kind}s${bad ? `, ${bad} Degraded` : ""}`,
    h: hidden[0]?.h,
    s: hidden.some((node) => node.s === "OutOfSync") ? "OutOfSync" : "",
    fold: name,
  };
}
