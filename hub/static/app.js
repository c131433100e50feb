// What pages do by themselves: live rows, ages, keys, selection, dialogs. No page needs it to be read.

export const $ = (query, root = document) => root.querySelector(query);
export const $$ = (query, root = document) => [...root.querySelectorAll(query)];
export const csrf = () => JSON.parse(document.body.getAttribute("hx-headers") || "{}")["X-CSRFToken"] || "";

// ---------- words ----------
export function span(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (left >= size) return `${Math.floor(left / size)} ${word}`;
  return `${left} s`;
}

const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function tick() {
  for (const time of $$("time[data-ago], time[data-since]")) {
    const at = new Date(time.dateTime);
    const text = span((Date.now() - at) / 1000) + (time.hasAttribute("data-ago") ? " ago" : "");
    if (time.textContent !== text) time.textContent = text;
    if (!time.dataset.zoned) { time.title = `${zone.format(at)} · ${time.title}`; time.dataset.zoned = "1"; }
  }
  for (const notice of $$("[data-until]")) if (Date.parse(notice.dataset.until) <= Date.now()) notice.remove();
}

export function toast(text, tone = "") {
  const box = document.createElement("div");
  box.className = `toast ${tone}`;
  box.textContent = text;
  $("[data-toasts]").append(box);
  setTimeout(() => { if (!box.matches(":hover")) box.remove(); }, 6000);
}

// ---------- requests to REST, as the command line makes them ----------
export async function call(method, path, body) {
  const answer = await fetch(path, {
    method, credentials: "same-origin", headers: { "Content-Type": "application/json", "X-CSRFToken": csrf() },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let data = {};
  try { data = text ? JSON.parse(text) : {}; } catch { /* a proxy's page */ }
  if (!answer.ok) throw new Error(data.message || `The hub answered ${answer.status}.`);
  return data;
}

// A button or form that asks REST: data-call="POST /api/v1/…", data-body, data-done.
async function ask(element) {
  const [method, path] = element.dataset.call.split(" ");
  const form = element.closest("form");
  const needed = element.dataset.needs && form && $(element.dataset.needs, form);
  if (needed && !needed.reportValidity()) return;
  const body = element.dataset.body ? JSON.parse(element.dataset.body) : form && element.dataset.form ? fields(form) : undefined;
  await busy(element, async () => {
    const data = await call(method, path, body);
    if (element.dataset.show) { shown(element, data[element.dataset.show]); return; }
    element.closest("dialog")?.close();
    if (element.dataset.done) toast(element.dataset.done);
    if (element.dataset.go) go(element.dataset.go);
    if (element.dataset.swap) { htmx.ajax("GET", element.dataset.swap, element.dataset.into); }
  });
}

// The address that is open already is read anew.
export function go(url) {
  const there = new URL(url, location.href);
  if (there.pathname + there.search === location.pathname + location.search) { location.hash = there.hash; location.reload(); } else location.href = url;
}

// Runs what a button asks for; what is wrong is said where it was asked.
export async function busy(element, work) {
  element.setAttribute("aria-busy", "true");
  element.disabled = true;
  const place = (element.closest("dialog") || element.closest("form, .card, .panel"))?.querySelector("[data-error]");
  if (place) place.hidden = true;
  try {
    await work();
  } catch (error) {
    if (place) { place.textContent = error.message; place.hidden = false; } else toast(error.message, "bad");
  } finally {
    element.removeAttribute("aria-busy");
    element.disabled = false;
  }
}

// A secret that is shown once.
function shown(element, text) {
  const place = $("[data-shown]", element.closest("form, dialog"));
  place.textContent = text;
  place.hidden = false;
  element.hidden = true;
}

// Fields of a form as JSON: names with dots are nested, `name[]` is a list, checkboxes are true.
export function fields(form) {
  const result = {};
  for (const input of form.elements) {
    if (!input.name || input.disabled || input.type === "submit" || "skip" in input.dataset) continue;
    if ((input.type === "checkbox" || input.type === "radio") && !input.checked) continue;
    let value = input.type === "checkbox" && input.value === "on" ? true : input.dataset.json ? JSON.parse(input.value) : input.value;
    if (value === "" && !input.required) continue;
    if (input.type === "number") value = Number(value);
    const list = input.name.endsWith("[]");
    const path = input.name.replace(/\[\]$/, "").split(".");
    let place = result;
    for (const key of path.slice(0, -1)) place = place[key] ??= {};
    const last = path.at(-1);
    if (list) (place[last] ??= []).push(value); else place[last] = value;
  }
  return result;
}

// ---------- live ----------
let socket = null, tries = 0, lost = 0, lostNotice = null, heard = 0, beat = 15000, newest = 0;

function watched() {
  const root = $("[data-live]");
  // Every page of who is signed in hears of notices, and of the end of the session.
  if (!root) return $("#notices") ? { page: "", version: newest, rows: [], view: "table", also: [] } : null;
  const rows = $$("[data-row]", root).map((row) => Number(row.dataset.row));
  const also = (root.dataset.also || "").split(" ").filter(Boolean);
  return { page: root.dataset.live, version: Number(root.dataset.version), rows, view: root.dataset.view || "table", also };
}

function showLink(state) {
  const box = $("[data-link]");
  if (!box || !$("[data-live]")) return;
  box.hidden = false;
  box.dataset.state = state;
  box.classList.toggle("lost", state !== "live");
  $("[data-link-word]", box).textContent = state === "live" ? "Live" : "Not live";
}

function connect() {
  const wanted = watched();
  if (!wanted) return;
  const mine = socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  heard = Date.now();
  mine.addEventListener("open", () => {
    if (mine !== socket) return;
    tries = 0;
    showLink("live");
    if (lost && $("[data-live]")) toast("Live again.");
    if (lost && !newest) htmx.trigger(document.body, "notices-changed");
    lost = 0;
    clearTimeout(lostNotice);
    mine.send(JSON.stringify(watched()));
  });
  mine.addEventListener("message", (event) => {
    heard = Date.now();
    take(JSON.parse(event.data));
  });
  mine.addEventListener("close", (event) => ended(mine, event.code));
}

function ended(mine, code) {
  if (mine !== socket) return;
  socket = null;
  if (code === 4401) { location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`; return; }
  if (!lost) { lost = Date.now(); lostNotice = setTimeout(() => showLink("lost"), 3000); }
  tries += 1;
  setTimeout(connect, Math.min(500 * 2 ** tries, 15000) * (0.7 + Math.random() * 0.6));
}

// A network that drops everything leaves the socket open: without a beat the page is not live, whatever it looks like.
setInterval(() => {
  if (!socket || Date.now() - heard < 3 * beat) return;
  const mine = socket;
  mine.close();
  ended(mine, 0);
}, 1000);

function take(told) {
  if (told.beat) { beat = told.beat * 1000; return; }
  const root = $("[data-live]");
  newest = told.version;
  if (told.notices) htmx.trigger(document.body, "notices-changed");
  if (!root) return;
  root.dataset.version = told.version;
  for (const [key, html] of Object.entries(told.rows || {})) change($(`[data-row="${key}"]`, root), html);
  for (const key of told.gone || []) leave($(`[data-row="${key}"]`, root), true);
  if (told.others) moved(told.others);
  if (told.others || told.gone || Object.keys(told.rows || {}).length) recount();
  if (told.object) soon(root);
  tick();
}

// The last of many changes must not be lost, and not each be asked for; nothing moves under an open dialog. What took the
// hub long to answer is not asked again at once.
let waiting = 0, asked = 0, took = 0;
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.requestConfig?.triggeringEvent?.type === "object-changed") took = Date.now() - asked;
});
function soon(root) {
  if (waiting) return;
  const pause = Number(root.dataset.pause) || 0;
  waiting = setTimeout(() => {
    waiting = 0;
    if ($("dialog[open]") && root.dataset.also) { soon(root); return; }
    asked = Date.now();
    htmx.trigger(document.body, "object-changed");
  }, Math.max(350, asked + Math.max(pause, 3 * took) - Date.now()));
}

// Counts follow too, every five to ten seconds, and only where somebody looks: they cost a query, rows do not.
let counted = 0;
function recount() {
  if (counted || !$("#strip")) return;
  counted = setTimeout(() => {
    counted = 0;
    if (document.hidden || !$("#strip")) return;
    htmx.ajax("GET", `/applications/strip${location.search}`, { target: "#strip", swap: "outerHTML" });
  }, 5000 + Math.random() * 5000);
}

// What is gone, or not for this person any more, stays where it was and can be chosen no more.
function leave(row, isGone) {
  if (!row || row.classList.contains("is-gone") === isGone) return;
  row.classList.toggle("is-gone", isGone);
  const pick = $("[data-pick]", row);
  if (!pick) return;
  pick.disabled = isGone;
  if (isGone && pick.checked) { pick.checked = false; pick.dispatchEvent(new Event("change", { bubbles: true })); }
}

function change(row, html) {
  if (!row) return;
  leave(row, false);
  if (row.tagName === "TR") {
    const body = document.createElement("tbody");
    body.innerHTML = `<tr>${html}</tr>`;
    const fresh = [...body.firstElementChild.children];
    const old = [...row.children].slice(2);
    fresh.forEach((cell, n) => {
      if (old[n] && old[n].innerHTML.replace(/>[^<]*<\/time>/g, "") !== cell.innerHTML.replace(/>[^<]*<\/time>/g, "")) {
        cell.classList.add("changed");
        old[n].replaceWith(cell);
      }
    });
  } else {
    const cells = $("[data-cells]", row);
    cells.innerHTML = html;
    cells.classList.add("changed");
  }
}

function moved(count) {
  const notice = $("[data-moved]");
  if (!notice) return;
  const total = (Number(notice.dataset.count) || 0) + count;
  notice.dataset.count = total;
  $("[data-moved-word]", notice).textContent = `${total} other application${total === 1 ? "" : "s"} changed; the order and the counts may differ.`;
  notice.hidden = false;
}

// ---------- selection ----------
const picked = () => $$("[data-row]").filter((row) => $("[data-pick]", row)?.checked);

function showPicked() {
  const bar = $("[data-bulk]");
  if (!bar) return;
  const rows = picked();
  bar.hidden = rows.length === 0;
  $("[data-bulk-count]", bar).textContent = `${rows.length} selected`;
  $$("[data-row]").forEach((row) => row.classList.toggle("selected", Boolean($("[data-pick]", row)?.checked)));
}

async function bulk(what) {
  const rows = picked();
  if (what === "sync") {
    const query = rows.map((row) => `row=${row.dataset.row}`).join("&");
    await open(`/applications/preview?${query}`);
    return;
  }
  let failed = 0, done = 0;
  const said = $("[data-bulk-count]");
  await Promise.all(rows.map((row) => call("GET", `/api/v1/applications/${row.dataset.name}?appNamespace=${row.dataset.namespace}&refresh=normal`).catch(() => { failed += 1; }).finally(() => { said.textContent = `${done += 1} of ${rows.length} looked at`; })));
  showPicked();
  toast(failed ? `${rows.length - failed} refreshed, ${failed} could not be` : `${rows.length} refreshed`, failed ? "bad" : "");
}

// Syncs one after the other, with an answer for each.
async function syncAll(dialog) {
  const progress = $("[data-progress]", dialog);
  progress.hidden = false;
  for (const item of $$("[data-sync-item]", dialog)) {
    const result = $("[data-result]", item);
    result.textContent = "asking…";
    try {
      await call("POST", `/api/v1/applications/${item.dataset.name}/sync?appNamespace=${item.dataset.namespace}`, { prune: $("[name=prune]", dialog).checked });
      result.textContent = "started";
    } catch (error) { result.textContent = error.message; result.classList.add("t-bad"); }
    progress.value += 1;
  }
  const button = $("[data-sync-all]", dialog);
  button.hidden = true;
}

// ---------- dialogs ----------
let opener = null;
export async function open(path) {
  opener = document.activeElement;
  const dialog = $("[data-dialog]");
  const answer = await fetch(path, { credentials: "same-origin", headers: { "HX-Request": "true" } });
  if (!answer.ok) { toast(answer.status === 404 ? "It is not there, or you may not." : `The hub answered ${answer.status}.`, "bad"); return; }
  dialog.innerHTML = await answer.text();
  htmx.process(dialog);
  dialog.showModal();
  $("[autofocus], input:not([type=hidden]), button", dialog)?.focus();
}

// ---------- palette ----------
function palette() {
  const box = $("[data-palette-box]");
  opener = document.activeElement;
  box.showModal();
  const input = $("input", box);
  input.value = "";
  input.focus();
  htmx.trigger(input, "palette");
}

function choose(box, step) {
  const options = $$("[role=option]", box);
  if (!options.length) return;
  const now = options.findIndex((o) => o.getAttribute("aria-selected") === "true");
  const next = (now + step + options.length) % options.length;
  options.forEach((o, n) => o.setAttribute("aria-selected", String(n === next)));
  options[next].scrollIntoView({ block: "nearest" });
}

// ---------- keys ----------
let cursor = -1, prefix = 0, marked = -1;
// Single letters can be turned off (WCAG 2.1.4): some people speak to their machine.
const letters = () => localStorage.getItem("letters") !== "off";

function keysHelp() {
  const dialog = $("[data-dialog]"), list = [["Ctrl K", "Search or jump; > actions, @ clusters, # projects"], ["/", "Search in this page"], ["G then A S F P U", "Applications, Sets, Fleet, Projects, Audit"], ["J K", "Next and previous row"], ["Enter", "Open the row"], ["X, Shift X", "Select, select up to here"], ["F", "Favourite"], ["V", "Table, tiles, summary"], ["S, R", "Sync…, refresh"], ["Arrows, Space", "In the drawing: move, fold"], ["Enter, N", "In the drawing: to what was looked for, to the next"], ["D L E M", "In the drawing: diff, logs, events, manifest"], ["Esc", "Close"]];
  const head = document.createElement("header"), title = document.createElement("h2"), body = document.createElement("div"), keys = document.createElement("dl"), label = document.createElement("label"), box = document.createElement("input"), foot = document.createElement("footer"), close = document.createElement("button");
  title.textContent = "Keys";
  head.append(title);
  body.className = "body";
  keys.className = "keys";
  for (const [names, words] of list) {
    const term = document.createElement("dt"), what = document.createElement("dd");
    for (const name of names.split(/, | then /)) { const key = document.createElement("kbd"); key.textContent = name; term.append(key, " "); }
    what.textContent = words;
    keys.append(term, what);
  }
  label.className = "check";
  box.type = "checkbox";
  box.checked = letters();
  box.addEventListener("change", () => localStorage.setItem("letters", box.checked ? "on" : "off"));
  label.append(box, "Single letters do something");
  close.type = "button";
  close.className = "btn";
  close.dataset.close = "";
  close.textContent = "Close";
  foot.append(close);
  body.append(keys, label);
  dialog.replaceChildren(head, body, foot);
  opener = document.activeElement;
  dialog.showModal();
}
function move(step) {
  const rows = $$("[data-row]");
  if (!rows.length) return;
  cursor = Math.min(rows.length - 1, Math.max(0, cursor + step));
  rows.forEach((row, n) => row.classList.toggle("cursor", n === cursor));
  rows[cursor].scrollIntoView({ block: "nearest" });
}

const places = { a: "/applications", s: "/sets", f: "/fleet", p: "/projects", u: "/audit" };
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); palette(); return; }
  const box = $("[data-palette-box]");
  if (box?.open) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); choose(box, event.key === "ArrowDown" ? 1 : -1); }
    if (event.key === "Enter") { const option = $("[aria-selected=true]", box); if (option) { event.preventDefault(); option.click(); } }
    return;
  }
  const pressed = event.target.closest?.("g[role=button]");
  if (pressed && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); htmx.trigger(pressed, "click"); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  if (event.key === "?") { keysHelp(); return; }
  if (!letters() && key !== "/") return;
  if (prefix && Date.now() - prefix < 1500 && places[key]) { location.href = places[key]; return; }
  prefix = key === "g" ? Date.now() : 0;
  const row = $$("[data-row]")[cursor];
  if (key === "/") { event.preventDefault(); $("[data-search]")?.focus(); }
  else if (key === "j" || event.key === "ArrowDown" && cursor >= 0) { event.preventDefault(); move(1); }
  else if (key === "k" || event.key === "ArrowUp" && cursor >= 0) { event.preventDefault(); move(-1); }
  else if (key === "x" && row) {
    const all = $$("[data-row]"), from = event.shiftKey && marked >= 0 ? Math.min(marked, cursor) : cursor, to = event.shiftKey && marked >= 0 ? Math.max(marked, cursor) : cursor;
    const on = event.shiftKey || !$("[data-pick]", row)?.checked;
    for (let n = from; n <= to; n += 1) { const pick = $("[data-pick]:enabled", all[n]); if (pick) pick.checked = on; }
    marked = cursor;
    showPicked();
  }
  else if (key === "v") { const views = $$("[aria-label=View] a.btn"), now = views.findIndex((view) => view.hasAttribute("aria-current")); views[(now + 1) % views.length]?.click(); }
  else if (event.key === "Enter" && row && document.activeElement === document.body) location.href = row.dataset.url;
  else if (key === "f" && row) $(".star button, .tilebar button", row)?.click();
  else if (key === "s") $("[data-key=sync]")?.click();
  else if (key === "r") $("[data-key=refresh]")?.click();
});

// ---------- clicks ----------
document.addEventListener("click", (event) => {
  const at = (query) => event.target.closest(query);
  let found;
  if ((found = at("[data-call]"))) { event.preventDefault(); ask(found); }
  else if ((found = at("[data-load]"))) { event.preventDefault(); open(found.dataset.load); }
  else if ((found = at("[data-open]"))) { opener = found; $(found.dataset.open).showModal(); }
  else if (at("[data-close]")) at("dialog").close();
  else if (at("[data-palette]")) palette();
  else if (at("[data-theme-switch]")) theme();
  else if (at("[data-bulk-clear]")) { $$("[data-pick], [data-pick-all]").forEach((pick) => { pick.checked = false; }); showPicked(); }
  else if ((found = at("[data-bulk-do]"))) bulk(found.dataset.bulkDo);
  else if (at("[data-sync-all]")) syncAll(at("dialog"));
  else if (at("[data-open-facets]")) $("#facets").classList.toggle("is-open");
  else if ((found = at("[data-clear]"))) {
    event.preventDefault();
    $$(`input[name="${found.dataset.clear}"]`).forEach((input) => { input.checked = false; });
    htmx.trigger($("#filters"), "submit");
  } else if (at("[data-fold]")) { const zone_ = $(at("[data-fold]").dataset.fold); zone_.hidden = !zone_.hidden; }
  else if (event.target.matches("dialog")) event.target.close();
  $$("details.menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-pick-all]")) $$("[data-pick]:enabled").forEach((pick) => { pick.checked = event.target.checked; });
  if (event.target.matches("[data-pick], [data-pick-all]")) showPicked();
});
document.addEventListener("close", (event) => { if (event.target.matches("dialog")) opener?.focus?.(); }, true);

// ---------- theme ----------
function theme() {
  const order = ["", "light", "dark"];
  const next = order[(order.indexOf(document.documentElement.dataset.theme || "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
  document.cookie = `theme=${next}; path=/; max-age=31536000; samesite=lax`;
  $("[data-theme-switch]").setAttribute("aria-label", `Theme: ${next || "as the system"}`);
}

// ---------- facets keep what people opened ----------
const openFacets = new Map();
document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("[data-facet]")) openFacets.set(event.target.dataset.facet, event.target.open);
}, true);
// Who reads by keyboard stays where it was when a part of the page is replaced.
let kept = { row: "", focus: "" };
const marks = ["id", "href", "data-load", "data-call", "data-act", "name"];
document.addEventListener("htmx:beforeSwap", (event) => {
  const at = document.activeElement, mark = marks.find((name) => at.getAttribute(name));
  kept = {
    row: $$("[data-row]")[cursor]?.dataset.url || "",
    focus: mark && event.detail.target.contains(at) ? `${at.tagName}[${mark}="${CSS.escape(at.getAttribute(mark))}"]` : "",
  };
});
document.addEventListener("htmx:afterSwap", () => {
  for (const [name, isOpen] of openFacets) { const facet = $(`[data-facet="${name}"]`); if (facet) facet.open = isOpen; }
  const rows = $$("[data-row]");
  cursor = kept.row ? rows.findIndex((row) => row.dataset.url === kept.row) : -1;
  rows[cursor]?.classList.add("cursor");
  if (kept.focus && document.activeElement === document.body) $(kept.focus)?.focus({ preventScroll: true });
  showPicked();
  tick();
  if (socket?.readyState === WebSocket.OPEN && $("[data-live]")) socket.send(JSON.stringify(watched()));
});
document.addEventListener("htmx:responseError", (event) => {
  const { elt, xhr } = event.detail;
  if (elt.matches("[data-live]") && xhr.status === 404) { gone(elt); return; }
  if (xhr.status === 404 && elt.getAttribute("hx-trigger")?.includes("every")) {
    // It would ask on and on, and each time be refused.
    const still = elt.cloneNode(true);
    still.removeAttribute("hx-get");
    elt.replaceWith(still);
  }
  toast(event.detail.xhr.status === 404 ? "It is not there any more, or you may not see it." : "The hub could not answer. What runs is not touched.", "bad");
});

// What the page was about is gone, or not for this person any more: it says so and stops asking.
function gone(root) {
  const box = document.createElement("div"), lead = document.createElement("p"), next = document.createElement("p"), link = document.createElement("a");
  box.className = "empty";
  lead.className = "ink";
  const [what, back, place] = { set: ["set", "/sets", "sets"], cluster: ["cluster", "/fleet", "fleet"], project: ["project", "/projects", "projects"] }[root.dataset.live] || ["application", "/applications", "applications"];
  lead.textContent = `This ${what} is gone, or you may not see it any more.`;
  link.href = back;
  link.className = "link";
  link.textContent = `Show the ${place}`;
  next.append(link);
  box.append(lead, next);
  root.replaceWith(box);
  const rest = root.getAttribute("hx-target");
  if (rest) $(rest)?.remove();
}
document.addEventListener("htmx:sendError", () => toast("The hub does not answer. What runs is not touched.", "bad"));

// An address can ask for what a button opens: ?do=sync
const wantedKey = new URLSearchParams(location.search).get("do");
if (wantedKey === "sync") addEventListener("load", () => $("[data-key=sync]")?.click());

setInterval(tick, 1000);
tick();
connect();
