// One key, one action, one button with the key on it.
//
// No key works while somebody types, while a decision is being saved, or while rows load: a key that is held down must
// not decide about what nobody has seen. A key that repeats only moves.

import { aside, fade, row, step, turnFace, typing } from "./grid.js";
import { compared, done, prefer, rate, reject, star, thumb, undo } from "./decide.js";
import { edit, note, tag } from "./editors.js";
import { busy, root, setup } from "./server.js";
import { changed, go, nextOfQueue, turn } from "./pages.js";
import { details, help, helpOpen } from "./details.js";

const PULSE = 160; // milliseconds
const HEIGHTS = ["s", "m", "l"];
const RENDERINGS = ["plain", "markdown", "json"];
const blind = () => setup().blind;

async function move(by) {
  if (step(by)) return;
  if (setup().queue) return;
  await turn(by > 0 ? "next" : "previous", { choose: by > 0 ? "first" : "last" });
}

async function saveAndNext() {
  if (!row() || !(await done())) return;
  if (setup().queue) await nextOfQueue();
  else await move(1);
}

function height() {
  const next = HEIGHTS[(HEIGHTS.indexOf(root().dataset.height) + 1) % HEIGHTS.length];
  root().dataset.height = next;
  history.replaceState(null, "", changed({ height: next }));
  for (const link of document.querySelectorAll("a[data-go][href^='?']")) {
    const query = new URLSearchParams(link.getAttribute("href"));
    query.set("height", next);
    link.setAttribute("href", `?${query}`);
  }
  const field = document.querySelector("#filters [name=height]");
  if (field) field.value = next;
  const button = document.querySelector("[data-key=s]");
  button.querySelector("[data-rows]").textContent = next.toUpperCase();
  button.setAttribute("aria-label", `Row height: ${next.toUpperCase()}`);
  fade();
  row()?.scrollIntoView({ block: "nearest" });
}

function rendering() {
  const now = new URLSearchParams(location.search).get("render") ?? "plain";
  return show({ render: RENDERINGS[(RENDERINGS.indexOf(now) + 1) % RENDERINGS.length] });
}

function show(values) {
  return setup().queue ? location.assign(changed(values)) : go(changed(values));
}

const toggled = (name) => (new URLSearchParams(location.search).get(name) === "1" ? null : "1");

const MOVES = {
  j: () => move(1), k: () => move(-1), h: () => aside(-1), l: () => aside(1), "[": () => turnFace(-1), "]": () => turnFace(1),
};
const ACTIONS = {
  ...MOVES,
  g: star, e: edit, n: note, r: reject, u: () => undo(), x: () => prefer("neither"), a: () => prefer("left"), b: () => prefer("right"),
  "+": () => thumb("up"), "-": () => thumb("down"),
  t: () => (blind() ? prefer("tie") : tag()), tie: () => prefer("tie"),
  d: () => !blind() && show({ diff: toggled("diff") }), m: rendering, s: height,
  v: () => location.assign(changed({ blind: toggled("blind"), after: null, diff: null, column: null, column_is: null })),
  "/": () => document.querySelector("#filters [name=text]").select(), "?": help, "Ctrl+Enter": saveAndNext, Enter: details,
  ...Object.fromEntries([0, 1, 2, 3, 4, 5].map((value) => [String(value), () => rate(value)])),
};
const OPEN_ONLY = new Set(["g", "+", "-", "e", "d", "0", "1", "2", "3", "4", "5", "tie", "Enter"]); // not in blind mode
const SAME = { arrowdown: "j", arrowup: "k", arrowleft: "h", arrowright: "l", "=": "+", "_": "-" };

function nameOf(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return "Ctrl+Enter";
  if (event.ctrlKey || event.metaKey || event.altKey) return "";
  if (event.key === "Enter") return event.target.matches?.(".rv-cell") ? "Enter" : "";
  const key = event.key.toLowerCase();
  return SAME[key] ?? key;
}

function act(name) {
  if (busy() || (blind() && OPEN_ONLY.has(name))) return;
  pulse(name);
  ACTIONS[name]();
}

function pulse(name) {
  for (const button of document.querySelectorAll(`[data-key="${CSS.escape(name)}"]`)) {
    button.classList.add("rv-pulse");
    setTimeout(() => button.classList.remove("rv-pulse"), PULSE);
  }
}

/** Tab goes from cell to cell, and at the edge out of the matrix as everywhere. */
function tab(event) {
  if (!event.target.matches?.(".rv-cell") || busy()) return;
  if (aside(event.shiftKey ? -1 : 1)) event.preventDefault();
}

export function press(event) {
  if (typing(event.target) || helpOpen()) return;
  if (event.key === "Tab") return tab(event);
  const name = nameOf(event);
  if (!Object.hasOwn(ACTIONS, name) || name === "tie") return;
  event.preventDefault();
  if (event.repeat && !Object.hasOwn(MOVES, name)) return;
  act(name);
}

export function click(button) {
  act(button.dataset.key ?? button.dataset.act);
}

/** What A and B would say, on their buttons and above their columns. */
export function nameSides() {
  if (blind()) return;
  const pair = compared();
  document.querySelectorAll("[data-head] .rv-side").forEach((side) => { side.textContent = ""; });
  for (const [at, letter] of ["a", "b"].entries()) {
    const head = pair && document.querySelector(`[data-head="${pair[at].dataset.column}"]`);
    const name = document.querySelector(`#dock [data-name=${letter}]`);
    if (name) name.textContent = head ? head.querySelector("b").textContent : letter.toUpperCase();
    if (head) head.querySelector(".rv-side").textContent = letter.toUpperCase();
  }
  const several = Boolean(row()?.querySelector(".rv-faces"));
  for (const button of document.querySelectorAll("[data-versions]")) button.hidden = !several;
}
