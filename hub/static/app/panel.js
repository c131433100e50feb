// The panel of a resource: its width (set by pointer or keys, and remembered), full window, closing.
import { $, need } from "./dom.js";

const MIN_WIDTH = 320; // pixels
const STEP = 32;
const KEPT = "panel-width";
/** The canvas beside the panel keeps at least this share of the width. */
const CANVAS_SHARE = 0.25;

const maxWidth = () => Math.round(need("#work").clientWidth * (1 - CANVAS_SHARE));

/**
 * Sets the width of the panel.
 * @param {number} width in pixels
 */
function setWidth(width) {
  const handle = need("[data-resize]");
  const limit = Math.max(MIN_WIDTH, maxWidth());
  const now = Math.round(Math.min(limit, Math.max(MIN_WIDTH, width)));
  need("#work").style.setProperty("--panel-width", `${now}px`);
  handle.setAttribute("aria-valuemin", String(MIN_WIDTH));
  handle.setAttribute("aria-valuemax", String(limit));
  handle.setAttribute("aria-valuenow", String(now));
  localStorage.setItem(KEPT, String(now));
}

const width = () => need("#panel").clientWidth;

/** @param {PointerEvent} event */
function drag(event) {
  const handle = need("[data-resize]");
  const [start, before] = [event.clientX, width()];
  handle.setPointerCapture(event.pointerId);
  /** @param {PointerEvent} moved */
  const move = (moved) => setWidth(before + start - moved.clientX);
  handle.addEventListener("pointermove", move);
  handle.addEventListener(
    "lostpointercapture",
    () => handle.removeEventListener("pointermove", move),
    {
      once: true,
    },
  );
  event.preventDefault();
}

/** @param {KeyboardEvent} event */
function press(event) {
  const widths = {
    ArrowLeft: () => width() + STEP,
    ArrowRight: () => width() - STEP,
    Home: () => MIN_WIDTH,
    End: maxWidth,
  };
  const next = widths[/** @type {keyof typeof widths} */ (event.key)];
  if (!next) return;
  event.preventDefault();
  setWidth(next());
}

/** Switches the panel between the full window and its place beside the resources. */
export function toggleFull() {
  const isFull = need("#panel").classList.toggle("is-full");
  $("[data-panel-full]")?.setAttribute("aria-pressed", String(isFull));
}

/** Shows the panel beside the resources again. */
export const leaveFull = () => need("#panel").classList.remove("is-full");

/**
 * Leaves the full window, or else closes the panel.
 * @returns {boolean} whether there was a panel
 */
export function closePanel() {
  const panel = $("#panel");
  if (!panel?.firstElementChild) return false;
  if (panel.classList.contains("is-full")) toggleFull();
  else $("[data-panel-close]", panel)?.click();
  return true;
}

/** Sets up the resize handle if the page has a panel. */
export function preparePanel() {
  const handle = $("[data-resize]");
  if (!handle) return;
  handle.addEventListener("pointerdown", drag);
  handle.addEventListener("keydown", press);
  const kept = Number(localStorage.getItem(KEPT));
  if (kept) setWidth(kept);
}
