// Ages: updated while the page is open, with the exact time in the person's time zone as a tooltip.
import { $$ } from "./dom.js";

const UNITS = /** @type {const} */ ([
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
]);
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/**
 * Returns a duration in words, as the hub's filter `span` does.
 * @param {number} seconds
 */
export function span(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  for (const [size, word] of UNITS) if (left >= size) return `${Math.floor(left / size)} ${word}`;
  return `${left} s`;
}

/** Updates every age on the page, and removes expired notices. */
export function tick() {
  /** @type {HTMLTimeElement[]} */
  const times = $$("time[data-ago], time[data-since]");
  for (const time of times) {
    const at = new Date(time.dateTime);
    const age = span((Date.now() - at.getTime()) / 1000);
    const text = time.hasAttribute("data-ago") ? `${age} ago` : age;
    if (time.textContent !== text) time.textContent = text;
    if (time.dataset.zoned) continue;
    time.title = `${local.format(at)} · ${time.title}`;
    time.dataset.zoned = "1";
  }
  for (const notice of $$("[data-until]")) {
    if (Date.parse(notice.dataset.until ?? "") <= Date.now()) notice.remove();
  }
}
