// Live pages: one WebSocket delivers changes; the page shows when it is not connected.
import { $, $$, need } from "./dom.js";
import { changeRows } from "./rows.js";
import { tick } from "./times.js";
import { toast } from "./toast.js";

/**
 * @typedef {object} Message
 * @property {number} [beat] seconds between two heartbeats
 * @property {number} version
 * @property {boolean} [notices]
 * @property {Record<string, string>} [rows]
 * @property {number[]} [gone]
 * @property {number} [others]
 * @property {boolean} [object]
 */

const SIGNED_OUT = 4401;

/** @type {WebSocket | null} */
let socket = null;
let tries = 0;
let lost = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let lostNotice;
let heard = 0;
let beat = 15000;
let newest = 0;

function subscription() {
  const root = $("[data-live]");
  // Every page of a signed-in person subscribes to notices and to the end of the session.
  if (!root) {
    const nothing = { page: "", version: newest, rows: [], view: "table", also: [] };
    return $("#notices") ? nothing : null;
  }
  const { live, version, view = "table", also = "" } = root.dataset;
  return {
    page: live,
    version: Number(version),
    rows: $$("[data-row]", root).map((row) => Number(row.dataset.row)),
    view: view || "table",
    also: also.split(" ").filter(Boolean),
  };
}

/** Tells the hub which rows the page shows now. */
export function subscribeAgain() {
  if (socket?.readyState === WebSocket.OPEN && $("[data-live]")) {
    socket.send(JSON.stringify(subscription()));
  }
}

/** Connects, and reconnects whenever the connection is lost. */
export function connect() {
  if (!subscription()) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = new WebSocket(`${scheme}://${location.host}/live`);
  socket = mine;
  heard = Date.now();
  mine.addEventListener("open", () => {
    if (mine === socket) opened(mine);
  });
  mine.addEventListener("message", (event) => {
    heard = Date.now();
    take(JSON.parse(event.data));
  });
  mine.addEventListener("close", (event) => ended(mine, event.code));
}

/** @param {WebSocket} mine */
function opened(mine) {
  tries = 0;
  showLink("live");
  if (lost && $("[data-live]")) toast("Live again.");
  if (lost && !newest) htmx.trigger(document.body, "notices-changed");
  lost = 0;
  clearTimeout(lostNotice);
  mine.send(JSON.stringify(subscription()));
}

/**
 * @param {WebSocket} mine
 * @param {number} code
 */
function ended(mine, code) {
  if (mine !== socket) return;
  socket = null;
  if (code === SIGNED_OUT) {
    const here = encodeURIComponent(location.pathname + location.search);
    location.href = `/login?next=${here}`;
    return;
  }
  if (!lost) {
    lost = Date.now();
    lostNotice = setTimeout(() => showLink("lost"), 3000);
  }
  tries += 1;
  setTimeout(connect, Math.min(500 * 2 ** tries, 15000) * (0.7 + Math.random() * 0.6));
}

/** @param {"live" | "lost"} state */
function showLink(state) {
  const box = $("[data-link]");
  if (!box || !$("[data-live]")) return;
  box.hidden = false;
  box.dataset.state = state;
  box.classList.toggle("lost", state !== "live");
  need("[data-link-word]", box).textContent = state === "live" ? "Live" : "Not live";
}

// A network that drops all packets leaves the socket open: without a heartbeat, a page is not live.
setInterval(() => {
  if (!socket || Date.now() - heard < 3 * beat) return;
  const mine = socket;
  mine.close();
  ended(mine, 0);
}, 1000);

/** @param {Message} message */
function take(message) {
  if (message.beat) {
    beat = message.beat * 1000;
    return;
  }
  const root = $("[data-live]");
  newest = message.version;
  if (message.notices) htmx.trigger(document.body, "notices-changed");
  if (!root) return;
  root.dataset.version = String(message.version);
  changeRows(root, message);
  if (message.object) refreshSoon(root);
  tick();
}

// Debounced: at least one reload after the last change, none while a dialog is open, and fewer when
// the hub is slow to respond.
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;
let asked = 0;
let took = 0;
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.requestConfig?.triggeringEvent?.type === "object-changed") {
    took = Date.now() - asked;
  }
});

/** @param {HTMLElement} root */
function refreshSoon(root) {
  if (waiting) return;
  const pause = Number(root.dataset.pause) || 0;
  const refresh = () => {
    waiting = undefined;
    if ($("dialog[open]") && root.dataset.also) {
      refreshSoon(root);
      return;
    }
    asked = Date.now();
    htmx.trigger(document.body, "object-changed");
  };
  waiting = setTimeout(refresh, Math.max(350, asked + Math.max(pause, 3 * took) - Date.now()));
}
