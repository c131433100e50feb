// Dialogs over the page. Closing one returns the focus to the element that opened it.
import { $, need } from "./dom.js";
import { toast } from "./toast.js";

/** @type {Element | null} */
let opener = null;

/**
 * Shows a dialog of the page.
 * @param {HTMLDialogElement} dialog
 * @param {Element | null} [from] the element that gets the focus back
 */
export function show(dialog, from = document.activeElement) {
  opener = from;
  dialog.showModal();
}

/**
 * Loads a dialog from the hub and shows it.
 * @param {string} path
 */
export async function open(path) {
  const from = document.activeElement;
  /** @type {HTMLDialogElement} */
  const dialog = need("[data-dialog]");
  const headers = { "HX-Request": "true" };
  const answer = await fetch(path, { credentials: "same-origin", headers });
  if (!answer.ok) {
    const missing = answer.status === 404;
    toast(
      missing ? "It is not there, or you may not." : `The hub answered ${answer.status}.`,
      "bad",
    );
    return;
  }
  dialog.innerHTML = await answer.text();
  htmx.process(dialog);
  show(dialog, from);
  $("[autofocus], input:not([type=hidden]), button", dialog)?.focus();
}

document.addEventListener(
  "close",
  (event) => {
    if (!(event.target instanceof HTMLDialogElement)) return;
    if (opener instanceof HTMLElement || opener instanceof SVGElement) opener.focus();
  },
  true,
);
