// A new fine-tuning: what the form as it stands will take, and what is wrong with it, while it is filled in.

import { bytes } from "./chart.js";

const WAIT = 250; // milliseconds after the last change
const form = document.getElementById("new-job"), panel = document.getElementById("told");
let asked = 0, waiting;

const part = (name) => panel.querySelector(`[data-told="${name}"]`);
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

function showCounts(told) {
  const about = told.exact === false ? "about " : "";
  part("examples").textContent = told.examples === undefined ? "–" : `${about}${told.examples.toLocaleString()}`;
  part("validation").textContent = told.validation === undefined ? "–" : told.validation ? told.validation.toLocaleString() : "none";
  part("held_out").textContent = told.held_out === undefined ? "–" : told.held_out ? told.held_out.toLocaleString() : "none";
  part("steps").textContent = told.steps === undefined ? "–" : `${about}${told.steps.toLocaleString()}`;
  part("reason").textContent = told.reason ?? "";
  part("warning").textContent = told.warning ?? "";
  part("warning").hidden = !told.warning;
}

function showMemory(memory) {
  const bar = part("bar"), list = part("parts");
  bar.replaceChildren();
  list.replaceChildren();
  part("sentence").textContent = memory?.sentence ?? "Choose a base model to see what training takes.";
  part("sentence").dataset.verdict = memory?.verdict ?? "";
  const most = Math.max(memory?.device_bytes ?? 0, memory?.total ?? 0);
  bar.parentElement.hidden = !memory?.total;
  if (!memory?.total) return;
  for (const { name, label, bytes: size } of memory.parts.filter((each) => each.bytes)) {
    bar.append(element("span", { "data-part": name, title: `${label}: ${bytes(size)}`, style: `width:${((100 * size) / most).toFixed(2)}%` }));
    list.append(element("div", {}, element("dt", { "data-part": name }, label), element("dd", {}, bytes(size))));
  }
  list.append(element("div", { class: "tr-total" }, element("dt", {}, "In all"), element("dd", {}, bytes(memory.total))));
  if (memory.device_bytes) list.append(element("div", {}, element("dt", {}, memory.device), element("dd", {}, bytes(memory.device_bytes))));
  const limit = bar.parentElement.querySelector(".tr-limit");
  limit.hidden = !memory.device_bytes || memory.total <= memory.device_bytes;
  limit.style.left = `${(100 * memory.device_bytes) / most}%`;
}

function showUsual(usual) {
  for (const [name, value] of Object.entries(usual)) {
    for (const field of form.querySelectorAll(`[name="o_${name}"]`)) {
      if (field.tagName === "INPUT" && field.type === "number") field.placeholder = value;
      const first = field.tagName === "SELECT" && field.options[0];
      if (first && first.value === "") first.textContent = `${value === true ? "yes" : value === false ? "no" : value} (usual)`;
    }
  }
}

function showProblems(problems) {
  for (const place of form.querySelectorAll("[data-problem]")) {
    const text = problems[place.dataset.problem] ?? "";
    place.textContent = text;
    place.hidden = !text;
    const field = form.querySelector(`[name="${place.dataset.for}"]`);
    if (text) field?.setAttribute("aria-invalid", "true");
    else field?.removeAttribute("aria-invalid");
  }
}

function offer() {
  const method = form.querySelector("[name=method]:checked")?.value, technique = form.querySelector("[name=technique]:checked")?.value;
  for (const field of form.querySelectorAll("[data-only]")) {
    const only = field.dataset.only.split(" ");
    field.hidden = only[0] === "adapter" ? technique === "full" : !only.includes(method);
  }
}

async function ask() {
  const mine = ++asked;
  panel.toggleAttribute("data-stale", true);
  const response = await fetch(form.getAttribute("data-estimate"), { method: "POST", body: new FormData(form) }).catch(() => null);
  if (mine !== asked) return;
  panel.removeAttribute("data-stale");
  if (!response?.ok) return;
  const told = await response.json();
  showCounts(told);
  showMemory(told.memory);
  showUsual(told.usual);
  showProblems(told.problems);
}

form.addEventListener("change", (event) => {
  if (!event.target.matches("[data-reload]")) return;
  const query = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && name !== "csrfmiddlewaretoken"));
  const method = event.target.selectedOptions[0].dataset.method; // of an export: it holds answers, or pairs
  if (method) query.set("method", method);
  location.search = query;
});
form.addEventListener("input", () => {
  offer();
  clearTimeout(waiting);
  waiting = setTimeout(ask, WAIT);
});
// Before the theme's own listener, which looks for a field that is not here.
document.addEventListener("change", (event) => {
  if (!event.target.matches(".tr-upload input") || !event.target.files.length) return;
  event.stopImmediatePropagation();
  event.target.form.submit();
}, true);
const told = JSON.parse(document.getElementById("told-now").textContent);
showCounts(told);
showMemory(told.memory);
offer();
