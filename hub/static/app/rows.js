// Updates the rows of an open list. A row never moves under the pointer: a notice says that the order may differ.
import { $, need } from "./dom.js";

/** @typedef {{rows?: Record<string, string>, gone?: number[], others?: number}} Changes */

// Ages are ignored: they differ each time a cell is rendered.
const withoutAges = (/** @type {Element} */ cell) => cell.innerHTML.replace(/>[^<]*<\/time>/g, "");

/**
 * Applies the changes that the hub publishes for the rows of a list.
 * @param {HTMLElement} root
 * @param {Changes} changes
 */
export function changeRows(root, { rows = {}, gone = [], others = 0 }) {
  for (const [key, html] of Object.entries(rows)) change($(`[data-row="${key}"]`, root), html);
  for (const key of gone) leave($(`[data-row="${key}"]`, root), true);
  if (others) moved(others);
  if (others || gone.length || Object.keys(rows).length) recount();
}

/**
 * A row that is deleted or no longer visible to this person keeps its place and cannot be selected.
 * @param {HTMLElement | null} row
 * @param {boolean} isGone
 */
function leave(row, isGone) {
  if (!row || row.classList.contains("is-gone") === isGone) return;
  row.classList.toggle("is-gone", isGone);
  /** @type {HTMLInputElement | null} */
  const pick = $("[data-pick]", row);
  if (!pick) return;
  pick.disabled = isGone;
  if (!isGone || !pick.checked) return;
  pick.checked = false;
  pick.dispatchEvent(new Event("change", { bubbles: true }));
}

/**
 * @param {HTMLElement | null} row
 * @param {string} html
 */
function change(row, html) {
  if (!row) return;
  leave(row, false);
  if (row.tagName === "TR") changeCells(row, html);
  else {
    const cells = need("[data-cells]", row);
    cells.innerHTML = html;
    cells.classList.add("changed");
  }
}

/**
 * Replaces the changed cells, except the first two: selection and favourite belong to the person.
 * @param {HTMLElement} row
 * @param {string} html
 */
function changeCells(row, html) {
  const body = document.createElement("tbody");
  body.innerHTML = `<tr>${html}</tr>`;
  const old = [...row.children].slice(2);
  for (const [n, cell] of [...need("tr", body).children].entries()) {
    if (!old[n] || withoutAges(old[n]) === withoutAges(cell)) continue;
    cell.classList.add("changed");
    old[n].replaceWith(cell);
  }
}

/** @param {number} count */
function moved(count) {
  const notice = $("[data-moved]");
  if (!notice) return;
  const total = (Number(notice.dataset.count) || 0) + count;
  const what = `${total} other application${total === 1 ? "" : "s"} changed`;
  notice.dataset.count = String(total);
  need("[data-moved-word]", notice).textContent = `${what}; the order and the counts may differ.`;
  notice.hidden = false;
}

// Counts are reloaded every five to ten seconds, only while the page is visible: unlike rows, they need a query.
/** @type {ReturnType<typeof setTimeout> | undefined} */
let counted;
function recount() {
  if (counted || !$("#strip")) return;
  counted = setTimeout(
    () => {
      counted = undefined;
      if (document.hidden || !$("#strip")) return;
      const into = { target: "#strip", swap: "outerHTML" };
      htmx.ajax("GET", `/applications/strip${location.search}`, into);
    },
    5000 + Math.random() * 5000,
  );
}
