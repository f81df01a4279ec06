// The steering page: rows of features, a message, and two answers side by side.

import { Answers, PANES } from "./answers.js";
import { asPython, presetLink, readPreset } from "./preset.js";
import { drawRow, editOf, readRows } from "./rows.js";
import { stream } from "./sse.js";
import { element } from "./tokens.js";

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const dictionary = at("steer").dataset.dictionary;
const answers = new Answers();
/** @type {import("./rows.js").Control[]} */
let controls = readRows(at("rows"));
/** @type {AbortController | null} */
let running = null;

function edits() {
  return controls.map(editOf).filter(Boolean);
}

function told() {
  at("steered-by").textContent = edits().join(" · ") || "no feature moved";
}

function draw() {
  at("rows").replaceChildren(...controls.map((control) => drawRow(control, dictionary, told, () => {
    controls = controls.filter((other) => other !== control);
    draw();
  })));
  at("no-rows").hidden = controls.length > 0;
  told();
}

/** @param {number} feature @param {string} label @param {number} strength @param {string} mode */
function add(feature, label, strength = 0.4, mode = "add") {
  if (!controls.some((control) => control.feature === feature && !control.fixed)) {
    controls.push({ feature, label, mode, strength, fixed: "" });
  }
  draw();
}

/** An edit that says more than a slider can. @param {number} feature @param {string} label @param {string} edit */
function addFixed(feature, label, edit) {
  if (!controls.some((control) => control.fixed === edit)) {
    controls.push({ feature, label, mode: "", strength: null, fixed: edit });
  }
  draw();
}

/** @param {number} feature @returns {Promise<{label: string, edit: string}>} */
async function known(feature) {
  const answer = await fetch(`/api/v1/features/${encodeURIComponent(dictionary)}/${feature}?brief=true`);
  return answer.ok ? answer.json() : { label: "", edit: "" };
}

/** With the edit to begin with: its measured dose, where there is one. @param {number} feature */
async function addKnown(feature) {
  const { label, edit } = await known(feature);
  const dose = /^\d+ (add|clamp) ([0-9.]+)r$/.exec(edit);
  if (label && edit && !dose) addFixed(feature, label, edit);
  else if (label) add(feature, label, dose ? Number(dose[2]) : undefined, dose ? dose[1] : undefined);
  return label !== "";
}

async function fromFragment() {
  const preset = readPreset(location.hash);
  if (!preset || preset.sae !== dictionary) {
    if (location.hash.startsWith("#p=")) at("aside-says").textContent = "The preset in this link is not for this dictionary, or not whole.";
    return;
  }
  controls = [];
  for (const [feature, strength] of preset.edits) {
    const { label } = await known(feature);
    if (label) add(feature, label, strength, preset.mode);
  }
  if (Number.isSafeInteger(preset.seed) && preset.seed >= 0) at("seed").value = preset.seed;
  if (Number.isFinite(preset.temperature)) at("temperature").value = preset.temperature;
}

/** @param {Event} event */
async function find(event) {
  event.preventDefault();
  const query = at("add").elements.namedItem("q").value.trim();
  if (!query) return;
  if (/^[0-9]{1,9}$/.test(query)) {
    at("aside-says").textContent = (await addKnown(Number(query))) ? "" : `There is no feature ${query}.`;
    return;
  }
  const answer = await fetch(`/api/v1/search?${new URLSearchParams({ q: query, limit: "6", dictionary })}`);
  const found = answer.ok ? (await answer.json()).results : [];
  at("aside-says").textContent = found.length > 0 ? "" : "Nothing found.";
  at("found").replaceChildren(...found.map(choice));
}

/** @param {any} hit @returns {HTMLElement} */
function choice(hit) {
  const button = element("button", "", `+ ${hit.shown.label} `);
  button.setAttribute("type", "button");
  button.append(element("span", "", `${hit.feature} · ${hit.shown.density}`));
  button.addEventListener("click", () => {
    addKnown(hit.feature);
    at("found").replaceChildren();
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** @param {Event} event */
async function send(event) {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  busy(true);
  answers.clear();
  at("says").textContent = "";
  const body = {
    prompt: at("prompt").value,
    edits: edits(),
    chat: at("chat").checked,
    seed: Number(at("seed").value),
    temperature: Number(at("temperature").value),
    max_tokens: Number(at("tokens").value),
    dictionary,
  };
  try {
    await stream("/api/v1/steer", body, running.signal, hear);
  } catch (error) {
    stopped(error);
  }
  running = null;
  busy(false);
}

/** @param {string} name @param {any} data */
function hear(name, data) {
  const pane = PANES.indexOf(name);
  if (pane >= 0) answers.push(pane, data);
  else if (name === "queue") at("says").textContent = `Waiting; ${data.ahead} before you.`;
  else if (name === "error") at("says").textContent = data.error;
  else if (name === "done") {
    at("says").textContent = "";
    answers.finish(data, new Map(controls.map((control) => [control.feature, control.label])));
    at("spoken").textContent = `Default: ${data.baseline} Steered: ${data.steered}`;
  }
}

/** @param {unknown} error */
function stopped(error) {
  answers.write();
  const asked = error instanceof DOMException && error.name === "AbortError";
  const count = Math.max(...answers.counts);
  at("says").textContent = asked ? `Stopped after ${count} tokens.` : error instanceof Error ? error.message : String(error);
}

async function waitForModel() {
  const answer = await fetch("/api/v1/about").catch(() => null);
  const state = answer?.ok ? (await answer.json()).model_state : "loading";
  if (state === "loading") setTimeout(waitForModel, 1000);
  else if (!running) at("says").textContent = state === "ready" ? "" : "The model could not be loaded.";
}

/** @param {boolean} yes */
function busy(yes) {
  at("send").disabled = yes;
  at("stop").disabled = !yes;
}

/** @param {string} id @param {() => string} make */
function copies(id, make) {
  const button = at(id);
  if (!navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = make();
    if (text) await navigator.clipboard.writeText(text);
    at("aside-says").textContent = text ? "Copied." : "These rows cannot be put into a link.";
  });
}

at("ask").addEventListener("submit", send);
at("add").addEventListener("submit", find);
at("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
copies("link", () => presetLink(dictionary, controls, { seed: Number(at("seed").value), temperature: Number(at("temperature").value) }));
copies("python", () => asPython(edits(), at("prompt").value));
window.addEventListener("hashchange", fromFragment);
draw();
fromFragment();
if (at("steer").dataset.model === "loading") waitForModel();
