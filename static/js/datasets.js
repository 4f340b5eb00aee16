// The pages of datasets: how far imports and searches are, the live preview of an upload, and ticked examples.

const WAIT = 300; // milliseconds after the last key
const UNITS = ["bytes", "KB", "MB", "GB"];
let asked = 0;

function size(bytes) {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}

document.addEventListener("progress", (event) => {
  const root = event.target, progress = event.detail, topic = root.dataset.watch?.split(" ")[0];
  if (topic !== "import" && topic !== "duplicates") return;
  const amount = topic === "import" ? size : (count) => count.toLocaleString();
  const show = (name, text) => { for (const field of root.querySelectorAll(`[data-field="${name}"]`)) field.textContent = text; };
  show("status", progress.status);
  show("message", progress.message);
  show("amount", progress.total ? `${amount(progress.completed)} of ${amount(progress.total)}` : "");
  for (const bar of root.querySelectorAll("[data-bar=completed]")) bar.style.width = `${progress.total ? (100 * progress.completed) / progress.total : 0}%`;
  root.dataset.status = progress.status;
});

// What the form as it stands makes of the first rows, as HTML of the server's.
async function preview(form) {
  const place = document.getElementById("preview"), mine = ++asked;
  place.toggleAttribute("data-stale", true);
  const response = await fetch(form.dataset.preview, { method: "POST", body: new FormData(form) }).catch(() => null);
  if (mine !== asked) return;
  place.toggleAttribute("data-stale", false);
  if (response?.ok) place.innerHTML = await response.text();
  else place.textContent = "The preview is not there now. Try again in a moment.";
}

const form = document.getElementById("import-form");
if (form) {
  let waiting;
  const columns = form.querySelector('[data-for="columns"]');
  form.addEventListener("input", (event) => {
    if (event.target.type === "checkbox") return;
    columns.hidden = form.elements.shape.value !== "columns";
    clearTimeout(waiting);
    waiting = setTimeout(() => preview(form), WAIT);
  });
}

document.addEventListener("change", (event) => {
  const ticked = event.target.closest('input[name="number"]')?.form;
  if (ticked) ticked.querySelector("[data-needs-ticks]").disabled = !ticked.querySelector('input[name="number"]:checked');
});
