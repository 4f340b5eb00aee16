// The pages of runs: what a new run would take, and how far one has come, in each of its columns and judges.

(() => {
const WAIT = 300; // milliseconds after the last change
let asked = 0;

const fill = (root, name, text) => { for (const field of root.querySelectorAll(`[data-field="${name}"]`)) field.textContent = text; };
const spaced = (word) => word.replaceAll("_", " ");

function left(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
}

function bars(root, part, completed) {
  for (const [name, value] of [["completed", completed], ["failed", part.failed]]) {
    const share = part.total ? (100 * value) / part.total : 0;
    for (const bar of root.querySelectorAll(`[data-bar="${name}"]`)) bar.style.width = `${share.toFixed(2)}%`;
  }
  for (const bar of root.querySelectorAll("[role=progressbar]")) bar.setAttribute("aria-valuenow", completed);
}

function part(root, told, completed) {
  bars(root, told, completed);
  for (const name of ["answered", "completed", "failed", "incomplete", "blank", "total", "input_tokens", "output_tokens"]) {
    if (name in told) fill(root, name, told[name].toLocaleString());
  }
  fill(root, "message", told.message ?? "");
  for (const pill of root.querySelectorAll("[data-field=status]")) {
    pill.textContent = spaced(told.status);
    pill.title = told.status_label;
  }
  root.dataset.status = told.status;
}

function show(root, progress) {
  const columns = root.querySelectorAll("[data-column]"), judges = root.querySelectorAll("[data-judge]");
  const onPage = root.id === "run";
  if (onPage && (columns.length !== progress.columns.length || judges.length !== progress.judges.length)) {
    if (!typed()) location.reload(); // somebody added a model or a judge meanwhile
    return;
  }
  for (const column of progress.columns) {
    const at = root.querySelector(`[data-column="${column.id}"]`);
    if (at) part(at, column, column.answered);
  }
  for (const judge of progress.judges) {
    const at = root.querySelector(`[data-judge="${judge.id}"]`);
    if (at) part(at, judge, judge.completed);
  }
  const overall = root.querySelector("[data-overall]");
  if (!overall) return;
  part(overall, progress, progress.completed);
  fill(overall, "label", progress.status_label);
  fill(overall, "tokens_per_second", progress.tokens_per_second.toLocaleString());
  fill(overall, "eta", progress.final ? "" : left(progress.eta_seconds));
  root.dataset.status = progress.status;
  if (progress.completed) for (const link of root.querySelectorAll("[data-answered]")) link.hidden = false;
}

// What somebody has begun to write must not be lost to a fresh page.
function typed() {
  return [...document.querySelectorAll("form[data-typed] :is(textarea, input[type=file], input[name=label])")].some((field) => field.value);
}

document.addEventListener("progress", (event) => {
  if (event.target.dataset.watch?.split(" ")[0] === "run") show(event.target, event.detail);
});
document.getElementById("run")?.addEventListener("batch:final", (event) => { if (typed()) event.stopPropagation(); });

// A new run

// `form.dataset` is its field of that name.
async function estimate(form) {
  const output = form.querySelector("[data-estimated]"), mine = ++asked;
  output.toggleAttribute("data-stale", true);
  const response = await fetch(form.getAttribute("data-estimate"), { method: "POST", body: new FormData(form) }).catch(() => null);
  if (mine !== asked) return;
  output.removeAttribute("data-stale");
  if (response?.ok) output.innerHTML = await response.text();
}

function start(form) {
  let waiting;
  form.addEventListener("change", (event) => {
    if (!event.target.matches("[data-reload]")) return;
    const values = [...new FormData(form)].filter(([name, value]) => value && name !== "csrfmiddlewaretoken");
    const query = new URLSearchParams(values);
    query.delete("split");
    if (event.target.name === "dataset") query.delete("version");
    location.search = query;
  });
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => estimate(form), WAIT);
  });
  form.addEventListener("submit", () => { asked += 1; });
  estimate(form);
}

const form = document.getElementById("new-run");
if (form) start(form);
})();
