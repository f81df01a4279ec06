// An atlas read from the disk. Data come as scripts that call monoscope.shard; every text in them becomes a text node, and
// nothing is ever parsed as HTML.
"use strict";

const monoscope = (() => {
  const SHOWN = 30, KEPT = 48;
  const SVG = "http://www.w3.org/2000/svg";
  const main = document.getElementById("main");
  const box = document.getElementById("search");
  const spoken = document.getElementById("spoken");
  const waiting = new Map();
  const shards = new Map();
  let atlas = null, places = new Map(), folded = [], turn = 0, typing = 0;

  // ---- data

  /** The value of a data script, loaded when it is first asked for. */
  function load(kind, number) {
    const key = `${kind}-${number}`;
    const found = shards.get(key);
    if (found) {
      shards.delete(key);
      shards.set(key, found);
      return found;
    }
    const promise = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      waiting.set(key, resolve);
      script.onload = () => script.remove();
      script.onerror = () => {
        script.remove();
        shards.delete(key);
        reject(new Error(`data/${key}.js is missing from this folder.`));
      };
      script.src = `data/${key}.js`;
      document.head.append(script);
    });
    shards.set(key, promise);
    if (shards.size > KEPT) shards.delete(shards.keys().next().value);
    return promise;
  }

  function shard(kind, number, value) {
    if (kind === "index") {
      open(value);
      return;
    }
    const key = `${kind}-${number}`;
    waiting.get(key)?.(value);
    waiting.delete(key);
  }

  async function part(kind, place) {
    const size = atlas.shards[kind];
    return (await load(kind, Math.floor(place / size)))[place % size];
  }

  // ---- nodes

  function node(tag, className = "", ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  function drawn(tag, attributes, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    made.append(...children);
    return made;
  }

  function partNode(piece) {
    if (typeof piece === "string") return [piece];
    const [kind, text] = piece;
    if (kind === "break") return [node("i", "z", text), node("br")];
    return [kind === "chip" ? node("b", "chip", text) : node("i", "z", text)];
  }

  /** Pieces as nodes; without `breaks` all stays on one line. */
  function pieceNodes(pieces, largest, breaks = true) {
    const nodes = document.createDocumentFragment();
    for (const piece of pieces) {
      if (typeof piece === "string" || typeof piece[0] === "string") {
        nodes.append(...partNode(piece));
        continue;
      }
      const [level, value, ...parts] = piece;
      const inside = parts.flatMap(partNode);
      const last = inside.at(-1)?.nodeName === "BR" ? inside.pop() : null;
      const span = node("span", shade(level), ...inside);
      span.title = `${value.toFixed(2)}  ·  ${Math.round((100 * Math.abs(value)) / largest)} % of the largest`;
      nodes.append(span);
      if (last) nodes.append(last);
    }
    if (!breaks) for (const each of nodes.querySelectorAll("br")) each.replaceWith(" ");
    return nodes;
  }

  const shade = (level) => (level ? `${level > 0 ? "p" : "n"}${Math.abs(level)}` : "");
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);

  function share(value) {
    if (value <= 0) return "0 %";
    return `${Number((100 * value).toPrecision(2))} %`;
  }

  function link(feature, label) {
    const text = node("bdi", "", label);
    if (!places.has(feature)) return text;
    const made = node("a", "", text);
    made.href = `#f=${feature}`;
    return made;
  }

  function spark(path) {
    return drawn("svg", { class: "spark", viewBox: "0 0 60 16", "aria-hidden": "true" }, drawn("path", { d: path }));
  }

  // ---- lists

  function card(place) {
    const feature = atlas.feature[place];
    const meta = node("span", "meta n", node("span", "", String(feature)), share(atlas.density[place]));
    const text = node("p", "tokens snippet");
    text.dir = "auto";
    const item = node("li", "", node("div", "card-head", link(feature, atlas.label[place]), meta), text);
    part("cards", place).then((found) => {
      if (found.spark) meta.children[0].after(spark(found.spark));
      if (!found.pieces.length) text.append(node("span", "dim", "Never fired in this text."));
      else {
        const largest = Math.max(...found.pieces.map((piece) => (typeof piece[0] === "number" ? Math.abs(piece[1]) : 0)));
        text.append(found.cut[0] ? "… " : "", pieceNodes(found.pieces, largest, false), found.cut[1] ? " …" : "");
      }
    }, (error) => text.append(node("span", "dim", error.message)));
    return item;
  }

  /** A list of features with a button for more. */
  function cards(found) {
    const list = node("ol", "cards"), more = node("button", "", "Show more");
    let shown = 0;
    more.type = "button";
    more.onclick = () => {
      list.append(...found.slice(shown, shown + SHOWN).map(card));
      shown += SHOWN;
      more.hidden = shown >= found.length;
    };
    more.onclick();
    return [list, more];
  }

  function home() {
    const { about } = atlas;
    const some = atlas.feature.length < about.of_features ? ` of ${about.of_features.toLocaleString("en")}` : "";
    document.title = `${about.dictionary} · ${about.model}`;
    const lead = node("p", "lead",
      `${atlas.feature.length.toLocaleString("en")}${some} features of ${about.model} at ${about.site}, ` +
      `from ${about.tokens.toLocaleString("en")} tokens of text. Shades say how strongly a feature fires on a token.`);
    const first = atlas.highlights.map((feature) => places.get(feature));
    const all = [...atlas.feature.keys()];
    main.replaceChildren(node("h1", "", "Features"), lead);
    if (first.length) main.append(node("h2", "", "Worth a first look"), ...cards(first));
    main.append(node("h2", "", "All features ", node("span", "dim", "by number")), ...cards(all));
  }

  // ---- search

  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

  /** 3 for a whole word, 2 for its beginning, 1 for a part, a little more where the label starts; 0 when it lacks it. */
  function score(label, word) {
    let best = 0;
    for (let at = label.indexOf(word); at >= 0; at = label.indexOf(word, at + 1)) {
      const begins = at === 0 || !/[\p{L}\p{N}]/u.test(label[at - 1]);
      const ends = at + word.length === label.length || !/[\p{L}\p{N}]/u.test(label[at + word.length]);
      best = Math.max(best, (begins && ends ? 3 : begins ? 2 : 1) + (at === 0 ? 0.5 : 0));
    }
    return best;
  }

  /** Places of features whose label has every word, best first; a feature's number finds it. */
  function find(query) {
    const words = fold(query).split(/\s+/).filter(Boolean);
    const hits = [];
    for (let place = 0; place < folded.length && words.length; place++) {
      let sum = String(atlas.feature[place]) === query.trim() ? 100 : 0;
      if (!sum) {
        for (const word of words) {
          const found = score(folded[place], word);
          sum = found ? sum + found : -Infinity;
        }
      }
      if (sum > 0) hits.push([sum - folded[place].length / 1000 + atlas.score[place], place]);
    }
    return hits.sort((a, b) => b[0] - a[0] || a[1] - b[1]).map((hit) => hit[1]);
  }

  function results(query) {
    const found = find(query);
    document.title = `${query} · ${atlas.about.dictionary}`;
    const says = found.length === 1 ? "1 feature" : `${found.length.toLocaleString("en")} features`;
    spoken.textContent = says;
    main.replaceChildren(node("h1", "", says, node("span", "dim", " for ", node("bdi", "", query))));
    if (found.length) main.append(...cards(found));
    else main.append(node("p", "lead", "No label has all of these words. Try fewer words, or the beginning of one."));
  }

  // ---- one feature

  function histogram(edges, counts) {
    const width = 360, height = 96, step = width / counts.length, top = Math.log1p(Math.max(...counts));
    const bars = counts.map((count, i) => {
      if (!count) return "";
      const tall = Math.max(0.06, Math.log1p(count) / top) * height;
      const told = drawn("title", {}, `${edges[i].toFixed(2)} to ${edges[i + 1].toFixed(2)}: ${count.toLocaleString("en")}`);
      return drawn("rect", { x: i * step + 0.5, y: height - tall, width: Math.max(step - 1, 0.5), height: tall }, told);
    });
    const told = `Histogram of activations from ${edges[0].toFixed(2)} to ${edges.at(-1).toFixed(2)}, height on a log scale`;
    return drawn("svg", { class: "hist", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": told }, ...bars);
  }

  function legend(from, to) {
    const steps = [1, 2, 3, 4, 5, 6, 7, 8].map((level) => node("i", `p${level}`));
    return node("p", "legend n", from.toFixed(2), ...steps, to.toFixed(2));
  }

  function table(rows) {
    return node("table", "", node("tbody", "", ...rows.map((cells) => node("tr", "", ...cells))));
  }

  function pointed(title, tokens) {
    const rows = tokens.map(([parts, level, value]) => [
      node("td", "", node("bdi", "token", ...parts.flatMap(partNode).filter((each) => each.nodeName !== "BR"))),
      node("td", "n", node("span", `v ${shade(level)}`, signed(value)))]);
    return node("div", "", ...(tokens.length ? [node("h2", "", title), table(rows)] : []));
  }

  function beside(title, note, others, write) {
    if (!others.length) return [];
    const rows = others.map(([feature, label, figure]) => [node("td", "n", write(figure)), node("td", "", link(feature, label))]);
    return [node("h2", "", title, " ", node("span", "dim", note)), table(rows)];
  }

  function same(text, feature) {
    if (feature === null) return [];
    const place = places.get(feature);
    return [node("p", "", text, link(feature, place === undefined ? `feature ${feature}` : atlas.label[place]), ".")];
  }

  function facts(found) {
    const { about } = atlas;
    const [token, often] = found.typical;
    const side = node("aside", "", node("h1", "", node("bdi", "", found.label)),
      node("p", "dim", `${about.dictionary} · ${about.site} · feature ${found.feature}`),
      node("p", "", `Label score ${found.score.toFixed(2)} `,
        node("span", "dim", `(0.5 is chance; on another feature it scores ${found.control.toFixed(2)})`)),
      steps(found.feature),
      ...same("Nearly the same as ", found.duplicate), ...same("Where it misses its typical token, another often fires: ", found.absorbed));
    if (!found.counts.length) return side;
    side.append(node("h2", "", "Activations ", node("span", "dim", `fires on ${share(found.density)} of tokens`)),
      histogram(found.edges, found.counts), legend(found.edges[0], found.largest));
    if (often > 0) {
      side.append(node("p", "", `${Math.round(100 * often)} % of firings are on `, node("bdi", "token", ...token.flatMap(partNode))));
    }
    side.append(node("div", "two", pointed("Raises", found.raises), pointed("Lowers", found.lowers)),
      ...beside("Nearest", "by decoder cosine", found.near, (figure) => figure.toFixed(2)),
      ...beside("Fires with", "times more often than by chance", found.together, (figure) => `${Number(figure.toPrecision(2))}×`));
    if (found.sources.length) {
      const rows = found.sources.map(([name, rate]) => [node("td", "", name), node("td", "n", share(rate))]);
      side.append(node("h2", "", "Where ", node("span", "dim", "share of each source's tokens")), table(rows));
    }
    return side;
  }

  function steps(feature) {
    const place = places.get(feature);
    const made = [[place - 1, "‹ Previous", "prev"], [place + 1, "Next ›", "next"]].map(([other, text, rel]) => {
      const button = node("a", "button", text);
      button.href = `#f=${atlas.feature[other]}`;
      button.rel = rel;
      button.hidden = atlas.feature[other] === undefined;
      return button;
    });
    return node("p", "steps", ...made);
  }

  function examples(found) {
    const made = node("div", "examples");
    if (!found.groups.length) made.append(node("p", "lead", "Never fired in this text."));
    for (const group of found.groups) {
      const items = group.contexts.map(([value, pieces, where, language]) => {
        const text = node("p", "tokens", pieceNodes(pieces, found.largest));
        text.dir = "auto";
        if (/^[a-zA-Z-]{2,12}$/.test(language)) text.lang = language;
        return node("li", "", node("span", "peak n", value.toFixed(2)), text, node("p", "where", node("bdi", "", where)));
      });
      made.append(node("h2", "", `${group.name} `, node("span", "dim", String(items.length))), node("ol", "contexts", ...items));
    }
    return made;
  }

  async function feature(number) {
    const mine = ++turn;
    const place = places.get(number);
    if (place === undefined) return sorry(`This export has no feature ${number}.`);
    try {
      const found = await part("features", place);
      if (mine !== turn) return undefined;
      document.title = `${found.label} · ${number} · ${atlas.about.dictionary}`;
      main.replaceChildren(node("div", "feature", facts(found), examples(found)));
      window.scrollTo(0, 0);
    } catch (error) {
      sorry(error.message);
    }
    return undefined;
  }

  function sorry(text) {
    main.replaceChildren(node("h1", "", "Not here"), node("p", "lead", text));
  }

  // ---- the page

  function route() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("f")) return feature(Number(wanted.get("f")));
    turn++;
    const query = (wanted.get("q") ?? "").slice(0, 200);
    if (document.activeElement !== box) box.value = query;
    return query.trim() ? results(query) : home();
  }

  function search() {
    const query = box.value.trim();
    const address = query ? `#q=${encodeURIComponent(query)}` : "#";
    if (location.hash === address || (!query && !location.hash)) return;
    if (location.hash.startsWith("#q=")) {
      history.replaceState(null, "", address);
      route();
    } else location.hash = address;
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === box) return;
    if (event.key === "/") {
      event.preventDefault();
      box.focus();
      box.select();
    }
    const rel = { "[": "prev", "]": "next" }[event.key];
    const step = rel && main.querySelector(`a[rel=${rel}]:not([hidden])`);
    if (step) step.click();
  }

  function open(value) {
    atlas = value;
    places = new Map(value.feature.map((feature, place) => [feature, place]));
    folded = value.label.map(fold);
    document.getElementById("foot").replaceChildren(
      node("p", "", `Made with monoscope. Model: ${value.about.model}.`), ...value.credits.map((text) => node("p", "", text)));
    box.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(search, 120);
    });
    document.getElementById("form").addEventListener("submit", (event) => {
      event.preventDefault();
      search();
    });
    document.querySelector("[data-skip]").addEventListener("click", (event) => {
      event.preventDefault();
      main.focus();
    });
    addEventListener("hashchange", route);
    addEventListener("keydown", keys);
    route();
  }

  return { shard };
})();
