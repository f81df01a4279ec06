// Results while typing, by words only. The form itself works without this.

import { card } from "./cards.js";
import { element } from "./tokens.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("searchform"));
const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("q"));
const results = /** @type {HTMLElement} */ (document.getElementById("results"));
let timer = 0;
let shown = field.defaultValue.trim();
/** @type {AbortController | null} */
let running = null;

async function refresh() {
  const query = field.value.trim();
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") wanted.set(name, String(value));
  // Only what was typed is searched for at once; changed filters wait for the button.
  if (query === shown || query.length < 2 || wanted.get("by") !== "words") return;
  running?.abort();
  running = new AbortController();
  try {
    const answer = await fetch(`/api/v1/search?${wanted}`, { signal: running.signal });
    if (!answer.ok) return;
    draw(await answer.json(), query);
    shown = query;
    history.replaceState(null, "", `/search?${wanted}`);
  } catch {
    // Typed on, or the server is away.
  }
}

/** @param {any} found @param {string} query */
function draw(found, query) {
  const count = found.results.length;
  const told = element("p", "counted", `${count} feature${count === 1 ? "" : "s"} · ${Math.round(1000 * found.seconds)} ms`);
  told.setAttribute("role", "status");
  if (count === 0) {
    results.replaceChildren(told, element("p", "empty", `Nothing matches “${query}”. Try it as a prompt.`));
    return;
  }
  const list = element("ul", "results", "");
  list.append(...found.results.map((/** @type {any} */ hit) => card(hit, found.dictionary)));
  results.replaceChildren(told, list);
}

for (const way of form.querySelectorAll("input[name=by]")) {
  way.addEventListener("change", () => { shown = ""; });
}
field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = window.setTimeout(refresh, 120);
});
// Typed before this script was there.
refresh();
