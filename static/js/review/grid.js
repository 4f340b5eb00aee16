// Where the reviewer is: a row, and a cell of it. The rest of the page hears of moves by a "selected" event.

import { root } from "./server.js";

const here = { number: null, column: 0 }; // column counts cells, from 0

export const rows = () => [...document.querySelectorAll("#rows .rv-row")];
export const rowOf = (number) => document.getElementById(`row-${number}`);
export const row = () => (here.number === null ? null : rowOf(here.number));
export const cells = (of = row()) => (of ? [...of.querySelectorAll(":scope > .rv-cell")] : []);
export const cell = () => cells()[here.column] ?? null;
export const column = () => here.column;
export const faceOf = (of) => of?.querySelector(":scope > .rv-face:not([hidden])") ?? null;
export const face = () => faceOf(cell());
export const readonly = () => Boolean(row()?.hasAttribute("data-readonly"));

export function select(number, at = here.column, { focus = true } = {}) {
  const found = rowOf(number);
  if (!found) return false;
  const moved = number !== here.number;
  here.number = number;
  here.column = Math.max(0, Math.min(at, cells(found).length - 1));
  for (const each of rows()) each.setAttribute("aria-selected", String(each === found));
  for (const each of document.querySelectorAll("#rows .rv-cell")) each.tabIndex = -1;
  const chosen = cell();
  if (chosen) {
    chosen.tabIndex = 0;
    if (focus) {
      chosen.focus({ preventScroll: true });
      chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }
  root().dispatchEvent(new CustomEvent("selected", { bubbles: true, detail: { number, moved } }));
  return true;
}

/** False when there is no row there: another page may have one. */
export function step(by) {
  const all = rows();
  const at = all.indexOf(row());
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
  return next ? select(Number(next.dataset.number)) : false;
}

/** False at the edge. */
export function aside(by) {
  const to = here.column + by;
  return to >= 0 && to < cells().length ? select(here.number, to) : false;
}

export function showFace(of, index) {
  const faces = [...of.querySelectorAll(":scope > .rv-face")];
  faces.forEach((each, at) => { each.hidden = at !== index; });
  of.querySelectorAll(":scope > .rv-faces button").forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
  root().dispatchEvent(new CustomEvent("selected", { bubbles: true, detail: { number: here.number, moved: false } }));
}

export function turnFace(by) {
  const of = cell();
  const faces = of ? [...of.querySelectorAll(":scope > .rv-face")] : [];
  if (faces.length < 2) return;
  showFace(of, (faces.findIndex((each) => !each.hidden) + by + faces.length) % faces.length);
}

/** Texts that are longer than their rows fade out at the end, and have a button that opens them. */
export function fade() {
  const texts = [...document.querySelectorAll("#rows .rv-text:not([data-opened])")];
  const over = texts.map((each) => each.scrollHeight > each.clientHeight + 2);
  texts.forEach((each, at) => {
    each.toggleAttribute("data-over", over[at]);
    opener(each, over[at]);
  });
}

/** In a line that is there anyway, so that nothing moves. */
function opener(text, wanted) {
  const line = text.closest(".rv-face")?.querySelector(".rv-figures") ?? text.closest(".rv-prompt")?.querySelector(".rv-meta");
  const there = line?.querySelector("[data-open]");
  if (wanted && line && !there) {
    line.append(Object.assign(document.createElement("button"), { type: "button", className: "rv-open", tabIndex: -1, textContent: "show all" }));
    line.lastChild.toggleAttribute("data-open", true);
  } else if (!wanted) there?.remove();
}

export function openText(button) {
  const text = button.closest(".rv-face, .rv-prompt").querySelector(".rv-text");
  text.toggleAttribute("data-opened", true);
  text.removeAttribute("data-over");
  button.remove();
}

/** Put the server's row in the place of the one that is shown. Faces that were chosen, and texts that were opened, stay. */
export function replaceRow(number, html, { keepFaces = true } = {}) {
  const old = rowOf(number);
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.querySelector(".rv-row");
  if (!old || !fresh) return;
  const before = cells(old);
  for (const [at, of] of cells(fresh).entries()) {
    if (before[at]) carry(before[at], of, keepFaces);
  }
  for (const [at, fold] of fresh.querySelectorAll("details").entries()) fold.open = Boolean(old.querySelectorAll("details")[at]?.open);
  old.replaceWith(fresh);
  if (number === here.number) select(number, here.column, { focus: !typingElsewhere() });
}

function carry(from, to, keepFaces) {
  const key = (each) => `${each.dataset.answer} ${each.dataset.kind}`;
  const shown = faceOf(from);
  for (const [at, each] of to.querySelectorAll(":scope > .rv-face").entries()) {
    const twin = [...from.querySelectorAll(":scope > .rv-face")].find((other) => key(other) === key(each));
    const opened = twin?.querySelector(".rv-text[data-opened]");
    if (opened) each.querySelector(".rv-text").replaceWith(opened);
    if (keepFaces && shown && key(shown) === key(each)) showFace(to, at);
  }
}

export function typing(target = document.activeElement) {
  return Boolean(target?.closest?.("input, textarea, select, [contenteditable]:not([contenteditable=false]), [role=combobox], [role=listbox]"));
}

const typingElsewhere = () => typing() && !document.activeElement.closest(".rv-box");
