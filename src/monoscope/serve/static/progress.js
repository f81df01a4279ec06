// The page of a run that is being made: asks each second how far it is, and becomes the explorer at the end.

import { element } from "./tokens.js";

/**
 * @typedef {{name: string, state: string, done: number, total: number | null, unit: string, rate: number,
 *   seconds_left: number | null}} Stage
 * @typedef {{ready: boolean, alive: boolean, stages: Stage[]}} Progress
 */

const list = /** @type {HTMLElement} */ (document.getElementById("stages"));
const says = /** @type {HTMLElement} */ (document.getElementById("making-says"));
const usual = "This page turns into the explorer when the atlas is done.";

/** @param {number} seconds @returns {string} */
function clock(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
}

/** @param {Stage} stage @returns {string} */
function told(stage) {
  if (stage.state === "skipped") return "there already";
  if (stage.state !== "running") return stage.state;
  const count = `${stage.done.toLocaleString("en")}${stage.total ? ` of ${stage.total.toLocaleString("en")}` : ""} ${stage.unit}`;
  return stage.seconds_left === null ? count : `${count}, ${clock(stage.seconds_left)} left`;
}

/** @param {Stage} stage @returns {HTMLElement} */
function row(stage) {
  const line = element("li", `stage ${stage.state}`, "");
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.setAttribute("aria-label", stage.name);
  const over = stage.state === "done" || stage.state === "skipped";
  if (over) bar.value = 1;
  else if (stage.state === "waiting") bar.value = 0;
  else if (stage.total) bar.value = Math.min(1, stage.done / stage.total);
  line.append(element("span", "stage-name", stage.name), bar, element("span", "stage-told", told(stage)));
  return line;
}

async function look() {
  try {
    const answer = await fetch("/api/v1/progress");
    const progress = /** @type {Progress} */ (await answer.json());
    if (progress.ready) {
      location.reload();
      return;
    }
    if (progress.stages.length > 0) {
      list.replaceChildren(...progress.stages.map(row));
      says.textContent = progress.alive ? usual : "Nobody is at work on it; the same command goes on from here.";
    }
  } catch {
    says.textContent = "Connection lost, trying again.";
  }
  setTimeout(look, 1000);
}

setTimeout(look, 500);
