// Whoever stays on a row has it: a lock is taken, renewed while they stay, and given back when they go.

import { rowOf } from "./grid.js";
import { post, root, setup } from "./server.js";

const REST = 400; // milliseconds on a row before it is taken; who only passes takes nothing
const RENEW = 60_000;

let at = null; // the number of the row that is wanted
let held = null;
let waiting = 0;
let renewing = 0;

export function follow(number) {
  if (!setup().mayChange || number === at) return;
  at = number;
  release();
  clearTimeout(waiting);
  waiting = setTimeout(take, REST);
}

async function take() {
  const number = at;
  clearTimeout(renewing);
  try {
    await post("lock", { number });
    if (number !== at) return giveBack(number); // they went on before the answer came
    held = number;
    show(number, "");
  } catch (error) {
    if (error.answer?.code === "locked" && number === at) show(number, error.message.split(". ")[0]);
  }
  renewing = setTimeout(take, RENEW);
}

function show(number, who) {
  const row = rowOf(number);
  if (!row) return;
  row.querySelector("[data-lock]").textContent = who;
  row.toggleAttribute("data-readonly", Boolean(who) && setup().overlap === 1);
  root().dispatchEvent(new CustomEvent("selected", { bubbles: true, detail: { number, moved: false } }));
}

export function release() {
  clearTimeout(renewing);
  if (held === null) return;
  giveBack(held);
  held = null;
}

function giveBack(number) {
  post("release", { number }, { keepalive: true }).catch(() => {});
}
