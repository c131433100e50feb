// Swaps by htmx: keeps open facets, the selection and the focus, and shows errors.
import { currentRow, returnTo } from "./cursor.js";
import { $, make } from "./dom.js";
import { subscribeAgain } from "./live.js";
import { showPicked } from "./selection.js";
import { tick } from "./times.js";
import { toast } from "./toast.js";

// Attributes that identify an element after a swap, the best first.
const MARKS = ["id", "href", "data-load", "data-call", "data-act", "name"];
const UNREACHABLE = "The hub does not answer. What runs is not touched.";

/** @type {Map<string, boolean>} */
const openFacets = new Map();
let kept = { row: "", focus: "" };

document.addEventListener(
  "toggle",
  (event) => {
    const facet = event.target;
    if (facet instanceof HTMLDetailsElement && facet.dataset.facet) {
      openFacets.set(facet.dataset.facet, facet.open);
    }
  },
  true,
);

document.addEventListener("htmx:beforeSwap", (event) => {
  const at = document.activeElement;
  const mark = MARKS.find((name) => at?.getAttribute(name));
  const isReplaced = at && mark && event.detail.target.contains(at);
  kept = {
    row: currentRow()?.dataset.url || "",
    focus: isReplaced ? `${at.tagName}[${mark}="${CSS.escape(at.getAttribute(mark) ?? "")}"]` : "",
  };
});

document.addEventListener("htmx:afterSwap", () => {
  for (const [name, isOpen] of openFacets) {
    /** @type {HTMLDetailsElement | null} */
    const facet = $(`[data-facet="${name}"]`);
    if (facet) facet.open = isOpen;
  }
  returnTo(kept.row);
  if (kept.focus && document.activeElement === document.body) {
    $(kept.focus)?.focus({ preventScroll: true });
  }
  showPicked();
  tick();
  subscribeAgain();
});

document.addEventListener("htmx:responseError", (event) => {
  const { elt, xhr } = event.detail;
  const isMissing = xhr.status === 404;
  if (isMissing && elt instanceof HTMLElement && elt.matches("[data-live]")) {
    showGone(elt);
    return;
  }
  if (isMissing && elt.getAttribute("hx-trigger")?.includes("every")) stopAsking(elt);
  const missing = "It is not there any more, or you may not see it.";
  const failed = "The hub could not answer. What runs is not touched.";
  toast(isMissing ? missing : failed, "bad");
});

document.addEventListener("htmx:sendError", () => toast(UNREACHABLE, "bad"));

/**
 * Stops a part that polls, since every further request would fail, too.
 * @param {Element} part
 */
function stopAsking(part) {
  const still = /** @type {Element} */ (part.cloneNode(true));
  still.removeAttribute("hx-get");
  part.replaceWith(still);
}

/** @type {Record<string, [what: string, list: string, name: string]>} */
const LISTS = {
  application: ["application", "/applications", "applications"],
  set: ["set", "/sets", "sets"],
  cluster: ["cluster", "/fleet", "fleet"],
  project: ["project", "/projects", "projects"],
};

/**
 * Says that the object of the page is deleted or no longer visible to this person, and stops polling.
 * @param {HTMLElement} root
 */
function showGone(root) {
  const [what, href, name] = LISTS[root.dataset.live ?? ""] || LISTS.application;
  const textContent = `This ${what} was deleted, or you no longer have permission to see it.`;
  const link = make("a", { href, className: "link", textContent: `Show the ${name}` });
  const lead = make("p", { className: "ink", textContent });
  root.replaceWith(make("div", { className: "empty" }, lead, make("p", {}, link)));
  const rest = root.getAttribute("hx-target");
  if (rest) $(rest)?.remove();
}
