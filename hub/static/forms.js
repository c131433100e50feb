// Forms: rows that are added and removed, dialogs that a page takes, texts that are checked before they are saved.
import { $, $$, busy, csrf, go, toast } from "./app.js";

document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-rows-add]");
  const remove = event.target.closest("[data-rows-remove]");
  if (add) {
    const rows = add.closest("[data-rows]");
    $("[data-rows-body]", rows).append($("template", rows).content.cloneNode(true));
    $("[data-rows-body] > :last-child input", rows)?.focus();
  } else if (remove) {
    const form = remove.closest("form"), rows = remove.closest("[data-rows]");
    remove.closest(".inputs").remove();
    $("[data-rows-add]", rows).focus();
    htmx.trigger(form, "rows");
  }
});

document.addEventListener("change", (event) => { if (event.target.matches("[data-submit]")) event.target.form.submit(); });

// data-post: the fields go to a page, which answers where to go on, or what is wrong.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-post]");
  if (!form) return;
  event.preventDefault();
  const button = event.submitter || $("button[type=submit]", form);
  const body = new FormData(form);
  if (button.name) body.append(button.name, button.value);
  busy(button, async () => {
    const answer = await fetch(event.submitter?.getAttribute("formaction") || form.dataset.post, { method: "POST", credentials: "same-origin", headers: { "X-CSRFToken": csrf() }, body });
    const data = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(data.message || `The hub answered ${answer.status}.`);
    if (data.say) toast(data.say);
    if (data.go) go(data.go);
  });
});

// What was checked is not what is written any more: it cannot be saved until it is checked again.
const edits = new WeakMap(), asked = new WeakMap();
const lock = (area) => $$("[data-call]", $(area.getAttribute("hx-target"))).forEach((button) => { button.disabled = true; });
document.addEventListener("input", (event) => {
  const area = event.target.closest?.("textarea[hx-target]");
  if (area) { edits.set(area, (edits.get(area) || 0) + 1); lock(area); }
});
document.addEventListener("htmx:beforeRequest", (event) => asked.set(event.detail.elt, edits.get(event.detail.elt) || 0));
document.addEventListener("htmx:afterSwap", (event) => {
  const area = event.detail.requestConfig?.elt;
  if (area?.matches?.("textarea[hx-target]") && asked.get(area) !== (edits.get(area) || 0)) lock(area);
});
