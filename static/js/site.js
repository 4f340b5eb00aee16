// Copy buttons ([data-copy="text"] or [data-copy-from="#id"]), and a fresh page when a watched batch has ended.

async function copy(button) {
  const text = button.dataset.copy ?? document.querySelector(button.dataset.copyFrom).innerText;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area); // plain http on another host: browsers offer no clipboard there
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("bs-copied");
  setTimeout(() => button.classList.remove("bs-copied"), 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (button) copy(button);
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// Counts that are zero are not shown; live updates may change that.
new MutationObserver((changes) => {
  for (const { target } of changes) {
    const field = (target.nodeType === Node.TEXT_NODE ? target.parentElement : target)?.closest?.('[data-field="failed"], [data-field="incomplete"]');
    if (field) field.parentElement.toggleAttribute("data-none", field.textContent.trim() === "0");
  }
}).observe(document, { subtree: true, childList: true, characterData: true });

// Once its input is validated, a batch's page has lines to show.
document.addEventListener("DOMContentLoaded", () => {
  const progress = document.querySelector("#batch [data-batch]");
  if (!progress) return;
  new MutationObserver((changes) => {
    const validated = changes.some((change) => change.oldValue === "validating");
    if (!validated || progress.dataset.status !== "in_progress") return;
    htmx.ajax("GET", location.href, { target: "#lines", select: "#lines", swap: "outerHTML" });
  }).observe(progress, { attributeFilter: ["data-status"], attributeOldValue: true });
});

// The theme writes a chosen file's name into its own widget's text field. A plain input shows the name itself and has none.
document.addEventListener("DOMContentLoaded", () => {
  for (const input of document.querySelectorAll("label > input[type=file]")) input.hasChangeListener = true;
});

document.addEventListener("batch:final", () => {
  const busy = document.querySelector("input.action-select:checked, dialog[open]");
  if (!busy) setTimeout(() => location.reload(), 600);
});
