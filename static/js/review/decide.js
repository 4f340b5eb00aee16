// Decisions: shown at once, saved behind, put back when the server refuses.

import { cells, face, faceOf, column, readonly, replaceRow, row, rowOf } from "./grid.js";
import { alone, busy, post, setup } from "./server.js";
import { showProgress } from "./progress.js";
import { say, unsaved } from "./say.js";

/** Ask for a verb about the row where the reviewer is. Resolves to the answer, or null when it was refused. */
export async function decide(verb, body, { preview = null, keepFaces = true, anywhere = false } = {}) {
  const at = row();
  if (busy() || (!at && !anywhere) || (at && unsaved(at))) return null;
  if (!setup().mayChange) return refuse("You may look, but not decide. Ask an owner to make you a curator.");
  if (readonly() && !anywhere) return refuse(`${at.querySelector("[data-lock]").textContent.trim()}. Take another example.`);
  const before = at?.cloneNode(true);
  preview?.();
  return alone(async () => {
    try {
      const said = await post(verb, body);
      settle(said, { keepFaces });
      if (verb === "state" || verb === "undo") showProgress();
      return said;
    } catch (error) {
      if (before && rowOf(at.dataset.number) === at) replaceRow(Number(at.dataset.number), before.outerHTML);
      refuse(error.message);
      return null;
    }
  });
}

export function settle(said, { keepFaces = true } = {}) {
  if (said.html) replaceRow(said.number, said.html, { keepFaces });
  say(said.sentence, { undo: said.change ? () => undo(said.change) : null });
}

function refuse(message) {
  say(message, { bad: true });
  return null;
}

const number = () => Number(row().dataset.number);
const answer = (of = face()) => Number(of?.dataset.answer || 0);

/** The face, if it has an answer that can be decided about; else the page says why not. */
function decidable(of = face()) {
  if (!answer(of)) return refuse("There is no answer here yet.");
  if (of.hasAttribute("data-failed")) return refuse("This answer failed. Edit it, and decide about the edit.");
  return of;
}

export function star() {
  const of = decidable();
  if (!of) return null;
  if (of.hasAttribute("data-starred")) return decide("unstar", { number: number() }, { preview: () => mark(of, false) });
  return decide("star", { answer: answer(of) }, { preview: () => mark(of, true) });
}

function mark(of, on) {
  for (const each of of.closest(".rv-row").querySelectorAll(".rv-face[data-answer]")) {
    const starred = on && each.dataset.answer === of.dataset.answer;
    each.toggleAttribute("data-starred", starred);
    each.querySelector("[data-star]")?.setAttribute("aria-pressed", String(starred));
  }
}

/** 0 clears. */
export function rate(value) {
  const of = decidable();
  if (!of) return null;
  return decide("rate", { answer: answer(of), value: value || null }, {
    preview: () => of.querySelectorAll("[data-rate]").forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.rate) === value))),
  });
}

/** The two cells that A and B are about: the one where the reviewer is and the baseline, as they stand on the screen. */
export function compared() {
  const all = cells();
  if (all.length < 2) return null;
  const base = Math.max(0, all.findIndex((each) => each.hasAttribute("data-baseline")));
  const other = column() === base ? (base === 0 ? 1 : 0) : column();
  return [base, other].sort((a, b) => a - b).map((at) => all[at]);
}

export function prefer(verdict) {
  if (setup().blind) return vote(verdict);
  const pair = compared();
  if (!pair) return refuse("There is only one model here: nothing to compare.");
  const [left, right] = pair.map(faceOf);
  if (!decidable(left) || !decidable(right)) return null;
  return decide("prefer", { left: answer(left), right: answer(right), verdict });
}

function vote(verdict) {
  const mark = row()?.dataset.mark;
  if (!mark) return refuse("There is nothing to compare here.");
  return decide("vote", { number: number(), mark, verdict });
}

export function reject() {
  const state = row()?.dataset.state === "rejected" ? "open" : "rejected";
  return decide("state", { number: number(), state }, { preview: () => row().toggleAttribute("data-rejected", state === "rejected") });
}

/** Resolves to true when the example is saved as done. */
export async function done() {
  if (setup().blind && row()?.dataset.mark && !row().hasAttribute("data-voted")) {
    refuse("Vote first: A, B, T for a tie, or X for both bad. J goes on without a vote.");
    return false;
  }
  if (row()?.dataset.state === "rejected") return !busy(); // rejecting was the decision
  return Boolean(await decide("state", { number: number(), state: "done" }));
}

export const undo = (change = null) => decide("undo", { change }, { keepFaces: false, anywhere: true });
