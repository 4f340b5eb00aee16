// The pages of models: an install that goes on, benchmarks' charts, the playground.

const COLOURS = ["#4f6df5", "#e0733a", "#2a9d74", "#b14fd1", "#c9a21b", "#d1495b", "#3a9bdc", "#7a7f8c"];
const text = (parent, selector, value) => { for (const element of parent.querySelectorAll(selector)) element.textContent = value; };
const bytes = (count) => count >= 1e9 ? `${(count / 1e9).toFixed(2)} GB` : count >= 1e6 ? `${(count / 1e6).toFixed(1)} MB` : `${Math.round(count / 1e3)} kB`;
const element = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};

// Installs

function showInstall(root, progress) {
  if (progress.final) location.reload(); // the commit, the licence, and what can be done now
  const share = progress.bytes_total ? (100 * progress.bytes_done) / progress.bytes_total : 0;
  for (const bar of root.querySelectorAll("[data-bar=bytes]")) bar.style.width = `${share.toFixed(1)}%`;
  text(root, "[data-field=bytes]", progress.bytes_total ? `${bytes(progress.bytes_done)} of ${bytes(progress.bytes_total)}` : "");
  text(root, "[data-field=status]", progress.status);
  text(root, "[data-field=label]", progress.status_label);
  text(root, "[data-field=message]", progress.message);
  root.dataset.status = progress.status;
  const at = Date.now();
  const before = root.seen;
  if (!before || progress.bytes_done < before.bytes || at - before.at > 2000) {
    const speed = before && at > before.at ? ((progress.bytes_done - before.bytes) * 1000) / (at - before.at) : 0;
    const left = speed > 0 ? (progress.bytes_total - progress.bytes_done) / speed : 0;
    text(root, "[data-field=speed]", speed > 0 && progress.status === "downloading" ? `${bytes(speed)}/s, ${Math.ceil(left)} s left` : "");
    root.seen = { bytes: progress.bytes_done, at };
  }
  const steps = [...root.querySelectorAll("[data-step]")];
  const now = steps.findIndex((step) => step.dataset.step === progress.status);
  steps.forEach((step, index) => { step.dataset.state = index === now ? "now" : index < now ? "done" : "todo"; });
}

// A benchmark's page is short, and has new charts after each measurement.
function showBenchmark(root, progress) {
  if (progress.final || progress.completed !== Number(root.dataset.completed)) location.reload();
  root.dataset.status = progress.status;
  text(root, "[data-field=status]", progress.status);
  text(root, "[data-field=label]", progress.status_label);
  text(root, "[data-field=message]", progress.message);
}

document.addEventListener("progress", (event) => {
  const root = event.target;
  const topic = root.dataset.watch?.split(" ")[0];
  if (topic === "install") showInstall(root, event.detail);
  if (topic === "benchmark") showBenchmark(root, event.detail);
});

// Charts: [data-chart] holds the series of apps.models.benchmark.compare as JSON.

function drawCharts() {
  const dark = document.documentElement.classList.contains("dark");
  const ink = dark ? "#c9ccd3" : "#4b5563", grid = dark ? "#ffffff1f" : "#0000001a";
  for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
    const series = JSON.parse(document.getElementById(canvas.dataset.chart).textContent);
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, {
      type: "line",
      data: {
        datasets: series.map((line, index) => ({
          label: line.label, data: line.points, borderColor: COLOURS[index % COLOURS.length],
          backgroundColor: COLOURS[index % COLOURS.length], borderWidth: 2, pointRadius: 3, tension: 0.2,
        })),
      },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: "index", intersect: false },
        plugins: { legend: { display: series.length > 1, position: "bottom", labels: { color: ink, boxWidth: 12 } } },
        scales: {
          x: { type: "logarithmic", title: { display: true, text: "requests in flight", color: ink }, grid: { color: grid },
               ticks: { color: ink, callback: (value) => Number.isInteger(Math.log2(value)) ? value : "" } },
          y: { beginAtZero: true, ticks: { color: ink }, grid: { color: grid } },
        },
      },
    });
  }
}

// The playground

class Column {
  constructor(root) {
    this.root = root;
    this.output = root.querySelector(".bs-answer");
    this.figures = root.querySelector(".bs-figures");
    this.answer = "";
  }

  get model() { return this.root.querySelector("select").value; }

  say(figures, failed = false) {
    this.figures.textContent = figures;
    this.root.toggleAttribute("data-failed", failed);
  }

  async ask(url, body, signal) {
    this.answer = "";
    this.output.textContent = "";
    const began = performance.now();
    let first = 0, tokens = 0;
    const waiting = setInterval(() => { if (!first) this.say(`waits for the model, ${Math.round((performance.now() - began) / 1000)} s`); }, 1000);
    this.say("…");
    try {
      const response = await fetch(url, {
        method: "POST", signal, body: JSON.stringify({ ...body, model: this.model }),
        headers: { "Content-Type": "application/json", "X-CSRFToken": csrf() },
      });
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `The server answered ${response.status}.`);
      for await (const event of events(response.body)) {
        if (event.error) throw new Error(event.error.message ?? String(event.error));
        const piece = event.choices?.[0]?.delta?.content ?? "";
        if (piece) {
          first ||= performance.now();
          tokens += 1;
          this.answer += piece;
          this.output.textContent = this.answer;
          const seconds = (performance.now() - first) / 1000;
          this.say(`first token ${Math.round(first - began)} ms${tokens > 1 && seconds > 0 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : ""}`);
        }
        if (event.usage) {
          const seconds = (performance.now() - (first || began)) / 1000;
          const speed = event.usage.completion_tokens > 1 && seconds > 0 ? `, ${((event.usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
          this.say(`first token ${Math.round((first || performance.now()) - began)} ms${speed}, ${event.usage.prompt_tokens} tokens in, ${event.usage.completion_tokens} out`);
        }
      }
    } catch (error) {
      this.say(error.name === "AbortError" ? "stopped" : error.message, error.name !== "AbortError");
    } finally {
      clearInterval(waiting);
    }
  }
}

const csrf = () => document.querySelector("[name=csrfmiddlewaretoken]").value;

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function playground(root) {
  const setup = JSON.parse(document.getElementById("playground-setup").textContent);
  const form = root.querySelector("form"), grid = root.querySelector(".bs-answers");
  const template = document.getElementById("playground-column");
  const columns = [];
  let stop = null;

  function add(model) {
    if (columns.length >= setup.columns) return;
    const made = new Column(template.content.firstElementChild.cloneNode(true));
    const select = made.root.querySelector("select");
    for (const known of setup.models) select.append(element("option", { value: known.name, textContent: known.name }));
    if (model && setup.models.some((known) => known.name === model)) select.value = model;
    else if (setup.models[columns.length]) select.value = setup.models[columns.length].name;
    select.addEventListener("change", remember);
    made.root.querySelector("[data-remove]").addEventListener("click", () => {
      if (columns.length === 1) return;
      columns.splice(columns.indexOf(made), 1);
      made.root.remove();
      remember();
    });
    columns.push(made);
    grid.append(made.root);
    remember();
  }

  const values = () => Object.fromEntries([...new FormData(form)].filter(([name]) => name !== "csrfmiddlewaretoken"));

  function remember() {
    const query = new URLSearchParams();
    for (const column of columns) query.append("model", column.model);
    for (const [name, value] of Object.entries(values())) if (value && name !== "project") query.set(name, value);
    history.replaceState(null, "", `?${query}`);
    root.querySelector("[data-add]").hidden = columns.length >= setup.columns || columns.length >= setup.models.length;
    samples();
  }

  function samples() {
    const chips = root.querySelector("[data-samples]");
    const known = setup.models.find((model) => model.name === columns[0]?.model);
    chips.replaceChildren(...(known?.samples ?? []).map((sample) => element("button", {
      type: "button", className: "bs-chip", textContent: sample, title: sample,
      onclick: () => { form.elements.prompt.value = sample; remember(); },
    })));
  }

  function curl() {
    const asked = values(), parameters = {};
    for (const name of ["temperature", "top_p", "max_tokens", "seed"]) if (asked[name]) parameters[name] = Number(asked[name]);
    if (asked.stop) parameters.stop = asked.stop.split("\n").filter(Boolean);
    const messages = [...(asked.system?.trim() ? [{ role: "system", content: asked.system }] : []), { role: "user", content: asked.prompt }];
    const body = JSON.stringify({ model: columns[0].model, messages, ...parameters }, null, 1).replaceAll("'", "'\\''");
    return `curl ${setup.api}/chat/completions \\\n  -H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" \\\n  -d '${body}'`;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    stop?.abort();
    stop = new AbortController();
    remember();
    root.toggleAttribute("data-asking", true);
    await Promise.all(columns.map((column) => column.ask(setup.urls.ask, values(), stop.signal)));
    root.toggleAttribute("data-asking", false);
  });
  form.addEventListener("change", remember);
  root.querySelector("[data-stop]").addEventListener("click", () => stop?.abort());
  root.querySelector("[data-add]").addEventListener("click", () => add());
  root.querySelector("[data-curl]").addEventListener("click", (event) => { event.currentTarget.dataset.copy = curl(); }, true);
  root.querySelector("[data-save]").addEventListener("click", async () => {
    const name = prompt("Name of the set, new or existing", setup.sets[0]?.name ?? "");
    if (!name) return;
    const answers = Object.fromEntries(columns.filter((column) => column.answer).map((column) => [column.model, column.answer]));
    const response = await fetch(setup.urls.save, {
      method: "POST", body: JSON.stringify({ ...values(), set: name, answers }),
      headers: { "Content-Type": "application/json", "X-CSRFToken": csrf() },
    });
    const saved = await response.json();
    const note = root.querySelector("[data-saved]");
    note.replaceChildren(response.ok ? element("a", { className: "bs-link", href: saved.url, textContent: `Saved in ${name}` }) : saved.error);
  });

  const query = new URLSearchParams(location.search);
  for (const [name, value] of query) if (form.elements[name] && name !== "model") form.elements[name].value = value;
  const wanted = query.getAll("model").slice(0, setup.columns);
  for (const model of wanted.length ? wanted : [undefined]) add(model);
}

document.addEventListener("DOMContentLoaded", () => {
  drawCharts();
  new MutationObserver(drawCharts).observe(document.documentElement, { attributeFilter: ["class"] });
  const root = document.getElementById("playground");
  if (root) playground(root);
});
