// Fingers, mouse, wheel and keys on the map, as movements of its view.

const CLICK_PIXELS = 4;
const STEP_PIXELS = 60;
const NEARER = 1.6;

/**
 * @typedef {object} Acts
 * @property {() => void} moved the view was changed
 * @property {(px: number, py: number) => {x: number, y: number}} placeAt
 * @property {() => void} whole show all
 * @property {(px: number, py: number) => void} over the pointer rests or moves there
 * @property {() => void} left
 * @property {(px: number, py: number, touch: boolean) => void} picked
 * @property {(open: boolean) => void} middle what stands in the middle is told, or opened
 */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{x: number, y: number, scale: number}} view
 * @param {Acts} acts
 */
export function follow(canvas, view, acts) {
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let travelled = 0;
  let pinched = false;

  /** @param {MouseEvent} event */
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  /** Nearer or further, with what lies under (px, py) staying there. @param {number} times @param {number} px @param {number} py */
  const zoom = (times, px, py) => {
    const before = acts.placeAt(px, py);
    view.scale *= times;
    const after = acts.placeAt(px, py);
    view.x += before.x - after.x;
    view.y += before.y - after.y;
    acts.moved();
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 0) [travelled, pinched] = [0, false];
    fingers.set(event.pointerId, at(event));
    pinched ||= fingers.size > 1;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") acts.over(now.x, now.y);
      return;
    }
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (other) {
      const times = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
      zoom(times, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (travelled > CLICK_PIXELS) {
      canvas.classList.add("moving");
      view.x -= (now.x - before.x) / view.scale;
      view.y -= (now.y - before.y) / view.scale;
      acts.moved();
    }
  });
  /** @param {PointerEvent} event @param {boolean} counts */
  const up = (event, counts) => {
    if (!fingers.delete(event.pointerId)) return;
    canvas.classList.remove("moving");
    const { x, y } = at(event);
    if (counts && fingers.size === 0 && !pinched && travelled <= CLICK_PIXELS) acts.picked(x, y, event.pointerType === "touch");
  };
  canvas.addEventListener("pointerup", (event) => up(event, true));
  canvas.addEventListener("pointercancel", (event) => up(event, false));
  canvas.addEventListener("pointerleave", acts.left);
  // Also where a label lies over the picture.
  (canvas.parentElement ?? canvas).addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 300), x, y);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !act(event.key, canvas, view, zoom, acts)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/**
 * @param {string} key
 * @param {HTMLCanvasElement} canvas
 * @param {{x: number, y: number, scale: number}} view
 * @param {(times: number, px: number, py: number) => void} zoom
 * @param {Acts} acts
 * @returns {boolean} whether the key meant something here
 */
function act(key, canvas, view, zoom, acts) {
  const step = STEP_PIXELS / view.scale;
  /** @type {Record<string, [number, number]>} */
  const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const [px, py] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
  if (key in steps) {
    view.x += steps[key][0];
    view.y += steps[key][1];
    acts.moved();
  } else if (key === "+" || key === "=") zoom(NEARER, px, py);
  else if (key === "-" || key === "_") zoom(1 / NEARER, px, py);
  else if (key === "0") acts.whole();
  else if (key === "Enter") acts.middle(true);
  else return false;
  if (key !== "Enter") acts.middle(false);
  return true;
}
