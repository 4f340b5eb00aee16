// What the page says after something happened, and what must not be lost.

const SHOWN = 8000; // milliseconds
let timer = 0;

/** `undo` and `accept` are called by buttons beside the sentence. */
export function say(sentence, { bad = false, undo = null, accept = null } = {}) {
  const toast = document.getElementById("toast");
  toast.replaceChildren(Object.assign(document.createElement("span"), { textContent: sentence }));
  toast.toggleAttribute("data-bad", bad);
  if (undo) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "rv-button" });
    button.append("Undo ", Object.assign(document.createElement("kbd"), { textContent: "U" }));
    button.addEventListener("click", undo);
    toast.append(button);
  }
  if (accept) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "rv-button", textContent: "Accept it" });
    button.addEventListener("click", accept);
    toast.append(button);
  }
  toast.toggleAttribute("data-shown", true);
  clearTimeout(timer);
  timer = setTimeout(hush, SHOWN);
}

export function hush() {
  document.getElementById("toast")?.removeAttribute("data-shown");
}

/** True, with a word about it, when a text was typed that nobody has saved. */
export function unsaved(within = document) {
  const box = within.querySelector(".rv-box[data-dirty]");
  if (!box) return false;
  say("There is a text that you have not saved. Save it, or press Esc in it to drop it.", { bad: true });
  box.querySelector("textarea, input").focus();
  return true;
}
