// What pages do by themselves. Every page can be read without it. Each subject has its module in app/.
import "./app/keys.js";
import "./app/swaps.js";
import { open, show } from "./app/dialogs.js";
import { $, $$, around, need } from "./app/dom.js";
import { connect } from "./app/live.js";
import { openPalette } from "./app/palette.js";
import { leaveFull, preparePanel, toggleFull } from "./app/panel.js";
import { ask } from "./app/rest.js";
import { bulk, clearPicked, syncAll } from "./app/selection.js";
import { nextTheme } from "./app/theme.js";
import { tick } from "./app/times.js";

/**
 * What a click does, by the attribute of the element that was clicked; the first that matches counts.
 * @type {[query: string, action: (found: HTMLElement, event: Event) => unknown][]}
 */
const CLICKS = [
  [
    "[data-call]",
    (found, event) => {
      event.preventDefault();
      ask(/** @type {HTMLButtonElement} */ (found));
    },
  ],
  [
    "[data-load]",
    (found, event) => {
      event.preventDefault();
      open(found.dataset.load ?? "");
    },
  ],
  ["[data-open]", (found) => show(need(found.dataset.open ?? ""), found)],
  ["[data-close]", (found) => found.closest("dialog")?.close()],
  ["[data-palette]", openPalette],
  ["[data-theme-switch]", nextTheme],
  ["[data-bulk-clear]", clearPicked],
  ["[data-bulk-do]", (found) => bulk(found.dataset.bulkDo)],
  ["[data-sync-all]", (found) => syncAll(found.closest("dialog"))],
  ["[data-open-facets]", () => need("#facets").classList.toggle("is-open")],
  ["[data-clear]", clearFacet],
  ["[data-fold]", toggleFold],
  ["[data-panel-full]", toggleFull],
  ["[data-panel-close]", leaveFull],
];

/**
 * @param {HTMLElement} found
 * @param {Event} event
 */
function clearFacet(found, event) {
  event.preventDefault();
  /** @type {HTMLInputElement[]} */
  const inputs = $$(`input[name="${found.dataset.clear}"]`);
  for (const input of inputs) input.checked = false;
  htmx.trigger(need("#filters"), "submit");
}

/** @param {HTMLElement} found */
function toggleFold(found) {
  const part = need(found.dataset.fold ?? "");
  part.hidden = !part.hidden;
}

/** @param {Event} event */
function act(event) {
  for (const [query, action] of CLICKS) {
    /** @type {HTMLElement | null} */
    const found = around(event, query);
    if (!found) continue;
    action(found, event);
    return;
  }
  // A click beside a dialog closes it.
  if (event.target instanceof HTMLDialogElement) event.target.close();
}

document.addEventListener("click", (event) => {
  act(event);
  /** @type {HTMLDetailsElement[]} */
  const menus = $$("details.menu[open]");
  for (const menu of menus) {
    if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
  }
});

// An address can ask for what a button opens: ?do=sync
if (new URLSearchParams(location.search).get("do") === "sync") {
  addEventListener("load", () => $("[data-key=sync]")?.click());
}

setInterval(tick, 1000);
tick();
connect();
preparePanel();
