// Selected rows, and the bar with actions for all of them.
import { open } from "./dialogs.js";
import { $, $$, need } from "./dom.js";
import { call } from "./rest.js";
import { toast } from "./toast.js";

/** @param {HTMLElement} row */
const box = (row) => /** @type {HTMLInputElement | null} */ ($("[data-pick]", row));
const picked = () => $$("[data-row]").filter((row) => box(row)?.checked);

/** Shows how many rows are selected, and which. */
export function showPicked() {
  const bar = $("[data-bulk]");
  if (!bar) return;
  const count = picked().length;
  bar.hidden = count === 0;
  need("[data-bulk-count]", bar).textContent = `${count} selected`;
  for (const row of $$("[data-row]")) row.classList.toggle("selected", Boolean(box(row)?.checked));
}

/** Clears the selection. */
export function clearPicked() {
  /** @type {HTMLInputElement[]} */
  const boxes = $$("[data-pick], [data-pick-all]");
  for (const pick of boxes) pick.checked = false;
  showPicked();
}

/**
 * Selects or deselects rows.
 * @param {HTMLElement[]} rows
 * @param {boolean} on
 */
export function pickRows(rows, on) {
  for (const row of rows) {
    const pick = box(row);
    if (pick && !pick.disabled) pick.checked = on;
  }
  showPicked();
}

/**
 * Opens the sync preview of the selected rows, or refreshes them.
 * @param {string | undefined} what
 */
export async function bulk(what) {
  const rows = picked();
  if (what === "sync") {
    await open(`/applications/preview?${rows.map((row) => `row=${row.dataset.row}`).join("&")}`);
    return;
  }
  const said = need("[data-bulk-count]");
  let failed = 0;
  let done = 0;
  const refresh = async (/** @type {HTMLElement} */ row) => {
    const { name, namespace } = row.dataset;
    const query = `appNamespace=${namespace}&refresh=normal`;
    await call("GET", `/api/v1/applications/${name}?${query}`).catch(() => {
      failed += 1;
    });
    done += 1;
    said.textContent = `${done} of ${rows.length} refreshed`;
  };
  await Promise.all(rows.map(refresh));
  showPicked();
  if (failed) toast(`${rows.length - failed} refreshed, ${failed} could not be`, "bad");
  else toast(`${rows.length} refreshed`);
}

/**
 * Syncs the applications of a dialog one by one, and shows each result.
 * @param {HTMLElement | null} dialog
 */
export async function syncAll(dialog) {
  if (!dialog) return;
  /** @type {HTMLProgressElement} */
  const progress = need("[data-progress]", dialog);
  /** @type {HTMLInputElement} */
  const prune = need("[name=prune]", dialog);
  progress.hidden = false;
  for (const item of $$("[data-sync-item]", dialog)) {
    const { name, namespace } = item.dataset;
    const result = need("[data-result]", item);
    result.textContent = "asking…";
    try {
      const path = `/api/v1/applications/${name}/sync?appNamespace=${namespace}`;
      await call("POST", path, { prune: prune.checked });
      result.textContent = "started";
    } catch (error) {
      result.textContent = error instanceof Error ? error.message : String(error);
      result.classList.add("t-bad");
    }
    progress.value += 1;
  }
  need("[data-sync-all]", dialog).hidden = true;
}

document.addEventListener("change", (event) => {
  const input = /** @type {HTMLInputElement} */ (event.target);
  if (input.matches("[data-pick-all]")) pickRows($$("[data-row]"), input.checked);
  if (input.matches("[data-pick], [data-pick-all]")) showPicked();
});
