// Keyboard shortcuts: search, navigation, rows, and the actions of a page.
import { currentRow, cursor, move } from "./cursor.js";
import { show } from "./dialogs.js";
import { $, $$, around, make, need } from "./dom.js";
import { openPalette, paletteKey } from "./palette.js";
import { closePanel } from "./panel.js";
import { pickRows } from "./selection.js";

const KEYS = /** @type {const} */ ([
  ["Ctrl K", "Search or jump; > actions, @ clusters, # projects"],
  ["/", "Search in this page"],
  ["G then A S F P U", "Applications, Sets, Fleet, Projects, Audit"],
  ["J K", "Next and previous row"],
  ["Enter", "Open the row"],
  ["X, Shift X", "Select, select up to here"],
  ["F", "Favourite"],
  ["V", "Table, tiles, summary"],
  ["S, R", "Sync…, refresh"],
  ["Arrows, Space", "In the drawing: move, fold"],
  ["Enter, N", "In the drawing: go to the first match, to the next one"],
  ["D L E M", "In the drawing: diff, logs, events, manifest"],
  ["Esc", "Close"],
]);

/** @type {Record<string, string>} */
const PLACES = { a: "/applications", s: "/sets", f: "/fleet", p: "/projects", u: "/audit" };
const PREFIX_MILLISECONDS = 1500;

// When G was pressed: the next letter selects a page.
let prefixed = 0;

// Single-letter shortcuts can be turned off (WCAG 2.1.4), as speech input may trigger them.
const hasLetters = () => localStorage.getItem("letters") !== "off";

function showKeys() {
  /** @type {HTMLDialogElement} */
  const dialog = need("[data-dialog]");
  const close = make("button", { type: "button", className: "btn", textContent: "Close" });
  close.dataset.close = "";
  dialog.replaceChildren(
    make("header", {}, make("h2", { textContent: "Keys" })),
    make("div", { className: "body" }, listOfKeys(), letterSwitch()),
    make("footer", {}, close),
  );
  show(dialog);
}

function listOfKeys() {
  const list = make("dl", { className: "keys" });
  for (const [names, words] of KEYS) {
    const term = make("dt");
    for (const name of names.split(/, | then /))
      term.append(make("kbd", { textContent: name }), " ");
    list.append(term, make("dd", { textContent: words }));
  }
  return list;
}

function letterSwitch() {
  const box = make("input", { type: "checkbox", checked: hasLetters() });
  box.addEventListener("change", () => {
    localStorage.setItem("letters", box.checked ? "on" : "off");
  });
  return make("label", { className: "check" }, box, "Single letters do something");
}

/** @param {KeyboardEvent} event */
function selectRow(event) {
  const rows = $$("[data-row]");
  const isRange = event.shiftKey && cursor.marked >= 0;
  const from = isRange ? Math.min(cursor.marked, cursor.at) : cursor.at;
  const to = isRange ? Math.max(cursor.marked, cursor.at) : cursor.at;
  /** @type {HTMLInputElement | null} */
  const pick = $("[data-pick]", rows[cursor.at]);
  pickRows(rows.slice(from, to + 1), event.shiftKey || !pick?.checked);
  cursor.marked = cursor.at;
}

function nextView() {
  const views = $$("[aria-label=View] a.btn");
  const now = views.findIndex((view) => view.hasAttribute("aria-current"));
  views[(now + 1) % views.length]?.click();
}

/** @param {KeyboardEvent} event */
function openRow(event) {
  const url = currentRow()?.dataset.url;
  if (url && document.activeElement === document.body) {
    event.preventDefault();
    location.href = url;
  }
}

/**
 * Keys that act on the page or on the current row.
 * @type {Record<string, (event: KeyboardEvent) => void>}
 */
const ACTIONS = {
  "/": (event) => {
    event.preventDefault();
    $("[data-search]")?.focus();
  },
  j: (event) => step(event, 1),
  k: (event) => step(event, -1),
  arrowdown: (event) => cursor.at >= 0 && step(event, 1),
  arrowup: (event) => cursor.at >= 0 && step(event, -1),
  x: (event) => currentRow() && selectRow(event),
  v: nextView,
  enter: openRow,
  f: () => currentRow() && $(".star button, .tilebar button", currentRow())?.click(),
  escape: closePanel,
  s: () => $("[data-key=sync]")?.click(),
  r: () => $("[data-key=refresh]")?.click(),
};

/**
 * @param {KeyboardEvent} event
 * @param {1 | -1} by
 */
function step(event, by) {
  event.preventDefault();
  move(by);
}

/**
 * Makes Enter and Space activate the buttons of a drawing, as for other buttons.
 * @param {KeyboardEvent} event
 */
function pressDrawn(event) {
  const drawn = around(event, "g[role=button]");
  if (!drawn || (event.key !== "Enter" && event.key !== " ")) return false;
  event.preventDefault();
  htmx.trigger(drawn, "click");
  return true;
}

/**
 * Opens the page of a letter that follows G.
 * @param {string} key
 */
function goToPlace(key) {
  const isSecond = prefixed && Date.now() - prefixed < PREFIX_MILLISECONDS && PLACES[key];
  prefixed = key === "g" ? Date.now() : 0;
  if (isSecond) location.href = PLACES[key];
  return Boolean(isSecond);
}

const isTyping = (/** @type {KeyboardEvent} */ event) =>
  around(event, "input, textarea, select, dialog, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "k") {
    event.preventDefault();
    openPalette();
    return;
  }
  if (paletteKey(event) || pressDrawn(event)) return;
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  if (event.key === "?") showKeys();
  else if ((hasLetters() || key === "/" || key === "escape") && !goToPlace(key))
    ACTIONS[key]?.(event);
});
