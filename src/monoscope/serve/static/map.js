// The map: moved by mouse, touch and keyboard; pointing tells a feature's label, a click opens it.

import { bulk, load, nearest } from "./mapdata.js";
import { colours, drawNames, drawPoints } from "./mapdraw.js";
import { follow } from "./mapmove.js";
import { link } from "./cards.js";

const NEAREST = 400;
const REACH_PIXELS = 9;

const box = /** @type {HTMLElement} */ (document.getElementById("map"));
const canvas = /** @type {HTMLCanvasElement} */ (box.querySelector("canvas"));
const names = /** @type {HTMLElement} */ (box.querySelector(".map-names"));
const tip = /** @type {HTMLElement} */ (box.querySelector(".map-tip"));
const spoken = /** @type {HTMLElement} */ (box.querySelector("[data-spoken]"));
const dictionary = box.dataset.dictionary ?? "";

box.hidden = false;
load(dictionary, box.dataset.version ?? "").then(start, (error) => {
  box.replaceChildren(document.createTextNode(error instanceof Error ? error.message : String(error)));
});

/** @param {{points: import("./mapdata.js").Points, levels: import("./mapdata.js").Cluster[][]}} map */
function start({ points, levels }) {
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const placeOf = new Map(Array.from(points.feature, (feature, i) => [feature, i]));
  const hits = [...document.querySelectorAll("[data-hit]")].map((row) => placeOf.get(Number(row.getAttribute("data-hit"))));
  const lit = new Set(hits.filter((i) => i !== undefined));
  const chosen = box.dataset.chosen ? placeOf.get(Number(box.dataset.chosen)) ?? -1 : -1;
  /** @type {Map<number, string>} */
  const labels = new Map();
  const view = { x: 0.5, y: 0.5, scale: 1 };
  let palette = colours();
  let ringed = chosen;
  let waiting = 0;
  let asked = -1;

  const middle = bulk(points);
  const fit = () => Math.max(1, 0.88 * Math.min(canvas.clientWidth / middle.width, canvas.clientHeight / middle.height));
  const draw = () => {
    waiting = 0;
    drawPoints(pen, points, view, palette, { lit, ringed, fit: fit() });
    drawNames(names, levels, view, fit());
  };
  const redraw = () => { waiting ||= requestAnimationFrame(draw); };
  const whole = () => Object.assign(view, { x: middle.x, y: middle.y, scale: fit() });

  /** @param {number} px @param {number} py @returns {{x: number, y: number}} */
  const placeAt = (px, py) => ({
    x: view.x + (px - canvas.clientWidth / 2) / view.scale, y: view.y + (py - canvas.clientHeight / 2) / view.scale,
  });

  const remember = () => {
    history.replaceState(history.state, "", `#${view.x.toFixed(4)},${view.y.toFixed(4)},${(view.scale / fit()).toFixed(2)}`);
  };
  const moved = () => {
    view.scale = Math.min(NEAREST * fit(), Math.max(0.5 * fit(), view.scale));
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(1, Math.max(0, view.y));
    tip.hidden = true;
    redraw();
    remember();
  };

  /** @param {number} i @returns {string} */
  const addressOf = (i) => `/f/${encodeURIComponent(dictionary)}/${points.feature[i]}`;

  /** Tell the label of a point beside it. @param {number} i @param {boolean} stays */
  const tell = async (i, stays) => {
    asked = i;
    const feature = points.feature[i];
    const show = () => {
      const label = labels.get(feature) ?? `feature ${feature}`;
      tip.replaceChildren(stays ? link(addressOf(i), label) : document.createTextNode(label));
      tip.classList.toggle("stays", stays);
      tip.hidden = false;
      const px = canvas.clientWidth / 2 + (points.x[i] - view.x) * view.scale;
      const py = canvas.clientHeight / 2 + (points.y[i] - view.y) * view.scale;
      const left = Math.min(Math.max(4, px + 12), Math.max(4, box.clientWidth - tip.offsetWidth - 4));
      const top = py + 14 + tip.offsetHeight < box.clientHeight ? py + 12 : py - tip.offsetHeight - 10;
      tip.style.transform = `translate(${left.toFixed(0)}px, ${Math.max(4, top).toFixed(0)}px)`;
      if (stays) spoken.textContent = label;
    };
    show();
    if (labels.has(feature)) return;
    try {
      const answer = await fetch(`/api/v1/features/${encodeURIComponent(dictionary)}/${feature}?brief=true`);
      if (answer.ok) labels.set(feature, (await answer.json()).label);
      if (asked === i && !tip.hidden) show();
    } catch {
      // The number stands there already.
    }
  };

  /** @param {number} px @param {number} py @param {number} reach @returns {number} */
  const pointAt = (px, py, reach) => {
    const { x, y } = placeAt(px, py);
    return nearest(points, x, y, reach / view.scale);
  };

  follow(canvas, view, {
    moved,
    placeAt,
    whole: () => { whole(); moved(); },
    over: (px, py) => {
      const i = pointAt(px, py, REACH_PIXELS);
      canvas.classList.toggle("over", i >= 0);
      if (i < 0) tip.hidden = true;
      else if (i !== asked || tip.hidden) tell(i, false);
      if (i < 0) asked = -1;
    },
    left: () => { if (!tip.classList.contains("stays")) tip.hidden = true; },
    picked: (px, py, touch) => {
      const i = pointAt(px, py, touch ? 2 * REACH_PIXELS : REACH_PIXELS);
      if (i < 0) tip.hidden = true;
      else if (touch && (asked !== i || tip.hidden)) tell(i, true);
      else location.href = addressOf(i);
    },
    middle: (open) => {
      const i = pointAt(canvas.clientWidth / 2, canvas.clientHeight / 2, canvas.clientHeight / 2);
      if (i < 0) return;
      if (open) {
        location.href = addressOf(i);
        return;
      }
      ringed = i;
      redraw();
      tell(i, true);
    },
  });

  /** @param {string} name @param {() => void} act */
  const press = (name, act) => box.querySelector(name)?.addEventListener("click", () => { act(); moved(); });
  press("[data-nearer]", () => { view.scale *= 1.6; });
  press("[data-further]", () => { view.scale /= 1.6; });
  press("[data-fit]", whole);

  whole();
  const [x, y, near] = location.hash.slice(1).split(",").map(Number);
  if (near > 0 && Number.isFinite(x + y)) Object.assign(view, { x, y, scale: Math.min(NEAREST, near) * fit() });
  else if (chosen >= 0) Object.assign(view, { x: points.x[chosen], y: points.y[chosen], scale: 6 * fit() });
  new ResizeObserver(() => {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    redraw();
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { palette = colours(); redraw(); });
  if (chosen >= 0) requestAnimationFrame(() => { draw(); tell(chosen, true); });
}
