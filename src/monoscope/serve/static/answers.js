// The two answers as they come, and what was done to one of them.

import { element, partNodes, unitNodes } from "./tokens.js";

export const PANES = ["baseline", "steered"];

/** Answers that grow piece by piece, written to the page once a frame. */
export class Answers {
  constructor() {
    this.panes = PANES.map((name) => /** @type {HTMLElement} */ (document.getElementById(name)));
    this.proof = /** @type {HTMLElement} */ (document.getElementById("proof"));
    /** @type {Node[][]} */
    this.waiting = [[], []];
    this.counts = [0, 0];
    this.frame = 0;
  }

  clear() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.waiting = [[], []];
    this.counts = [0, 0];
    for (const pane of this.panes) pane.replaceChildren();
    this.proof.replaceChildren();
  }

  /** @param {number} pane @param {any} piece */
  push(pane, piece) {
    this.counts[pane] = piece.n;
    const nodes = partNodes(piece.parts);
    if (piece.first && piece.text.trim()) {
      const first = element("span", "first", "");
      first.title = "the first token that differs";
      first.append(nodes);
      this.waiting[pane].push(first);
    } else {
      this.waiting[pane].push(nodes);
    }
    this.frame ||= requestAnimationFrame(() => this.write());
  }

  write() {
    this.frame = 0;
    this.waiting.forEach((nodes, pane) => {
      if (nodes.length > 0) this.panes[pane].append(...nodes);
    });
    this.waiting = [[], []];
  }

  /** The end: shaded answers, and the proof. @param {any} done @param {Map<number, string>} labels */
  finish(done, labels) {
    this.write();
    if (done.units) done.units.forEach((/** @type {any} */ units, /** @type {number} */ pane) => {
      if (units.length > 0) this.panes[pane].replaceChildren(unitNodes(units, pane === 1 ? done.first_difference : null));
    });
    const total = done.tokens.baseline + done.tokens.steered;
    const speed = (total / Math.max(done.seconds, 1e-3)).toFixed(0);
    const parting = done.first_difference === null ? "the answers do not differ" : `first differs at token ${done.first_difference + 1}`;
    const shade = done.shaded === null ? "" : ` · shaded: ${labels.get(done.shaded) ?? `feature ${done.shaded}`}`;
    const lines = [element("p", "dim", `${total} tokens, ${speed} a second · same seed · ${parting}${shade}`)];
    for (const edit of done.edits) lines.push(element("p", "", proofLine(edit)));
    const push = Math.max(0, ...done.edits.map((/** @type {any} */ edit) => edit.mean_norm_change)) / done.mean_residual_norm;
    if (done.edits.length > 0) lines.push(strength(push));
    const reason = done.finish_reason.steered;
    if (reason === "numbers") lines.push(element("p", "push strong", "The model's numbers broke under this edit; use less."));
    this.proof.replaceChildren(...lines);
  }
}

/** @param {any} edit @returns {string} */
function proofLine(edit) {
  const before = edit.mean_activation_before.toFixed(2);
  const after = edit.realised_activation.toFixed(2);
  return `${edit.edit}: ${edit.positions_edited} positions edited, mean change ${edit.mean_norm_change.toFixed(2)}, `
    + `activation ${before} → ${after}`;
}

/** @param {number} push @returns {HTMLElement} */
function strength(push) {
  const line = element("p", push > 1 ? "push strong" : "push", "");
  const meter = document.createElement("meter");
  Object.assign(meter, { min: 0, max: 1.5, low: 0, high: 1, optimum: 0.4, value: Math.min(push, 1.5) });
  meter.setAttribute("aria-label", "push in multiples of the residual norm");
  const says = push > 1 ? "; answers often break up here" : "";
  line.append(meter, `push ${push.toFixed(2)} of the residual norm${says}`);
  return line;
}
