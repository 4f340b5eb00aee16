// Which rows are shown: pages of the matrix without a reload, the next one fetched ahead, and the queue.

import { row, rows, rowOf, select } from "./grid.js";
import { alone, busy, call, page, read, root, setup } from "./server.js";
import { hush, say, unsaved } from "./say.js";

const FRESH = 20_000; // milliseconds for which rows that were fetched ahead are good enough
const AHEAD = 8; // rows before the end at which the next page is fetched

let ahead = { address: "", at: 0, rows: null };

const full = (query) => `${location.pathname}${query}`;
const link = (which) => document.querySelector(`[data-page=${which}]`);

function fetchRows(query) {
  if (ahead.address === query && Date.now() - ahead.at < FRESH) return ahead.rows;
  return rowsOf(query);
}

async function rowsOf(query) {
  const url = new URL(query, location.href);
  return read("rows/", { after: "0", ...Object.fromEntries(url.searchParams) });
}

export function fetchAhead() {
  const next = link("next")?.getAttribute("href");
  const all = rows();
  if (!next || setup().queue || all.length - all.indexOf(row()) > AHEAD) return;
  if (ahead.address === next && Date.now() - ahead.at < FRESH) return;
  const fetched = rowsOf(next);
  fetched.catch(() => { ahead = { address: "", at: 0, rows: null }; });
  ahead = { address: next, at: Date.now(), rows: fetched };
}

/** The next or previous page of the same view. Resolves to false when there is none. */
export async function turn(which, { choose = "first" } = {}) {
  const query = link(which)?.getAttribute("href");
  if (!query || busy() || unsaved()) return false;
  return alone(async () => {
    try {
      const part = await fetchRows(query);
      ahead = { address: "", at: 0, rows: null };
      document.getElementById("rows").innerHTML = part.html;
      for (const name of ["next", "previous"]) show(link(name), part[name]);
      history.pushState(null, "", full(query));
      document.getElementById("matrix").scrollTop = 0;
      chooseRow(choose);
      return true;
    } catch (error) {
      say(error.message, { bad: true });
      return false;
    }
  });
}

function show(anchor, href) {
  anchor.hidden = !href;
  if (href) anchor.setAttribute("href", href);
  else anchor.removeAttribute("href");
}

export function chooseRow(which) {
  const all = rows();
  const found = which === "last" ? all.at(-1) : typeof which === "number" ? rowOf(which) ?? all[0] : all[0];
  if (found) select(Number(found.dataset.number));
}

/** Another view: filters, baseline, diff, rendering. The whole page comes, and only what is ours is replaced. */
export async function go(query, { push = true, keep = null } = {}) {
  if (busy() || unsaved()) return false;
  const number = keep ?? Number(row()?.dataset.number ?? 0);
  return alone(async () => {
    try {
      const fresh = await page(full(query));
      const [mine, its] = [root(), fresh.getElementById("review")];
      if (!its) throw new Error("You are logged out. Log in again in another tab, then try again.");
      const scroll = document.getElementById("matrix").scrollLeft;
      document.getElementById("review-setup").replaceWith(fresh.getElementById("review-setup"));
      its.toggleAttribute("data-busy", true);
      mine.replaceWith(its);
      if (push) history.pushState(null, "", full(query));
      document.getElementById("matrix").scrollLeft = scroll;
      hush();
      document.dispatchEvent(new Event("rows"));
      if (setup().queue) return true;
      chooseRow(number || "first");
      return true;
    } catch (error) {
      say(error.message, { bad: true });
      return false;
    }
  });
}

/** The address of this view with some of it changed; what is null is left out. */
export function changed(values) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  return `?${query}`;
}

/** The reviewer's next example after this one, which nobody else works on. */
export function nextOfQueue() {
  const after = row()?.dataset.number ?? 0;
  return alone(async () => {
    try {
      const part = await call("next/", { after });
      document.getElementById("rows").innerHTML = part.html;
      if (part.number) select(part.number, 0);
      document.getElementById("matrix").scrollTop = 0;
      return true;
    } catch (error) {
      say(error.message, { bad: true });
      return false;
    }
  });
}

/** A piece more of a text that was cut. */
export async function more(button) {
  const text = button.previousElementSibling;
  const of = button.closest("[data-number], [data-example]");
  const number = of.dataset.number ?? of.dataset.example;
  button.disabled = true;
  try {
    const asked = Object.fromEntries(new URLSearchParams(button.dataset.rest));
    const piece = await read(`text/${number}/`, { ...asked, from: button.dataset.from });
    text.append(piece.text);
    text.toggleAttribute("data-opened", true);
    if (piece.next === null) return button.remove();
    button.dataset.from = piece.next;
    button.textContent = "Show more";
  } catch (error) {
    say(error.message, { bad: true });
  }
  button.disabled = false;
  return null;
}
