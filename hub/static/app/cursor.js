// The row that the keyboard has selected.
import { $$ } from "./dom.js";

/** The index of the current row, and of the first row of a Shift+X selection; -1 for none. */
export const cursor = { at: -1, marked: -1 };

/** Returns the current row. */
export const currentRow = () => $$("[data-row]")[cursor.at];

/**
 * Moves to the next or previous row.
 * @param {1 | -1} step
 */
export function move(step) {
  const rows = $$("[data-row]");
  if (!rows.length) return;
  cursor.at = Math.min(rows.length - 1, Math.max(0, cursor.at + step));
  for (const [n, row] of rows.entries()) row.classList.toggle("cursor", n === cursor.at);
  rows[cursor.at].scrollIntoView({ block: "nearest" });
}

/**
 * Finds the row again after a part of the page was replaced.
 * @param {string} url
 */
export function returnTo(url) {
  const rows = $$("[data-row]");
  cursor.at = url ? rows.findIndex((row) => row.dataset.url === url) : -1;
  rows[cursor.at]?.classList.add("cursor");
}
