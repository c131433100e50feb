// The command palette: search and navigation by keyboard (Ctrl+K).

import { show } from "./dialogs.js";
import { $, $$, need } from "./dom.js";

/** Opens the palette. */
export function openPalette() {
  /** @type {HTMLDialogElement} */
  const box = need("[data-palette-box]");
  show(box);
  /** @type {HTMLInputElement} */
  const input = need("input", box);
  input.value = "";
  input.focus();
  htmx.trigger(input, "palette");
}

/**
 * Handles a key in the palette; returns whether the palette is open.
 * @param {KeyboardEvent} event
 */
export function paletteKey(event) {
  /** @type {HTMLDialogElement | null} */
  const box = $("[data-palette-box]");
  if (!box?.open) return false;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose(box, event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    const option = $("[aria-selected=true]", box);
    if (option) {
      event.preventDefault();
      option.click();
    }
  }
  return true;
}

/**
 * @param {HTMLElement} box
 * @param {1 | -1} step
 */
function choose(box, step) {
  const options = $$("[role=option]", box);
  if (!options.length) return;
  const now = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  const next = (now + step + options.length) % options.length;
  for (const [n, option] of options.entries()) {
    option.setAttribute("aria-selected", String(n === next));
  }
  options[next].scrollIntoView({ block: "nearest" });
}
