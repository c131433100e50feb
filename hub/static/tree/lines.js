// Lines of the drawing: from one box a trunk, and a branch to each box below it that is in view.
import { HEIGHT, WIDTH } from "./model.js";

/** @typedef {import("./model.js").Box} Box */
/** @typedef {{left: number, right: number, top: number, bottom: number}} View */
/** @typedef {{from: Box, to: Box[], bad: boolean}} Line */

/**
 * Returns one line for all edges from a box to boxes of a column; those to what is Degraded are a line of their own.
 * @param {[from: Box, to: Box][]} edges
 */
export function linesOf(edges) {
  /** @type {Map<string, Line>} */
  const lines = new Map();
  for (const [from, to] of edges) {
    const bad = to.node.h === "Degraded";
    const name = `${from.node.k} ${to.x}${bad ? " bad" : ""}`;
    const line = lines.get(name) ?? { from, bad, to: [] };
    line.to.push(to);
    lines.set(name, line);
  }
  return lines;
}

/**
 * Returns the path of a line as far as it is in view, "" for none.
 * @param {Line} line
 * @param {View} view
 */
export function pathOf({ from, to }, view) {
  const start = from.x + WIDTH;
  const y = from.y + HEIGHT / 2;
  const ends = to.map((box) => ({ x: box.x, y: box.y + HEIGHT / 2 }));
  const low = Math.max(view.top, Math.min(y, ...ends.map((end) => end.y)));
  const high = Math.min(view.bottom, Math.max(y, ...ends.map((end) => end.y)));
  const isLeft = Math.max(...ends.map((end) => end.x)) < view.left;
  if (low > high || start > view.right || isLeft) return "";
  const isInView = (/** @type {number} */ at) => at >= view.top && at <= view.bottom;
  const mid = (start + ends[0].x) / 2;
  const stem = isInView(y) ? `M${start} ${y}H${mid}` : "";
  const trunk = low < high ? `M${mid} ${low}V${high}` : "";
  const seen = ends.filter((end) => isInView(end.y));
  return `${stem}${trunk}${seen.map((end) => `M${mid} ${end.y}H${end.x}`).join("")}`;
}
