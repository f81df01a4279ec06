// The keyboard: single letters act only outside of fields, and can be switched off.

const OFF = "monoscope-keys-off";

/** @param {(target: HTMLElement) => void} showTip */
export function startKeys(showTip) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("keys"));
  const button = /** @type {HTMLButtonElement} */ (document.querySelector("[data-keys]"));
  const wanted = /** @type {HTMLInputElement} */ (document.getElementById("keys-on"));
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal());
  wanted.checked = remembered() !== "1";
  wanted.addEventListener("change", () => remember(wanted.checked ? "" : "1"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target) || dialog.open) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      if (walkTokens(event.key === "ArrowRight" ? 1 : -1, showTip)) event.preventDefault();
      return;
    }
    if (event.key.length === 1 && wanted.checked && act(event.key, dialog)) event.preventDefault();
  });
}

/** @param {string} key @param {HTMLDialogElement} dialog @returns {boolean} */
function act(key, dialog) {
  if (key === "/") return focusOn("[data-search]");
  if (key === "j") return moveInList(1);
  if (key === "k") return moveInList(-1);
  if (key === "[") return follow("[data-prev]");
  if (key === "]") return follow("[data-next]");
  if (key === "s") return follow(".card:focus-within [data-steer]") || follow("a.button[data-steer]");
  if (key === "m") return follow("a[data-map]");
  if (key === "?") {
    dialog.showModal();
    return true;
  }
  return false;
}

/** @param {EventTarget | null} target @returns {boolean} */
function isField(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** @param {string} selector @returns {boolean} */
function focusOn(selector) {
  const field = document.querySelector(selector);
  if (!(field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement)) return false;
  field.focus();
  field.select();
  return true;
}

/** @param {string} selector @returns {boolean} */
function follow(selector) {
  const link = document.querySelector(selector);
  if (!(link instanceof HTMLElement)) return false;
  link.click();
  return true;
}

/** @param {number} step @returns {boolean} */
function moveInList(step) {
  const items = [...document.querySelectorAll("[data-item]")];
  if (items.length === 0) return false;
  const at = items.findIndex((item) => item.contains(document.activeElement));
  const next = items[at < 0 ? (step > 0 ? 0 : items.length - 1) : Math.min(items.length - 1, Math.max(0, at + step))];
  const target = next.querySelector("[data-open]") ?? next;
  if (target instanceof HTMLElement) target.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

/** @param {number} step @param {(target: HTMLElement) => void} showTip @returns {boolean} */
function walkTokens(step, showTip) {
  const example = document.activeElement?.closest("[data-example]");
  if (!example) return false;
  const tokens = [...example.querySelectorAll("[data-h]")];
  if (tokens.length === 0) return false;
  const at = tokens.findIndex((token) => token.classList.contains("lit"));
  document.querySelector(".lit")?.classList.remove("lit");
  const next = tokens[at < 0 ? (step > 0 ? 0 : tokens.length - 1) : (at + step + tokens.length) % tokens.length];
  next.classList.add("lit");
  if (next instanceof HTMLElement) {
    showTip(next);
    const spoken = document.getElementById("spoken");
    if (spoken) spoken.textContent = next.dataset.h ?? "";
  }
  return true;
}

/** @returns {string | null} */
function remembered() {
  try {
    return localStorage.getItem(OFF);
  } catch {
    return null;
  }
}

/** @param {string} value */
function remember(value) {
  try {
    localStorage.setItem(OFF, value);
  } catch {
    // A browser that keeps nothing asks again next time.
  }
}
