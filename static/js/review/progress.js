// Figures that come after the rows: nobody waits for them.

import { read, setup } from "./server.js";

const figure = (number) => number.toLocaleString("en");

export async function showProgress() {
  if (!setup().mayChange) return;
  const { done, assigned } = await read("progress/").catch(() => ({ done: 0, assigned: 0 }));
  const place = document.getElementById("progress");
  place.hidden = !assigned;
  place.querySelector("[data-done]").textContent = figure(done);
  place.querySelector("[data-assigned]").textContent = figure(assigned);
  place.querySelector("[data-bar]").style.width = `${assigned ? (100 * done) / assigned : 0}%`;
  const bar = place.querySelector("[role=progressbar]");
  bar.setAttribute("aria-valuenow", done);
  bar.setAttribute("aria-valuemax", assigned);
}

/** Of each column's ratings and thumbs. In blind mode there are no columns. */
export async function showMeans() {
  if (setup().blind) return;
  const { columns } = await read("means/").catch(() => ({ columns: [] }));
  for (const { column, mean, ratings, up, down } of columns) {
    const place = document.querySelector(`[data-head="${column}"] [data-mean]`);
    const rated = ratings ? ` · rated ${mean.toFixed(1)} (${figure(ratings)})` : "";
    if (place) place.textContent = rated + (up + down ? ` · thumbs ${figure(up)} up, ${figure(down)} down` : "");
  }
}

/** Of the examples that the filters leave. */
export async function showCount() {
  const place = document.getElementById("count");
  if (setup().queue) return;
  const { count } = await read("count/").catch(() => ({ count: "" }));
  if (count) place.textContent = count === "1" ? "1 example" : `${count} examples`;
}
