// Helpers to find and create elements of the page.

/**
 * Returns the first element that matches.
 * @template {Element} [E=HTMLElement]
 * @param {string} query
 * @param {ParentNode} [root]
 * @returns {E | null}
 */
export const $ = (query, root = document) => root.querySelector(query);

/**
 * Returns every element that matches.
 * @template {Element} [E=HTMLElement]
 * @param {string} query
 * @param {ParentNode} [root]
 * @returns {E[]}
 */
export const $$ = (query, root = document) => Array.from(root.querySelectorAll(query));

/**
 * Returns the first element that matches; throws if the page has none.
 * @template {Element} [E=HTMLElement]
 * @param {string} query
 * @param {ParentNode} [root]
 * @returns {E}
 */
export function need(query, root = document) {
  /** @type {E | null} */
  const found = root.querySelector(query);
  if (!found) throw new Error(`The page has no ${query}.`);
  return found;
}

/**
 * Returns the closest ancestor of an event's target that matches, or the target itself.
 * @template {Element} [E=HTMLElement]
 * @param {Event} event
 * @param {string} query
 * @returns {E | null}
 */
export const around = (event, query) =>
  event.target instanceof Element ? event.target.closest(query) : null;

/**
 * Returns a new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Partial<HTMLElementTagNameMap[K]>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Returns the CSRF token, which every write must send. */
export const csrf = () =>
  JSON.parse(document.body.getAttribute("hx-headers") || "{}")["X-CSRFToken"] || "";
