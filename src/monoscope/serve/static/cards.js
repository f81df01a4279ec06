// A feature as a card, the same as the server draws.

import { element, unitNodes } from "./tokens.js";

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} path @returns {SVGSVGElement} */
function thumbnail(path) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "spark");
  picture.setAttribute("viewBox", "0 0 60 16");
  picture.setAttribute("aria-hidden", "true");
  const bars = document.createElementNS(SVG, "path");
  bars.setAttribute("d", path);
  picture.append(bars);
  return picture;
}

/** @param {string} address @param {string} text @returns {HTMLAnchorElement} */
export function link(address, text) {
  const made = document.createElement("a");
  made.href = address;
  made.append(element("bdi", "", text));
  return made;
}

/** @param {any} hit @param {string} dictionary @returns {HTMLElement} */
export function card(hit, dictionary) {
  const { shown } = hit;
  const name = encodeURIComponent(dictionary);
  const made = element("li", "card", "");
  made.dataset.item = "";
  const open = link(`/f/${name}/${hit.feature}`, shown.label);
  open.dataset.open = "";
  const label = element("h2", "label", "");
  label.append(open);
  const meta = element("span", "meta", "");
  meta.append(element("span", "num", String(hit.feature)), thumbnail(shown.spark), element("span", "", shown.density),
    element("span", "", hit.score.toFixed(2)));
  const head = element("div", "card-head", "");
  head.append(label, meta);
  const snippet = element("p", "tokens snippet", "");
  snippet.dir = "auto";
  snippet.append(shown.before ? "…" : "", unitNodes(shown.units), shown.after ? " …" : "");
  const steer = link(`/steer?add=${hit.feature}&dictionary=${name}`, "Steer");
  steer.className = "verb";
  steer.dataset.steer = "";
  steer.setAttribute("aria-label", `Steer with ${shown.label}`);
  const foot = element("p", "card-foot", "");
  foot.append(element("span", "dim", shown.why), steer);
  made.append(head, snippet, foot);
  return made;
}
