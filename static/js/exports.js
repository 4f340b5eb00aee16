// The pages of exports: how many rows the form as it stands would give, and how far an export has come.

const WAIT = 250; // milliseconds after the last change
let asked = 0;

function offer(form) {
  const format = form.querySelector("[name=format]:checked")?.closest(".bs-option");
  if (!format) return;
  const policies = [...form.querySelectorAll("[name=answers]")];
  for (const policy of policies) {
    const option = policy.closest(".bs-option");
    option.hidden = !format.dataset.kinds.split(" ").includes(option.dataset.kind);
    policy.disabled = option.hidden;
  }
  if (!policies.some((policy) => policy.checked && !policy.disabled)) {
    const usual = JSON.parse(document.getElementById("usual-answers").textContent)[format.querySelector("input").value];
    for (const policy of policies) policy.checked = policy.value === usual;
  }
  const hub = form.querySelector("[data-hub]");
  if (hub) {
    hub.hidden = format.querySelector("input").value !== "huggingface";
    for (const field of hub.querySelectorAll("input")) field.disabled = hub.hidden;
  }
}

function chosen(form) {
  const values = [...new FormData(form)].filter(([name, value]) => value && name !== "csrfmiddlewaretoken");
  return new URLSearchParams(values);
}

// `form.dataset` is its field of that name.
async function count(form) {
  const output = form.querySelector("[data-total]"), mine = ++asked;
  const response = await fetch(`${form.getAttribute("data-count")}?${chosen(form)}`).catch(() => null);
  const told = response?.ok ? await response.json() : { error: "The number of rows is not known now." };
  if (mine !== asked) return;
  const noun = told.pairs ? "pair" : "row";
  output.toggleAttribute("data-bad", Boolean(told.error) || told.rows === 0);
  output.textContent = told.error ?? (told.rows ? `${told.rows.toLocaleString()} ${noun}${told.rows === 1 ? "" : "s"} would be exported${told.rows === told.examples ? "" : `, of ${told.examples.toLocaleString()} examples`}` : "Nothing would be exported: no such example has such an answer");
  if (told.left_out) output.textContent += `. ${told.left_out}`;
}

function start(form) {
  let waiting;
  const changed = () => {
    offer(form);
    clearTimeout(waiting);
    waiting = setTimeout(() => count(form), WAIT);
  };
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-reload]")) {
      const query = chosen(form);
      query.delete("answers"); // what is usual depends on the run
      if (event.target.name === "dataset") for (const name of ["run", "split", "part"]) query.delete(name);
      location.search = query;
    } else changed();
  });
  form.addEventListener("click", (event) => {
    const drop = event.target.closest("[data-drop]");
    if (!drop) return;
    drop.closest(".bs-chip").remove();
    changed();
  });
  changed();
}

document.addEventListener("progress", (event) => {
  const root = event.target, progress = event.detail;
  if (root.dataset.watch?.split(" ")[0] !== "export") return;
  const show = (name, text) => { for (const field of root.querySelectorAll(`[data-field="${name}"]`)) field.textContent = text; };
  show("status", progress.status);
  show("label", progress.status_label);
  show("message", progress.message);
  show("rows", progress.total ? `${progress.completed.toLocaleString()} of ${progress.total.toLocaleString()} rows` : "");
  for (const bar of root.querySelectorAll("[data-bar=completed]")) bar.style.width = `${progress.total ? (100 * progress.completed) / progress.total : 0}%`;
  root.dataset.status = progress.status;
  if (progress.final && !document.querySelector("input.action-select:checked, dialog[open]")) setTimeout(() => location.reload(), 600);
});

const form = document.getElementById("new-export");
if (form) start(form);
