// Several jobs on one chart.

import { Chart, smooth } from "./chart.js";

const series = JSON.parse(document.getElementById("compared").textContent);
const controls = document.getElementById("curve-controls");
const root = document.querySelector('[data-chart="compared"]');
const chart = new Chart(root, { empty: "None of them has done a step yet" });

function points(line) {
  if (controls.elements.shown.value === "valid_loss") return line.valid_loss;
  const weight = Number(controls.elements.smoothing.value);
  return weight ? smooth(line.mean, weight) : line.loss;
}

function draw() {
  const weight = Number(controls.elements.smoothing.value), valid = controls.elements.shown.value === "valid_loss";
  controls.querySelector("output").textContent = weight ? weight.toFixed(2) : "off";
  controls.elements.smoothing.disabled = valid;
  root.dataset.title = valid ? "Validation loss" : "Training loss";
  chart.empty = valid ? "None of them was evaluated" : "None of them has done a step yet";
  chart.show({
    log: controls.elements.log.checked,
    series: series.map((line, slot) => ({ name: line.label, slot, points: points(line), look: valid ? "dots" : "line" })),
  });
}

controls.addEventListener("input", draw);
controls.addEventListener("submit", (event) => event.preventDefault());
draw();
