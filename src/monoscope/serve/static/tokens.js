// Display units into nodes. The server has made them clean; nothing is decoded or parsed here.

/**
 * @typedef {[string, string]} Part kind (space, text, mark, break, chip) and text
 * @typedef {{i: number, c: string, p: Part[], v: number, h: string}} Unit
 */

/**
 * @param {Part[]} parts
 * @returns {DocumentFragment}
 */
export function partNodes(parts) {
  const nodes = document.createDocumentFragment();
  for (const [kind, text] of parts) {
    if (kind === "mark" || kind === "break") nodes.append(element("i", "z", text));
    else if (kind === "chip") nodes.append(element("b", "chip", text));
    else nodes.append(text);
    if (kind === "break") nodes.append(document.createElement("br"));
  }
  return nodes;
}

/**
 * @param {Unit[]} units
 * @param {number | null} first the position of a token to mark, if any
 * @returns {DocumentFragment}
 */
export function unitNodes(units, first = null) {
  const nodes = document.createDocumentFragment();
  const marked = first === null ? undefined : units.findLast((unit) => unit.i <= first);
  for (const unit of units) {
    if (!unit.c && unit !== marked) {
      nodes.append(partNodes(unit.p));
      continue;
    }
    const span = element("span", [unit.c, unit === marked ? "first" : ""].join(" ").trim(), "");
    if (unit.c) {
      span.dataset.h = unit.h;
      span.dataset.v = String(unit.v);
    }
    const begin = unit.p.findIndex(([kind]) => kind !== "space");
    const last = unit.p.findLastIndex(([kind]) => kind !== "space");
    span.append(partNodes(unit.p.slice(begin, last + 1)));
    const breaks = last >= 0 && unit.p[last][0] === "break";
    if (breaks && span.lastChild) span.lastChild.remove();
    nodes.append(partNodes(unit.p.slice(0, Math.max(0, begin))), span);
    if (breaks) nodes.append(document.createElement("br"));
    nodes.append(partNodes(unit.p.slice(last + 1)));
  }
  return nodes;
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} text
 * @returns {HTMLElement}
 */
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
