// The list of jobs: bars and losses that move.

import { figure } from "./chart.js";

document.addEventListener("progress", (event) => {
  const root = event.target, progress = event.detail;
  if (root.dataset.watch?.split(" ")[0] !== "training") return;
  const share = progress.total ? Math.min((100 * progress.completed) / progress.total, 100) : 0;
  for (const bar of root.querySelectorAll("[data-bar=completed]")) bar.style.width = `${share.toFixed(2)}%`;
  for (const bar of root.querySelectorAll("[role=progressbar]")) bar.setAttribute("aria-valuenow", Math.round(share));
  for (const pill of root.querySelectorAll("[data-field=status]")) {
    pill.textContent = progress.status.replaceAll("_", " ");
    pill.title = progress.status_label;
  }
  for (const field of root.querySelectorAll("[data-field=steps]")) {
    field.textContent = progress.total ? `${progress.completed.toLocaleString()} of ${progress.total.toLocaleString()} steps` : "";
  }
  root.dataset.status = progress.status;
  const loss = root.closest("tr")?.querySelector(".tr-spark [data-field=loss]");
  if (loss && progress.loss !== null) loss.textContent = figure(progress.loss);
});
