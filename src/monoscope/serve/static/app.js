// On every page: one tooltip, the keys, and the news that the server is gone.

import { startKeys } from "./keys.js";

const tip = /** @type {HTMLElement} */ (document.getElementById("tip"));

/** @param {Event} event */
function pointed(event) {
  const target = event.target instanceof Element ? event.target.closest("[data-h]") : null;
  if (!(target instanceof HTMLElement)) {
    tip.hidden = true;
    markHistogram(null);
    return;
  }
  showTip(target);
}

/** @param {HTMLElement} target */
export function showTip(target) {
  tip.textContent = target.dataset.h ?? "";
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), window.innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
  markHistogram(Number(target.dataset.v));
}

/** A line where a value stands on the page's histogram. @param {number | null} value */
function markHistogram(value) {
  const picture = document.querySelector("svg.hist");
  const line = picture?.querySelector(".at");
  if (!picture || !line) return;
  const at = value === null || !Number.isFinite(value) ? null : placeOf(value, picture.getAttribute("data-edges") ?? "");
  const width = Number((picture.getAttribute("viewBox") ?? "0 0 0 0").split(" ")[2]);
  const x = at === null ? "-9" : String(at * width);
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
}

/**
 * Where a value stands between equally wide bins, in 0 to 1.
 * @param {number} value
 * @param {string} listed
 * @returns {number | null}
 */
function placeOf(value, listed) {
  const edges = listed.split(" ").map(Number);
  if (edges.length < 2 || value < edges[0]) return null;
  const bins = edges.length - 1;
  for (let bin = 0; bin < bins; bin += 1) {
    if (value <= edges[bin + 1]) return (bin + (value - edges[bin]) / (edges[bin + 1] - edges[bin])) / bins;
  }
  return 1;
}

document.addEventListener("pointerover", pointed);
document.addEventListener("click", pointed);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
startKeys(showTip);
