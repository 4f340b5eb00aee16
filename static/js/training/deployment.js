// The page of one deployment: prompts that are answered are counted; another status has other buttons, and more to show.

document.addEventListener("progress", (event) => {
  const root = document.getElementById("deployment"), progress = event.detail;
  if (event.target !== root) return;
  const shown = root.querySelector("[data-field=total]");
  if (progress.status !== root.dataset.status || Number(shown?.textContent ?? 0) !== progress.total) return location.reload();
  root.querySelector("[data-field=message]").textContent = progress.message;
  if (!shown) return; // nothing is asked yet
  root.querySelector("[data-field=completed]").textContent = progress.completed;
  root.querySelector("[data-bar=completed]").style.width = `${progress.total ? (100 * progress.completed) / progress.total : 0}%`;
  root.querySelector("[role=progressbar]").setAttribute("aria-valuenow", progress.completed);
});
