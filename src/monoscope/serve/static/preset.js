// A preset in the address's fragment, which never reaches a server log. Opening one fills the form and runs nothing.

/** @typedef {import("./rows.js").Control} Control */

const LONGEST = 2048;
const MOST = 16;

/** @param {string} fragment @returns {any} the preset, or null where it makes no sense */
export function readPreset(fragment) {
  const coded = new URLSearchParams(fragment.replace(/^#/, "")).get("p");
  if (!coded || coded.length > LONGEST) return null;
  try {
    const bytes = Uint8Array.from(atob(coded.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return sound(found) ? found : null;
  } catch {
    return null;
  }
}

/** @param {any} found @returns {boolean} */
function sound(found) {
  return found?.v === 1 && typeof found.sae === "string" && (found.mode === "add" || found.mode === "clamp")
    && Array.isArray(found.edits) && found.edits.length <= MOST
    && found.edits.every((/** @type {any} */ edit) => Array.isArray(edit) && edit.length === 2
      && Number.isSafeInteger(edit[0]) && edit[0] >= 0 && Number.isFinite(edit[1]) && Math.abs(edit[1]) <= 0.7);
}

/**
 * @param {string} dictionary
 * @param {Control[]} controls
 * @param {{seed: number, temperature: number}} settings
 * @returns {string} an address, or nothing where the rows cannot be said so
 */
export function presetLink(dictionary, controls, settings) {
  const modes = new Set(controls.map((control) => control.mode));
  if (controls.length === 0 || modes.size > 1 || controls.some((control) => control.fixed)) return "";
  const preset = {
    v: 1,
    sae: dictionary,
    mode: [...modes][0],
    edits: controls.map((control) => [control.feature, control.strength]),
    ...settings,
  };
  const text = String.fromCharCode(...new TextEncoder().encode(JSON.stringify(preset)));
  const coded = btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `${location.origin}/steer#p=${coded}`;
}

/** @param {string[]} edits @param {string} prompt @returns {string} */
export function asPython(edits, prompt) {
  return [
    "import monoscope as ms",
    'study = ms.Study("RUN")',
    `with ms.steer(study.model, study.dictionary(), ${JSON.stringify(edits)}) as edited:`,
    `    print(edited.chat(${JSON.stringify(prompt)}))`,
    "",
  ].join("\n");
}
