// Forms: rows that are added and removed, dialogs that a page takes, texts that are checked before they are saved.
import { $, $$, around, csrf, need } from "./app/dom.js";
import { busy, call, fields, go } from "./app/rest.js";
import { toast } from "./app/toast.js";

/** @typedef {import("./app/rest.js").Control} Control */

const DETECT_MILLISECONDS = 700;

/** @param {HTMLElement} button */
function addRow(button) {
  const rows = /** @type {HTMLElement} */ (button.closest("[data-rows]"));
  /** @type {HTMLTemplateElement} */
  const template = need("template", rows);
  need("[data-rows-body]", rows).append(template.content.cloneNode(true));
  $("[data-rows-body] > :last-child input", rows)?.focus();
}

/** @param {HTMLElement} button */
function removeRow(button) {
  const form = button.closest("form");
  const rows = /** @type {HTMLElement} */ (button.closest("[data-rows]"));
  button.closest(".inputs")?.remove();
  need("[data-rows-add]", rows).focus();
  if (form) htmx.trigger(form, "rows");
}

document.addEventListener("click", (event) => {
  /** @type {HTMLElement | null} */
  const add = around(event, "[data-rows-add]");
  /** @type {HTMLElement | null} */
  const remove = around(event, "[data-rows-remove]");
  if (add) addRow(add);
  else if (remove) removeRow(remove);
});

document.addEventListener("change", (event) => {
  const input = /** @type {HTMLInputElement} */ (event.target);
  if (input.matches("[data-submit]")) input.form?.submit();
});

// A source is detected when what names it changed, not at every letter of its parameters.
const NAMES_A_SOURCE = /^\s*-?\s*(repoURL|path|chart|targetRevision|project):.*$/gm;
let detected = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let later;

const editor = () => /** @type {HTMLTextAreaElement | null} */ ($("textarea[data-detect]"));

function detect() {
  const area = editor();
  if (!area || !$("#source")) return;
  /** @type {HTMLInputElement | null} */
  const index = $("[name=index]");
  const named = (area.value.match(NAMES_A_SOURCE) || []).join("|") + (index?.value || "");
  if (named === detected) return;
  detected = named;
  const values = { text: area.value, index: index?.value || "0" };
  const into = { target: "#source", swap: "innerHTML", values };
  htmx.ajax("POST", area.dataset.detect ?? "", into);
}

function detectSoon() {
  clearTimeout(later);
  later = setTimeout(detect, DETECT_MILLISECONDS);
}

document.addEventListener("input", (event) => {
  if (around(event, "textarea[data-detect]")) detectSoon();
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target?.id === "text" || (editor() && !detected)) detectSoon();
});
if (editor()) detectSoon();

/**
 * The button that submitted a form.
 * @param {SubmitEvent} event
 * @param {HTMLFormElement} form
 * @returns {Control}
 */
const submitterOf = (event, form) =>
  /** @type {HTMLButtonElement | null} */ (event.submitter) ?? need("button[type=submit]", form);

// An action of a resource with parameters, as REST takes them.
document.addEventListener("submit", (event) => {
  /** @type {HTMLFormElement | null} */
  const form = around(event, "form[data-action]");
  if (!form) return;
  event.preventDefault();
  const { action = "", body = "{}" } = form.dataset;
  const [method, path] = action.split(" ");
  const given = [...new FormData(form)].map(([name, value]) => ({ name, value }));
  busy(submitterOf(event, form), async () => {
    await call(method, path, { ...JSON.parse(body), resourceActionParameters: given });
    form.closest("dialog")?.close();
    toast("Done");
  });
});

/**
 * Returns a sync as REST takes it; what is left out counts as the application says.
 * @param {HTMLFormElement} form
 */
function syncOf(form) {
  const body = fields(form);
  /** @type {HTMLInputElement} */
  const strategy = need("[name=strategy]", form);
  /** @type {HTMLInputElement} */
  const force = need("[name=force]", form);
  body.syncOptions = { items: (body.syncOptions?.items || []).filter(Boolean) };
  body.strategy = { [strategy.value]: force.checked ? { force: true } : {} };
  delete body.only;
  delete body.force;
  return body;
}

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  /** @type {HTMLButtonElement | null} */
  const button = $("[data-sync-call]", form);
  if (!button) return;
  event.preventDefault();
  const [method, path] = (button.dataset.syncCall ?? "").split(" ");
  const body = syncOf(form);
  busy(button, async () => {
    await call(method, path, body);
    form.closest("dialog")?.close();
    const dry = "Trying it: the result is in the history of operations";
    toast(body.dryRun ? dry : "Sync started");
  });
});

// data-post: the fields go to a page, which answers where to go on, or what is wrong.
document.addEventListener("submit", (event) => {
  /** @type {HTMLFormElement | null} */
  const form = around(event, "form[data-post]");
  if (!form) return;
  event.preventDefault();
  const button = submitterOf(event, form);
  const body = new FormData(form);
  if (button.name) body.append(button.name, button.value);
  const path = event.submitter?.getAttribute("formaction") || form.dataset.post || "";
  busy(button, () => post(path, body));
});

/**
 * @param {string} path
 * @param {FormData} body
 */
async function post(path, body) {
  const headers = { "X-CSRFToken": csrf() };
  const answer = await fetch(path, { method: "POST", credentials: "same-origin", headers, body });
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.message || `The hub answered ${answer.status}.`);
  if (data.say) toast(data.say);
  if (data.go) go(data.go);
}

// What was checked is not what is written any more: it cannot be saved until it is checked again.
/** @type {WeakMap<Element, number>} */
const edits = new WeakMap();
/** @type {WeakMap<Element, number>} */
const asked = new WeakMap();

/** @param {Element} area */
function lock(area) {
  const result = $(area.getAttribute("hx-target") ?? "");
  if (!result) return;
  /** @type {HTMLButtonElement[]} */
  const buttons = $$("[data-call]", result);
  for (const button of buttons) button.disabled = true;
}

document.addEventListener("input", (event) => {
  const area = around(event, "textarea[hx-target]");
  if (!area) return;
  edits.set(area, (edits.get(area) || 0) + 1);
  lock(area);
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt } = event.detail;
  asked.set(elt, edits.get(elt) || 0);
});
document.addEventListener("htmx:afterSwap", (event) => {
  const area = event.detail.requestConfig?.elt;
  if (!area?.matches("textarea[hx-target]")) return;
  if (asked.get(area) !== (edits.get(area) || 0)) lock(area);
});
