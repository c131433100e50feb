// Short messages at the bottom of the page.
import { make, need } from "./dom.js";

/**
 * Shows a message for six seconds, or for longer while the pointer is on it.
 * @param {string} text
 * @param {"" | "bad"} [tone]
 */
export function toast(text, tone = "") {
  const box = make("div", { className: `toast ${tone}`, textContent: text });
  need("[data-toasts]").append(box);
  setTimeout(() => {
    if (!box.matches(":hover")) box.remove();
  }, 6000);
}
