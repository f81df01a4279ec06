// The points of the map: read, and found again by place.

const POINT_BYTES = 10;
const CELLS = 128;
const FULL = 65535;

/**
 * @typedef {{name: string, x: number, y: number, features: number, parent?: number}} Cluster
 * @typedef {{feature: Uint32Array, x: Float32Array, y: Float32Array, group: Uint8Array, starts: Uint32Array, order: Uint32Array}} Points
 */

/**
 * @param {string} dictionary
 * @param {string} version
 * @returns {Promise<{points: Points, levels: Cluster[][]}>}
 */
export async function load(dictionary, version) {
  const address = `/api/v1/map/${encodeURIComponent(dictionary)}`;
  const [outline, raw] = await Promise.all([fetch(address), fetch(`${address}/points?v=${encodeURIComponent(version)}`)]);
  if (!outline.ok || !raw.ok) throw new Error("The map could not be read; load the page again.");
  const { levels } = await outline.json();
  return { points: readPoints(await raw.arrayBuffer(), levels), levels };
}

/**
 * Little-endian feature (4), x, y and fine cluster (2 each); `group` is the coarsest cluster a point lies in.
 * @param {ArrayBuffer} raw
 * @param {Cluster[][]} levels
 * @returns {Points}
 */
export function readPoints(raw, levels) {
  const view = new DataView(raw);
  const count = Math.floor(raw.byteLength / POINT_BYTES);
  const points = {
    feature: new Uint32Array(count), x: new Float32Array(count), y: new Float32Array(count), group: new Uint8Array(count),
    starts: new Uint32Array(CELLS * CELLS + 1), order: new Uint32Array(count),
  };
  for (let i = 0; i < count; i += 1) {
    const at = i * POINT_BYTES;
    points.feature[i] = view.getUint32(at, true);
    points.x[i] = view.getUint16(at + 4, true) / FULL;
    points.y[i] = view.getUint16(at + 6, true) / FULL;
    points.group[i] = topOf(view.getUint16(at + 8, true), levels);
  }
  sortIntoCells(points);
  return points;
}

/** @param {number} cluster @param {Cluster[][]} levels @returns {number} */
function topOf(cluster, levels) {
  let number = cluster;
  for (let level = levels.length - 1; level > 0; level -= 1) number = levels[level][number]?.parent ?? 0;
  return number;
}

/** @param {number} place @returns {number} */
function cellOf(place) {
  return Math.min(CELLS - 1, Math.max(0, Math.floor(place * CELLS)));
}

/** A counting sort: the points of cell c are `order` from `starts[c]` to `starts[c + 1]`. @param {Points} points */
function sortIntoCells(points) {
  const { x, y, starts, order } = points;
  for (let i = 0; i < x.length; i += 1) starts[cellOf(y[i]) * CELLS + cellOf(x[i]) + 1] += 1;
  for (let c = 0; c < CELLS * CELLS; c += 1) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < x.length; i += 1) order[next[cellOf(y[i]) * CELLS + cellOf(x[i])]++] = i;
}

/**
 * The middle of the map and its width and height, without the outermost hundredth on each side.
 * @param {Points} points
 * @returns {{x: number, y: number, width: number, height: number}}
 */
export function bulk({ x, y }) {
  const [left, right] = ends(x);
  const [top, bottom] = ends(y);
  return { x: (left + right) / 2, y: (top + bottom) / 2, width: Math.max(1e-3, right - left), height: Math.max(1e-3, bottom - top) };
}

/** @param {Float32Array} values @returns {[number, number]} */
function ends(values) {
  const sorted = values.slice().sort();
  const cut = Math.floor(sorted.length / 100);
  return sorted.length ? [sorted[cut], sorted[sorted.length - 1 - cut]] : [0, 1];
}

/**
 * The point nearest to a place, no further than `reach`; -1 where there is none.
 * @param {Points} points
 * @param {number} x
 * @param {number} y
 * @param {number} reach
 * @returns {number}
 */
export function nearest(points, x, y, reach) {
  let best = -1;
  let least = reach * reach;
  for (let row = cellOf(y - reach); row <= cellOf(y + reach); row += 1) {
    const from = points.starts[row * CELLS + cellOf(x - reach)];
    const to = points.starts[row * CELLS + cellOf(x + reach) + 1];
    for (let k = from; k < to; k += 1) {
      const i = points.order[k];
      const far = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
      if (far <= least) {
        least = far;
        best = i;
      }
    }
  }
  return best;
}
