// The rows of the steering page: a feature, how it is moved, and how far.

import { link } from "./cards.js";
import { element } from "./tokens.js";

export const LARGEST = 0.7;
export const STEP = 0.05;

/**
 * @typedef {{feature: number, label: string, mode: string, strength: number | null, fixed: string}} Control
 */

/** The server's rows as records. @param {HTMLElement} list @returns {Control[]} */
export function readRows(list) {
  return [...list.querySelectorAll("li")].map((row) => ({
    feature: Number(row.dataset.feature),
    label: row.dataset.label ?? "",
    mode: row.dataset.mode ?? "add",
    strength: row.dataset.strength ? Number(row.dataset.strength) : null,
    fixed: row.dataset.fixed ?? "",
  }));
}

/** @param {Control} control @returns {string} the edit, or nothing for one that is off */
export function editOf(control) {
  if (control.fixed) return control.fixed;
  if (control.strength === null || (control.strength === 0 && control.mode === "add")) return "";
  return `${control.feature} ${control.mode} ${control.strength}r`;
}

/**
 * @param {Control} control
 * @param {string} dictionary
 * @param {() => void} changed
 * @param {() => void} removed
 * @returns {HTMLElement}
 */
export function drawRow(control, dictionary, changed, removed) {
  const row = element("li", "row", "");
  row.dataset.feature = String(control.feature);
  const remove = button("×", `Remove ${control.label}`);
  remove.addEventListener("click", removed);
  row.append(link(`/f/${encodeURIComponent(dictionary)}/${control.feature}`, control.label), remove);
  if (control.fixed) {
    row.append(element("code", "", control.fixed));
    return row;
  }
  row.append(slide(control, row, changed));
  return row;
}

/** @param {Control} control @param {HTMLElement} row @param {() => void} changed @returns {HTMLElement} */
function slide(control, row, changed) {
  const line = element("div", "slide", "");
  const range = input("range", control, `Strength of ${control.label}`);
  const number = input("number", control, `Strength of ${control.label}, as a number`);
  const mode = document.createElement("select");
  mode.setAttribute("aria-label", `How ${control.label} is moved`);
  for (const name of ["add", "clamp"]) {
    const choice = element("option", "", name);
    mode.append(choice);
  }
  mode.value = control.mode;
  /** @param {HTMLInputElement} from @param {HTMLInputElement} to */
  const moved = (from, to) => {
    const value = Number(from.value);
    if (!Number.isFinite(value) || from.value === "") return;
    control.strength = Math.max(-LARGEST, Math.min(LARGEST, value));
    to.value = String(control.strength);
    row.classList.toggle("off", control.strength === 0);
    changed();
  };
  range.addEventListener("input", () => moved(range, number));
  number.addEventListener("input", () => moved(number, range));
  mode.addEventListener("change", () => {
    control.mode = mode.value;
    changed();
  });
  line.append(range, number, mode);
  return line;
}

/** @param {string} type @param {Control} control @param {string} label @returns {HTMLInputElement} */
function input(type, control, label) {
  const made = document.createElement("input");
  made.type = type;
  made.min = String(-LARGEST);
  made.max = String(LARGEST);
  made.step = String(STEP);
  made.value = String(control.strength ?? 0);
  made.setAttribute("aria-label", label);
  return made;
}

/** @param {string} text @param {string} label @returns {HTMLButtonElement} */
function button(text, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "quiet remove";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  return made;
}
