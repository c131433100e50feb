// Forms: rows that are added and removed, dialogs that a page takes, texts that are checked before they are saved.
import { $, $$, busy, call, csrf, fields, go, toast } from "./app.js";

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

// A source is looked into when what names it changed, not at every letter of its parameters.
let looked = "";
async function detect() {
  const area = $("textarea[data-detect]"), place = $("#source");
  if (!area || !place) return;
  const named = (area.value.match(/^\s*-?\s*(repoURL|path|chart|targetRevision|project):.*$/gm) || []).join("|") + ($("[name=index]")?.value || "");
  if (named === looked) return;
  looked = named;
  const values = { text: area.value, index: $("[name=index]")?.value || "0" };
  htmx.ajax("POST", area.dataset.detect, { target: "#source", swap: "innerHTML", values });
}
let later = 0;
const soon = () => { clearTimeout(later); later = setTimeout(detect, 700); };
document.addEventListener("input", (event) => { if (event.target.closest("textarea[data-detect]")) soon(); });
document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target?.id === "text" || $("textarea[data-detect]") && !looked) soon(); });
if ($("textarea[data-detect]")) soon();

// An action of a resource with parameters, as REST takes them.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-action]");
  if (!form) return;
  event.preventDefault();
  const [method, path] = form.dataset.action.split(" ");
  const given = [...new FormData(form)].map(([name, value]) => ({ name, value }));
  busy(event.submitter, async () => {
    await call(method, path, { ...JSON.parse(form.dataset.body), resourceActionParameters: given });
    form.closest("dialog").close();
    toast("Done");
  });
});

// A sync: the fields as REST takes them, and what is left out counts as the application says.
document.addEventListener("submit", (event) => {
  const button = $("[data-sync-call]", event.target);
  if (!button) return;
  event.preventDefault();
  const form = event.target, [method, path] = button.dataset.syncCall.split(" ");
  const body = fields(form);
  const items = (body.syncOptions?.items || []).filter(Boolean);
  body.syncOptions = { items };
  const kind = $("[name=strategy]", form).value, force = $("[name=force]", form).checked;
  body.strategy = { [kind]: { ...(force ? { force: true } : {}) } };
  for (const name of ["only", "force"]) delete body[name];
  busy(button, async () => { await call(method, path, body); form.closest("dialog").close(); toast(body.dryRun ? "Trying it: the result is in the history of operations" : "Sync started"); });
});

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
