// Training straight from stars: how many examples that would be.

const WAIT = 250; // milliseconds after the last change
const form = document.getElementById("stars");
let asked = 0, waiting;

const chosen = () => new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && name !== "csrfmiddlewaretoken"));

async function count() {
  const output = form.querySelector("[data-total]"), mine = ++asked;
  const response = await fetch(`${form.getAttribute("data-count")}?${chosen()}`).catch(() => null);
  const told = response?.ok ? await response.json() : { error: "The number of examples is not known now." };
  if (mine !== asked) return;
  output.toggleAttribute("data-bad", Boolean(told.error) || told.rows === 0);
  output.textContent = told.error ?? (told.rows ? `${told.rows.toLocaleString()} example${told.rows === 1 ? "" : "s"} to learn from` : "No example has a gold star there yet");
}

form.addEventListener("change", (event) => {
  if (event.target.matches("[data-reload]")) {
    const query = chosen();
    for (const name of ["run", "split", "part"]) query.delete(name);
    location.search = query;
    return;
  }
  clearTimeout(waiting);
  waiting = setTimeout(count, WAIT);
});
if (form.elements.dataset.value) count();
