// Talks to the server: one decision at a time. While one is under way, or rows load, `busy()` is true and no key works.

export const root = () => document.getElementById("review");
export const setup = () => JSON.parse(document.getElementById("review-setup").textContent);

let under = 0; // requests that nothing may overtake

export const busy = () => under > 0;

export class Refused extends Error {
  constructor(message, answer = {}) {
    super(message);
    this.answer = answer;
  }
}

/** Whatever `work` does, keys wait for it. */
export async function alone(work) {
  under += 1;
  root().toggleAttribute("data-busy", true);
  try {
    return await work();
  } finally {
    under -= 1;
    if (!under) root().removeAttribute("data-busy");
  }
}

/** The address of an endpoint, with the view that the page shows. */
export function address(path, more = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(more)) query.set(name, value);
  return `${setup().base}${path}?${query}`;
}

async function answerOf(response) {
  if (response.redirected) throw new Refused("You are logged out. Log in again in another tab, then try again.");
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error ?? `The server answered ${response.status}. Try again.`, answer);
  return answer;
}

async function send(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Refused("The server cannot be reached. Nothing was saved; try again.");
  }
  return answerOf(response);
}

export const read = (path, more) => send(address(path, more), { headers: { Accept: "application/json" } });

/** A POST, with a JSON body or none. */
export function call(path, query = {}, { body = {}, keepalive = false } = {}) {
  const token = root().querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
  return send(address(path, query), { method: "POST", headers, body: JSON.stringify(body), keepalive });
}

export const post = (verb, body, more = {}) => call(`do/${verb}/`, {}, { body, ...more });

/** A page's HTML as a document. */
export async function page(url) {
  let response;
  try {
    response = await fetch(url, { headers: { Accept: "text/html" } });
  } catch {
    throw new Refused("The server cannot be reached. Try again.");
  }
  if (!response.ok) throw new Refused(`The server answered ${response.status}. Try again.`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}
