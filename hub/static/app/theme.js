// The theme: system, light or dark. It is in a cookie, so that the hub renders every page with it.
import { need } from "./dom.js";

const THEMES = ["", "light", "dark"];

/** Switches to the next theme. */
export function nextTheme() {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  // biome-ignore lint/suspicious/noDocumentCookie: not every supported browser has cookieStore
  document.cookie = `theme=${next}; path=/; max-age=31536000; samesite=lax`;
  need("[data-theme-switch]").setAttribute("aria-label", `Theme: ${next || "as the system"}`);
}
