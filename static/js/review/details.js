// One example at full length beside the matrix, and the sheet of keys.

import { row, select } from "./grid.js";
import { address, page } from "./server.js";
import { say } from "./say.js";

const panel = () => document.getElementById("panel");
const sheet = () => document.getElementById("help");

export const helpOpen = () => Boolean(sheet()?.open);
export const detailsOpen = () => Boolean(panel() && !panel().hidden);

export function help() {
  sheet().showModal();
}

export async function details() {
  if (!row()) return;
  await fill(row().dataset.number);
  panel().querySelector("[data-close]")?.focus();
}

export async function fill(number) {
  try {
    const fresh = await page(address(`example/${number}/`, { panel: "1" }));
    const part = fresh.querySelector("[data-example]");
    if (!part) return;
    panel().replaceChildren(part);
    panel().hidden = false;
  } catch (error) {
    say(error.message, { bad: true });
  }
}

export function close() {
  panel().hidden = true;
  panel().replaceChildren();
  if (row()) select(Number(row().dataset.number));
}
