// Decisions: shown at once, saved behind, put back when the server refuses.

import { cells, face, faceOf, column, readonly, replaceRow, row, rowOf } from "./grid.js";
import { alone, busy, post, setup } from "./server.js";
import { showProgress } from "./progress.js";
import { say, unsaved } from "./say.js";

const CONSENT = 8000; // milliseconds in which a second press says that an answer is accepted as it is
let asked = { what: "", until: 0 };

/** What a second press of the same key adds: the reviewer has read why the answer is not whole. */
const consent = (what) => ({ accept: asked.what === what && Date.now() < asked.until });

/** Ask for a verb about the row where the reviewer is. Resolves to the answer, or null when it was refused. */
export async function decide(verb, body, { preview = null, keepFaces = true, anywhere = false, again = null } = {}) {
  const at = row();
  if (busy() || (!at && !anywhere) || (at && unsaved(at))) return null;
  if (!setup().mayChange) return refuse("You may look, but not decide. Ask an owner to make you a curator.");
  if (readonly() && !anywhere) return refuse(`${at.querySelector("[data-lock]").textContent.trim()}. Take another example.`);
  const before = at?.cloneNode(true);
  preview?.();
  return alone(async () => {
    try {
      const said = await post(verb, body);
      asked = { what: "", until: 0 };
      settle(said, { keepFaces });
      if (verb === "state" || verb === "undo") showProgress();
      return said;
    } catch (error) {
      if (before && rowOf(at.dataset.number) === at) replaceRow(Number(at.dataset.number), before.outerHTML);
      if (error.answer?.consent && again) return ask(error.message, `${verb} ${body.answer}`, again);
      return refuse(error.message);
    }
  });
}

function ask(message, what, again) {
  asked = { what, until: Date.now() + CONSENT };
  say(`${message} Press again to accept it.`, { bad: true, accept: again });
  return null;
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
  const what = answer(of);
  return decide("star", { answer: what, ...consent(`star ${what}`) }, { preview: () => mark(of, true), again: star });
}

/** The same thumb again takes it away. */
export function thumb(verdict) {
  const of = decidable();
  if (!of) return null;
  const what = answer(of);
  const given = of.querySelector("[data-thumb][aria-pressed=true]")?.dataset.thumb;
  const wanted = given === verdict ? null : verdict;
  return decide("thumb", { answer: what, verdict: wanted, ...consent(`thumb ${what}`) }, {
    preview: () => of.querySelectorAll("[data-thumb]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.thumb === wanted))),
    again: () => thumb(verdict),
  });
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
