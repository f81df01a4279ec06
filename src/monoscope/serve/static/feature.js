// The feature page: a text of the visitor's own, shaded; and the link to copy.

import { post } from "./sse.js";
import { unitNodes } from "./tokens.js";

const page = /** @type {HTMLElement} */ (document.querySelector(".feature"));
const form = /** @type {HTMLFormElement} */ (document.getElementById("test"));
const shown = /** @type {HTMLElement} */ (document.getElementById("tested"));
const says = /** @type {HTMLElement} */ (document.getElementById("tested-says"));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("text"));
  says.textContent = "Reading …";
  try {
    const found = await post("/api/v1/encode", {
      text: field.value,
      feature: Number(page.dataset.feature),
      dictionary: page.dataset.dictionary,
    });
    shown.replaceChildren(unitNodes(found.units));
    shown.hidden = false;
    says.textContent = found.max > 0
      ? `Largest ${found.max.toFixed(2)}; in the text of the dictionary it reached ${found.largest.toFixed(2)}.`
      : "It does not fire on this text.";
  } catch (error) {
    says.textContent = error instanceof Error ? error.message : String(error);
  }
});

const copy = document.querySelector("[data-copy]");
if (copy instanceof HTMLElement && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    copy.textContent = "Copied";
  });
}
