// Boxes to type in: an answer's edit in its cell, tags and a note beside the prompt. Esc drops, Ctrl+Enter saves.

import { readonly, row, select, cell, column, face } from "./grid.js";
import { alone, busy, post, read, setup } from "./server.js";
import { say, unsaved } from "./say.js";
import { settle } from "./decide.js";

const make = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};
const button = (label, key, act, className = "rv-button") => {
  const made = make("button", { type: "button", className }, `${label} `);
  if (key) made.append(make("kbd", { textContent: key }));
  made.addEventListener("click", act);
  return made;
};

/** A box with a field. `save` gets the box and the field's value, and closes the box itself when it is done. */
function box(place, { label, field, save, saveOnEnter = false, more = [] }) {
  const number = Number(row().dataset.number);
  const made = make("div", { className: "rv-box" });
  const began = field.value;
  const close = () => {
    made.remove();
    select(number, column());
  };
  field.setAttribute("aria-label", label);
  field.addEventListener("input", () => made.toggleAttribute("data-dirty", field.value !== began));
  made.addEventListener("keydown", (event) => {
    const enter = event.key === "Enter" && (event.ctrlKey || event.metaKey || (saveOnEnter && !event.shiftKey));
    if (enter) save(made, field.value);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const keys = make("div", { className: "rv-boxkeys" },
    button("Save", saveOnEnter ? "↵" : "Ctrl ↵", () => save(made, field.value), "rv-button rv-primary"), button("Cancel", "Esc", close), ...more);
  made.append(make("span", { className: "rv-legend", textContent: label }), field, keys);
  place.append(made);
  field.focus();
  return made;
}

/** May this row be written to now? Says why not. */
function open() {
  if (busy() || !row() || unsaved()) return false;
  if (!setup().mayChange) say("You may look, but not decide. Ask an owner to make you a curator.", { bad: true });
  else if (readonly()) say(row().querySelector("[data-lock]").textContent.trim(), { bad: true });
  else return true;
  return false;
}

async function save(made, verb, body) {
  if (busy()) return;
  await alone(async () => {
    try {
      const said = await post(verb, body());
      made.remove();
      settle(said, { keepFaces: verb !== "edit" });
      select(said.number, column());
    } catch (error) {
      say(error.message, { bad: true });
      if (error.answer?.theirs !== undefined) bothShown(made, error.answer);
    }
  });
}

/** Somebody's text came in between: it stands under ours, which stays in the box. */
function bothShown(made, { theirs, base }) {
  made.dataset.base = base;
  made.querySelector(".rv-theirs")?.remove();
  const shown = make("div", { className: "rv-theirs" }, make("span", { className: "rv-legend", textContent: "Saved meanwhile" }));
  shown.append(make("div", { className: "rv-text", textContent: theirs, dir: "auto" }));
  made.append(shown);
  made.querySelector(".rv-primary").firstChild.textContent = "Save mine instead ";
  made.querySelector("textarea").focus();
}

export async function edit() {
  const of = face();
  const answer = Number(of?.dataset.answer || 0);
  if (!open()) return;
  if (!answer) return say("There is no answer here to edit.", { bad: true });
  const at = cell();
  const number = Number(row().dataset.number);
  await alone(async () => {
    try {
      await post("lock", { number });
      const source = await read(`source/${answer}/`);
      editor(at, number, answer, source, of.dataset.kind !== "original");
    } catch (error) {
      say(error.message, { bad: true });
    }
  });
}

function editor(at, number, answer, { text, base }, hasEdit) {
  const field = make("textarea", { value: text, rows: Math.min(20, Math.max(6, text.split("\n").length + 1)), dir: "auto" });
  const removing = button("Remove the edit", "", (event) => save(event.target.closest(".rv-box"), "edit", () => ({ answer, text: null, base: event.target.closest(".rv-box").dataset.base })));
  const made = box(at, {
    label: "Your edit; the model's answer stays as it is", field, more: hasEdit ? [removing] : [],
    save: (self, value) => save(self, "edit", () => ({ answer, text: value, base: self.dataset.base })),
  });
  made.dataset.base = base;
}

const slot = () => row().querySelector("[data-slot]");

export function tag() {
  if (!open()) return;
  const number = Number(row().dataset.number);
  const tags = [...row().querySelectorAll(".rv-tags li")].map((each) => each.textContent);
  const field = make("input", { value: tags.join(", "), maxLength: 1000, placeholder: "easy, needs a source" });
  const split = (value) => value.split(",").map((each) => each.trim()).filter(Boolean);
  box(slot(), {
    label: "Tags, with commas between them", field, saveOnEnter: true,
    save: (self, value) => save(self, "tag", () => ({ number, tags: split(value) })),
  });
  field.setSelectionRange(field.value.length, field.value.length);
}

export function note() {
  if (!open()) return;
  const number = Number(row().dataset.number);
  const field = make("textarea", { value: row().querySelector(".rv-note")?.textContent ?? "", rows: 3, maxLength: 10_000, dir: "auto" });
  box(slot(), {
    label: "Your note", field,
    save: (self, value) => save(self, "note", () => ({ number, text: value })),
  });
}

