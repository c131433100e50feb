// Logs of pods: followed until the panel shows something else.
import { $, $$ } from "./app.js";

let logs = null;


async function readLogs(box) {
  logs?.abort();
  const stop = logs = new AbortController();
  const lines = $("[data-logs-lines]", box), said = $("[data-logs-said]", box);
  const query = new URLSearchParams({ tailLines: $("[name=tailLines]", box).value, follow: String($("[name=follow]", box).checked) });
  if ($("[name=previous]", box).checked) query.set("previous", "true");
  for (const name of ["podName", "container"]) if ($(`[name=${name}]`, box)?.value) query.set(name, $(`[name=${name}]`, box).value);
  if ($("[name=filter]", box).value) query.set("filter", $("[name=filter]", box).value);
  lines.textContent = "";
  said.textContent = "Asking the cluster…";
  try {
    const answer = await fetch(`${box.dataset.logs}&${query}`, { credentials: "same-origin", signal: stop.signal });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || `The hub answered ${answer.status}.`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    said.textContent = "No lines yet.";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim()) show(lines, JSON.parse(part).result, said);
      while (lines.childElementCount > 5000) lines.firstElementChild.remove();
      lines.scrollTop = lines.scrollHeight;
    }
    if (!lines.childElementCount) said.textContent = "There are no lines.";
  } catch (error) {
    if (error.name !== "AbortError") said.textContent = error.message;
  }
}

function show(lines, entry, said) {
  if (!entry || entry.content === undefined || entry.last) return;
  said.textContent = "";
  const line = document.createElement("span");
  line.className = "l";
  line.title = `${entry.podName || ""} ${entry.timeStampStr || ""}`.trim();
  const several = $("[name=podName]")?.value === "", times = $("[name=times]")?.checked;
  line.textContent = `${times ? `${entry.timeStampStr || ""} ` : ""}${several ? `[${(entry.podName || "").slice(-11)}] ` : ""}${entry.content}`;
  lines.append(line);
}

document.addEventListener("htmx:afterSwap", () => {
  const box = $("[data-logs]");
  if (box && !box.dataset.read) { box.dataset.read = "1"; readLogs(box); } else if (!box) { logs?.abort(); logs = null; }
});
document.addEventListener("change", (event) => { const box = event.target.closest("[data-logs]"); if (box) readLogs(box); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-logs-save]");
  if (!button) return;
  const text = $$("[data-logs-lines] .l").map((line) => line.textContent).join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = "logs.txt";
  link.click();
  URL.revokeObjectURL(link.href);
});
