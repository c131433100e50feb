// Logs of pods: followed until the panel shows something else.
import { $, $$, around, make, need } from "./app/dom.js";

const MAX_LINES = 5000;

/** @typedef {{content?: string, last?: boolean, podName?: string, timeStampStr?: string}} Entry */

/** @type {AbortController | null} */
let reading = null;

/** @param {HTMLElement} box */
function queryOf(box) {
  const value = (/** @type {string} */ name) => {
    /** @type {HTMLInputElement | null} */
    const input = $(`[name=${name}]`, box);
    return input?.type === "checkbox" ? String(input.checked) : (input?.value ?? "");
  };
  const query = new URLSearchParams({ tailLines: value("tailLines"), follow: value("follow") });
  if (value("previous") === "true") query.set("previous", "true");
  for (const name of ["podName", "container", "filter"]) {
    if (value(name)) query.set(name, value(name));
  }
  return query;
}

/** @param {HTMLElement} box */
async function readLogs(box) {
  reading?.abort();
  const stop = new AbortController();
  reading = stop;
  const lines = need("[data-logs-lines]", box);
  const said = need("[data-logs-said]", box);
  lines.textContent = "";
  said.textContent = "Asking the cluster…";
  try {
    const address = `${box.dataset.logs}&${queryOf(box)}`;
    const answer = await fetch(address, { credentials: "same-origin", signal: stop.signal });
    if (!answer.ok || !answer.body) throw new Error(await messageOf(answer));
    said.textContent = "No lines yet.";
    await showLines(answer.body, lines, said);
    if (!lines.childElementCount) said.textContent = "There are no lines.";
  } catch (error) {
    if (error instanceof Error && error.name !== "AbortError") said.textContent = error.message;
  }
}

/** @param {Response} answer */
async function messageOf(answer) {
  const data = await answer.json().catch(() => ({}));
  return data.message || `The hub answered ${answer.status}.`;
}

/**
 * Shows lines as they come; the oldest leave when there are too many.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @param {HTMLElement} lines
 * @param {HTMLElement} said
 */
async function showLines(body, lines, said) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) if (part.trim()) show(lines, JSON.parse(part).result, said);
    while (lines.childElementCount > MAX_LINES) lines.firstElementChild?.remove();
    lines.scrollTop = lines.scrollHeight;
  }
}

/**
 * @param {HTMLElement} lines
 * @param {Entry | undefined} entry
 * @param {HTMLElement} said
 */
function show(lines, entry, said) {
  if (entry?.content === undefined || entry.last) return;
  const { content, podName = "", timeStampStr = "" } = entry;
  said.textContent = "";
  /** @type {HTMLSelectElement | null} */
  const pod = $("[name=podName]");
  /** @type {HTMLInputElement | null} */
  const times = $("[name=times]");
  const time = times?.checked ? `${timeStampStr} ` : "";
  const source = pod?.value === "" ? `[${podName.slice(-11)}] ` : "";
  const textContent = `${time}${source}${content}`;
  const title = `${podName} ${timeStampStr}`.trim();
  lines.append(make("span", { className: "l", title, textContent }));
}

function save() {
  const text = $$("[data-logs-lines] .l")
    .map((line) => line.textContent)
    .join("\n");
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  make("a", { href, download: "logs.txt" }).click();
  URL.revokeObjectURL(href);
}

document.addEventListener("htmx:afterSwap", () => {
  const box = $("[data-logs]");
  if (box && !box.dataset.read) {
    box.dataset.read = "1";
    readLogs(box);
  } else if (!box) {
    reading?.abort();
    reading = null;
  }
});
document.addEventListener("change", (event) => {
  /** @type {HTMLElement | null} */
  const box = around(event, "[data-logs]");
  if (box) readLogs(box);
});
document.addEventListener("click", (event) => {
  if (around(event, "[data-logs-save]")) save();
});
