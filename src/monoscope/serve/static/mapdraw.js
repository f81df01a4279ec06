// The map drawn: points on a canvas, names of groups over it.

import { element } from "./tokens.js";

const MOST_NAMES = 60;
// How many times nearer than the whole map each finer level of names begins.
const FINER = [1, 1.8, 5];

/**
 * @typedef {import("./mapdata.js").Points} Points
 * @typedef {import("./mapdata.js").Cluster} Cluster
 * @typedef {{x: number, y: number, scale: number}} View the place in the middle, and pixels for the whole width of the map
 */

/** The colours of the page as they are now. @returns {{groups: string[], ink: string, accent: string}} */
export function colours() {
  const found = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const of = (name) => found.getPropertyValue(name).trim();
  return { groups: Array.from({ length: 8 }, (_, n) => of(`--g${n}`)), ink: of("--ink"), accent: of("--accent") };
}

/**
 * Up to some hundred thousand points a plain canvas is fast enough: a rectangle each, group by group, so that the colour
 * changes eight times a picture. WebGL would begin to pay beyond that.
 * @param {CanvasRenderingContext2D} pen
 * @param {Points} points
 * @param {View} view
 * @param {{groups: string[], ink: string, accent: string}} palette
 * @param {{lit: Set<number>, ringed: number, fit: number}} marks
 */
export function drawPoints(pen, points, view, palette, marks) {
  const ratio = window.devicePixelRatio || 1;
  const width = pen.canvas.width / ratio;
  const height = pen.canvas.height / ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = Math.min(7, 1.6 * Math.sqrt(view.scale / marks.fit) + 0.6);
  const left = width / 2 - view.x * view.scale - size / 2;
  const top = height / 2 - view.y * view.scale - size / 2;
  const { x, y, group } = points;
  pen.globalAlpha = marks.lit.size ? 0.25 : 0.75;
  for (let colour = 0; colour < palette.groups.length; colour += 1) {
    pen.fillStyle = palette.groups[colour];
    for (let i = 0; i < x.length; i += 1) {
      if (group[i] % palette.groups.length !== colour) continue;
      const px = left + x[i] * view.scale;
      const py = top + y[i] * view.scale;
      if (px > -size && py > -size && px < width && py < height) pen.fillRect(px, py, size, size);
    }
  }
  pen.globalAlpha = 1;
  pen.fillStyle = palette.ink;
  for (const i of marks.lit) disc(pen, left + x[i] * view.scale + size / 2, top + y[i] * view.scale + size / 2, size / 2 + 2);
  if (marks.ringed >= 0) {
    const i = marks.ringed;
    pen.strokeStyle = palette.accent;
    pen.lineWidth = 2.5;
    ring(pen, left + x[i] * view.scale + size / 2, top + y[i] * view.scale + size / 2, size / 2 + 5);
  }
}

/** @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y @param {number} radius */
function disc(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}

/** @param {CanvasRenderingContext2D} pen @param {number} x @param {number} y @param {number} radius */
function ring(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.stroke();
}

/**
 * The names that fit: coarse levels first, large groups first, none over another.
 * @param {HTMLElement} place
 * @param {Cluster[][]} levels
 * @param {View} view
 * @param {number} fit
 */
export function drawNames(place, levels, view, fit) {
  const { clientWidth: width, clientHeight: height } = place;
  /** @type {number[][]} */
  const taken = [];
  const shown = [];
  for (let level = 0; level < levels.length && view.scale >= fit * FINER[level]; level += 1) {
    for (const cluster of [...levels[level]].sort((one, other) => other.features - one.features)) {
      if (shown.length >= MOST_NAMES || cluster.name === "–") continue;
      const wide = cluster.name.length * (level === 0 ? 7.6 : 6.6) + 8;
      const px = width / 2 + (cluster.x - view.x) * view.scale - wide / 2;
      const py = height / 2 + (cluster.y - view.y) * view.scale - 9;
      const box = [px, py, px + wide, py + 18];
      if (px < 0 || py < 0 || box[2] > width || box[3] > height || taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      const name = element("span", `level${level}`, cluster.name);
      name.style.transform = `translate(${(px + 4).toFixed(1)}px, ${py.toFixed(1)}px)`;
      shown.push(name);
    }
  }
  place.replaceChildren(...shown);
}

/** @param {number[]} one @param {number[]} other @returns {boolean} */
function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}
