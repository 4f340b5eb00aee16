// Live progress: one socket for all elements with data-batch="batch_…", or data-watch="topic id" for other things,
// which pages give to what still runs. Inside such an element, [data-bar="completed|failed"] get their width in percent,
// and [data-field="completed|failed|total|status|tokens_per_second|eta|output_tokens"] their text.
// Each is told by a "progress" event with the state, and by "batch:final" at the end; both bubble.
// After each (re)connection the server sends the state as it is now, so nothing is lost in between.

const FIRST_WAIT = 500, LONGEST_WAIT = 15000; // milliseconds between two attempts
const LOGGED_OUT = 4401;
const AT_A_TIME = 100; // subscriptions that one socket takes
const watched = new Map(); // id -> its elements
const topics = new Map(); // id -> its topic
let attempts = 0;

function seconds(value) {
  if (value === null || value === undefined) return "–";
  const [h, m, s] = [Math.floor(value / 3600), Math.floor(value / 60) % 60, value % 60];
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
}

function fill(root, name, text, title) {
  for (const field of root.querySelectorAll(`[data-field="${name}"]`)) {
    field.textContent = text;
    if (title !== undefined) field.title = title;
  }
}

function show(root, progress) {
  for (const name of ["completed", "failed"]) {
    const share = progress.total ? (100 * progress[name]) / progress.total : 0;
    for (const bar of root.querySelectorAll(`[data-bar="${name}"]`)) bar.style.width = `${share.toFixed(2)}%`;
  }
  for (const name of ["completed", "failed", "total", "output_tokens"]) fill(root, name, progress[name].toLocaleString());
  fill(root, "status", progress.paused ? "paused" : progress.status.replace("_", " "), progress.status_label);
  fill(root, "tokens_per_second", progress.tokens_per_second.toLocaleString());
  fill(root, "message", progress.message);
  fill(root, "eta", progress.final ? "" : seconds(progress.eta_seconds));
  root.dataset.status = progress.paused ? "paused" : progress.status;
}

function receive(message) {
  const { progress } = JSON.parse(message.data);
  for (const root of (progress && watched.get(progress.id)) || []) {
    if (root.dataset.batch) show(root, progress);
    root.dispatchEvent(new CustomEvent("progress", { bubbles: true, detail: progress }));
    if (progress.final) root.dispatchEvent(new CustomEvent("batch:final", { bubbles: true, detail: progress }));
  }
  if (progress && progress.final) watched.delete(progress.id);
}

function disconnected(event) {
  const loggedOut = event.code === LOGGED_OUT;
  for (const roots of watched.values()) {
    for (const root of roots) fill(root, "status", loggedOut ? "log in again" : "reconnecting…");
  }
  if (loggedOut || !watched.size) return;
  const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempts++);
  setTimeout(connect, wait * (0.5 + Math.random() / 2));
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/progress`);
  socket.onopen = () => {
    const subscribe = [...watched.keys()].slice(0, AT_A_TIME).map((id) => [topics.get(id), id]);
    socket.send(JSON.stringify({ subscribe }));
  };
  socket.onmessage = (message) => {
    attempts = 0;
    receive(message);
  };
  socket.onclose = disconnected;
}

function start() {
  for (const root of document.querySelectorAll("[data-batch], [data-watch]")) {
    const [topic, id] = root.dataset.batch ? ["batch", root.dataset.batch] : root.dataset.watch.split(" ");
    topics.set(id, topic);
    watched.set(id, [...(watched.get(id) || []), root]);
  }
  if (watched.size) connect();
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
