// The page of one job: its curves, drawn anew as steps come in, and what stands around them.

import { Chart, bytes, figure, smooth } from "./chart.js";

const ROWS = 60; // of the table, about
const TOO_MANY = 1500; // points of a curve, after which the server is asked for fewer
const PAUSE = 700; // milliseconds between two questions, at least
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const both = (curve) => [["training", curve], ["validation", `valid_${curve}`]];
const OTHERS = [
  ["rewards", [["good", "reward_chosen"], ["bad", "reward_rejected"]], {}],
  ["margin", both("reward_margin"), {}],
  ["reward_accuracy", both("reward_accuracy"), { format: percent }],
  ["kl", both("kl"), { zero: true }],
  ["accuracy", both("token_accuracy"), { format: percent }],
  ["rate", [["learning rate", "learning_rate"]], { format: (value) => (value ? value.toExponential(1).replace("e+", "e") : "0"), zero: true }],
  ["norm", [["gradient norm", "grad_norm"]], { zero: true }],
  ["speed", [["tokens/s", "tokens_per_second"]], { zero: true }],
  ["memory", [["memory", "memory_bytes"]], { format: bytes, zero: true }],
];

const root = document.getElementById("job");
const told = JSON.parse(document.getElementById("job-points").textContent);
const controls = document.getElementById("curve-controls");
const remember = (name, value) => { try { localStorage.setItem(`training.${name}`, value); } catch { /* it is only kept for this page then */ } };
const recall = (name) => { try { return localStorage.getItem(`training.${name}`); } catch { return null; } };
const fill = (name, text) => { for (const field of root.querySelectorAll(`[data-field="${name}"]`)) field.textContent = text; };

let curves = told.curves, mean = told.mean, marks = told.checkpoints;
let last = told.last, asking = false, again = false;

const going = root.dataset.final !== "1";
const loss = new Chart(document.querySelector('[data-chart="loss"]'), { empty: going ? "Waits for the first step" : "No step was done" });
const charted = OTHERS.filter(([name]) => document.querySelector(`[data-chart="${name}"]`)); // those of the method
const others = charted.map(([name, lines, options]) => {
  const chart = new Chart(document.querySelector(`[data-chart="${name}"]`), options);
  return () => chart.show({ series: lines.map(([label, curve], slot) => ({ name: label, slot, points: curves[curve] ?? [], look: curve.startsWith("valid") ? "dots" : "line" })) });
});

function draw() {
  const weight = Number(controls.elements.smoothing.value), log = controls.elements.log.checked;
  controls.querySelector("output").textContent = weight ? weight.toFixed(2) : "off";
  const smoothed = weight ? [{ name: "smoothed", slot: 0, points: smooth(mean, weight) }] : [];
  loss.show({
    log, marks,
    series: [
      { name: "training", slot: 0, points: curves.loss ?? [], look: weight ? "thin" : "line" },
      ...smoothed,
      { name: "validation", slot: 1, points: curves.valid_loss ?? [], look: "dots" },
    ],
  });
  for (const show of others) show();
  table();
}

// The same figures as a table; of many steps, some.
function table() {
  const details = document.getElementById("curve-table");
  if (!details.open) return;
  const columns = [...details.querySelectorAll("[data-curve]")].map((head) => head.dataset.curve);
  const maps = columns.map((name) => new Map(curves[name] ?? []));
  const steps = [...new Set(columns.flatMap((name) => (curves[name] ?? []).map(([step]) => step)))].sort((a, b) => a - b);
  const every = Math.ceil(steps.length / ROWS);
  const kept = steps.filter((step, index) => index % every === 0 || index === steps.length - 1 || (curves.valid_loss ?? []).some(([at]) => at === step) || marks.some((mark) => mark.step === step));
  const body = details.querySelector("tbody");
  body.replaceChildren(...kept.map((step) => {
    const line = document.createElement("tr");
    const mark = marks.find((each) => each.step === step);
    line.append(cell(`${step.toLocaleString()}${mark ? (mark.best ? " ★" : " ▾") : ""}`), ...maps.map((map) => cell(figure(map.get(step)))));
    return line;
  }));
}

function cell(text) {
  return Object.assign(document.createElement("td"), { className: "bs-number", textContent: text });
}

// New points take the place of those that are there from their first step on: a step may have been done again.
function join(fresh, from) {
  for (const [name, points] of Object.entries(fresh.curves)) {
    curves[name] = [...(curves[name] ?? []).filter(([step]) => step < from), ...points];
  }
  mean = [...mean.filter(([step]) => step < from), ...fresh.mean];
  marks = fresh.checkpoints;
  last = Math.max(fresh.last, from);
}

async function ask(from) {
  if (asking) { again = true; return; }
  asking = true;
  const response = await fetch(`${root.dataset.points}?after=${from}`).catch(() => null);
  if (response?.ok) {
    const fresh = await response.json();
    if (from) join(fresh, from);
    else [curves, mean, marks, last] = [fresh.curves, fresh.mean, fresh.checkpoints, fresh.last];
    draw();
  }
  setTimeout(() => {
    asking = false;
    if (!again) return;
    again = false;
    next();
  }, PAUSE);
}

function next() {
  const count = curves.loss?.length ?? 0;
  ask(count > TOO_MANY || Number(root.dataset.completed) < last ? 0 : last);
}

function left(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
}

function show(progress) {
  if (!progress.final && progress.status !== root.dataset.status) return location.reload(); // other buttons
  root.dataset.completed = progress.completed;
  const share = progress.total ? Math.min((100 * progress.completed) / progress.total, 100) : 0;
  for (const bar of root.querySelectorAll("[data-bar=completed]")) bar.style.width = `${share.toFixed(2)}%`;
  for (const bar of root.querySelectorAll("[role=progressbar]")) bar.setAttribute("aria-valuenow", Math.round(share));
  fill("message", progress.message);
  fill("completed", progress.completed.toLocaleString());
  fill("total", progress.total ? progress.total.toLocaleString() : "–");
  fill("loss", figure(progress.loss));
  fill("valid_loss", figure(progress.valid_loss));
  fill("epoch", progress.epoch === null ? "–" : progress.epoch.toFixed(2));
  fill("tokens_per_second", progress.tokens_per_second ? Math.round(progress.tokens_per_second).toLocaleString() : "–");
  fill("memory", progress.memory_bytes ? bytes(progress.memory_bytes) : "–");
  fill("eta", progress.estimated_finish ? left(Math.max(Math.round(progress.estimated_finish - Date.now() / 1000), 0)) : "–");
  if (Number(root.dataset.checkpoints) !== progress.checkpoints) {
    root.dataset.checkpoints = progress.checkpoints;
    refresh();
  }
  next();
}

// The parts of the page that are lists of rows come from the server as they are.
async function refresh() {
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["checkpoints", "events", "settings"]) {
    const fresh = page.getElementById(id), shown = document.getElementById(id);
    if (fresh && shown && !shown.querySelector("details[open]")) shown.replaceWith(fresh);
  }
}

document.addEventListener("progress", (event) => { if (event.target === root) show(event.detail); });
controls.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("curve-table").addEventListener("toggle", table);
for (const name of ["smoothing", "log"]) {
  const field = controls.elements[name], kept = recall(name);
  if (kept !== null) field.type === "checkbox" ? (field.checked = kept === "1") : (field.value = kept);
  field.addEventListener("input", () => {
    remember(name, field.type === "checkbox" ? Number(field.checked) : field.value);
    draw();
  });
}
draw();
