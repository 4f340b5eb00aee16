// The review page: who listens to what.

import { cells, fade, openText, row, rows, rowOf, select, showFace } from "./grid.js";
import { rate, star, thumb } from "./decide.js";
import { close, details, detailsOpen, fill } from "./details.js";
import { click, nameSides, press } from "./keys.js";
import { fetchAhead, go, more, nextOfQueue, turn } from "./pages.js";
import { follow, release } from "./locks.js";
import { showCount, showMeans, showProgress } from "./progress.js";
import { root, setup } from "./server.js";

let reading = 0;

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && detailsOpen()) return close();
  return press(event);
});

document.addEventListener("click", (event) => {
  const target = event.target;
  const chosen = target.closest("#rows .rv-row");
  if (chosen) choose(target, chosen);
  const key = target.closest("[data-key], [data-act]");
  if (key) return click(key);
  if (target.closest("[data-close]")) return close();
  const opening = target.closest("[data-open]");
  if (opening) return openText(opening);
  const rest = target.closest("[data-rest]");
  if (rest) return more(rest);
  return chosen ? decideHere(event, target) : followLink(event, target);
});

/** The row and the cell under the mouse become the reviewer's. */
function choose(target, chosen) {
  const at = cells(chosen).indexOf(target.closest(".rv-cell"));
  const plain = !target.closest("input, textarea, button, a, summary") && getSelection().isCollapsed;
  select(Number(chosen.dataset.number), at < 0 ? undefined : at, { focus: plain });
}

function decideHere(event, target) {
  const rated = target.closest("[data-rate]");
  if (rated) return rate(rated.getAttribute("aria-pressed") === "true" ? 0 : Number(rated.dataset.rate));
  if (target.closest("[data-star]")) return star();
  const thumbed = target.closest("[data-thumb]");
  if (thumbed) return thumb(thumbed.dataset.thumb);
  const face = target.closest("[data-face]");
  if (face) return showFace(face.closest(".rv-cell"), Number(face.dataset.face));
  if (target.closest("[data-details]") && !opensElsewhere(event)) {
    event.preventDefault();
    return details();
  }
  return null;
}

const opensElsewhere = (event) => event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0;

function followLink(event, target) {
  const link = target.closest("a[data-go]");
  if (!link || opensElsewhere(event)) return null;
  event.preventDefault();
  if (setup().queue && !link.dataset.page) return location.assign(link.href);
  return link.dataset.page ? turn(link.dataset.page) : go(link.getAttribute("href"));
}

document.addEventListener("submit", (event) => {
  if (event.target.id !== "filters") return;
  event.preventDefault();
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(event.target)) if (value) query.set(name, value);
  document.activeElement.blur();
  go(`?${query}`);
});

let fading = 0;

document.addEventListener("selected", ({ detail }) => {
  nameSides();
  cancelAnimationFrame(fading);
  fading = requestAnimationFrame(fade);
  if (!detail.moved) return;
  follow(detail.number);
  fetchAhead();
  if (detailsOpen()) {
    clearTimeout(reading);
    reading = setTimeout(() => fill(detail.number), 150);
  }
});

/** Esc leaves a field of the bar, so that the keys work again. */
document.addEventListener("keyup", (event) => {
  if (event.key === "Escape" && event.target.closest?.("#filters")) {
    event.target.blur();
    if (row()) select(Number(row().dataset.number));
  }
});

addEventListener("popstate", () => go(location.search, { push: false }).then((went) => went || location.reload()));
addEventListener("pagehide", release);
addEventListener("beforeunload", (event) => {
  if (document.querySelector(".rv-box[data-dirty]")) event.preventDefault();
});

function figures() {
  showCount();
  showMeans();
  showProgress();
}

function start() {
  history.scrollRestoration = "manual";
  if (setup().queue) nextOfQueue();
  else {
    const asked = Number(/^#row-(\d+)$/.exec(location.hash)?.[1]);
    const first = rowOf(asked) ?? rows()[0];
    if (first) select(Number(first.dataset.number), 0);
  }
  figures();
}

document.addEventListener("rows", figures);
start();
root().toggleAttribute("data-ready", true);
