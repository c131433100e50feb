// Requests to the REST API, which the command line uses, too.
import { $, csrf, need } from "./dom.js";
import { toast } from "./toast.js";

/** @typedef {HTMLButtonElement | HTMLInputElement} Control */

/**
 * Sends a request and returns the JSON response.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<Record<string, any>>}
 */
export async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrf() },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  /** @type {Record<string, any>} */
  let data = {};
  try {
    data = text ? JSON.parse(text) : {};
  } catch {
    // Not JSON, such as the error page of a proxy.
  }
  if (!answer.ok) throw new Error(data.message || `The hub answered ${answer.status}.`);
  return data;
}

/**
 * Sends the REST request of a button: data-call="POST /api/v1/…", with data-body or the fields of its form.
 * @param {Control} button
 */
export async function ask(button) {
  const { call: wanted = "", needs, done, go: next, swap, into, show } = button.dataset;
  const [method, path] = wanted.split(" ");
  const form = button.closest("form");
  /** @type {HTMLInputElement | null} */
  const needed = needs && form ? $(needs, form) : null;
  if (needed && !needed.reportValidity()) return;
  const body = bodyOf(button, form);
  await busy(button, async () => {
    const data = await call(method, path, body);
    if (show) {
      reveal(button, data[show]);
      return;
    }
    button.closest("dialog")?.close();
    if (done) toast(done);
    if (next) go(next);
    if (swap) htmx.ajax("GET", swap, into);
  });
}

/**
 * @param {Control} button
 * @param {HTMLFormElement | null} form
 */
function bodyOf(button, form) {
  if (button.dataset.body) return JSON.parse(button.dataset.body);
  return form && button.dataset.form ? fields(form) : undefined;
}

/**
 * Opens a URL; reloads the page if it is the current one.
 * @param {string} url
 */
export function go(url) {
  const there = new URL(url, location.href);
  if (there.pathname + there.search !== location.pathname + location.search) {
    location.href = url;
    return;
  }
  location.hash = there.hash;
  location.reload();
}

/**
 * Runs the work of a button; an error is shown next to it.
 * @param {Control} button
 * @param {() => Promise<void>} work
 */
export async function busy(button, work) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  const place = placeOfErrors(button);
  if (place) place.hidden = true;
  try {
    await work();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (place) {
      place.textContent = message;
      place.hidden = false;
    } else toast(message, "bad");
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

/** @param {Control} button */
function placeOfErrors(button) {
  const part = button.closest("dialog") || button.closest("form, .card, .panel");
  return part ? $("[data-error]", part) : null;
}

/**
 * Shows a secret; it is shown only once.
 * @param {Control} button
 * @param {string} text
 */
function reveal(button, text) {
  const part = button.closest("form, dialog") ?? document;
  const place = need("[data-shown]", part);
  place.textContent = text;
  place.hidden = false;
  button.hidden = true;
}

/**
 * Returns the fields of a form as JSON: dots nest, `name[]` is a list, a checkbox is true.
 * @param {HTMLFormElement} form
 */
export function fields(form) {
  /** @type {Record<string, any>} */
  const result = {};
  const inputs = /** @type {Iterable<HTMLInputElement>} */ (form.elements);
  for (const input of inputs) {
    if (!isSent(input)) continue;
    const value = valueIn(input);
    if (value === "" && !input.required) continue;
    put(result, input.name, input.type === "number" ? Number(value) : value);
  }
  return result;
}

/** @param {HTMLInputElement} input */
function isSent(input) {
  if (!input.name || input.disabled || input.type === "submit" || "skip" in input.dataset)
    return false;
  return input.checked || (input.type !== "checkbox" && input.type !== "radio");
}

/** @param {HTMLInputElement} input */
function valueIn(input) {
  if (input.type === "checkbox" && input.value === "on") return true;
  return input.dataset.json ? JSON.parse(input.value) : input.value;
}

/**
 * @param {Record<string, any>} result
 * @param {string} name
 * @param {unknown} value
 */
function put(result, name, value) {
  const path = name.replace(/\[\]$/, "").split(".");
  const last = path.pop() ?? "";
  let place = result;
  for (const key of path) {
    place[key] ??= {};
    place = place[key];
  }
  if (!name.endsWith("[]")) {
    place[last] = value;
    return;
  }
  place[last] ??= [];
  place[last].push(value);
}
