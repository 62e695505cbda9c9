"use strict";
// Texts of rows reach the page through textContent only: nothing in them is ever read as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { clusters, examples, odd, flagNames } = data;
  const plane = data.map;
  const K = clusters.id.length;
  const placeOf = new Map(clusters.id.map((id, place) => [id, place]));
  const byId = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat("en");
  const total = clusters.size.reduce((sum, size) => sum + size, 0);
  const FLAG_TEXT = { empty: "empty", tiny: "tiny", giant: "giant", twin: "near twin", loose: "loose" };

  // ------------------------------------------------------------- small parts

  function el(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function svg(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const SHAPES = ["M6 1a5 5 0 1 0 0 10A5 5 0 1 0 6 1Z", "M1.6 1.6H10.4V10.4H1.6Z", "M6 .6L11.6 10.4H.4Z"];

  function mark(place) {
    const style = clusters.style[place];
    const path = svg("path", { d: SHAPES[style % 3], fill: "currentColor" });
    return svg("svg", { class: `mark c${style % 8}`, viewBox: "0 0 12 12", "aria-hidden": "true" }, path);
  }

  const [low, high] = data.range;
  const share = (value) => `${Math.min(100, Math.max(0, (100 * (value - low)) / (high - low || 1))).toFixed(2)}%`;

  function box(place) {
    const [least, quarter, median, three, most] = clusters.quantiles[place];
    const said = `5 % below ${least.toFixed(3)}, median ${median.toFixed(3)}, 5 % above ${most.toFixed(3)}`;
    const node = svg("svg", { class: "box", role: "img", "aria-label": said });
    if (!clusters.size[place]) return node;
    const width = `${Math.max(0.5, parseFloat(share(three)) - parseFloat(share(quarter)))}%`;
    node.append(
      svg("line", { class: "whisker", x1: share(least), x2: share(most), y1: "50%", y2: "50%" }),
      svg("rect", { class: "middle", x: share(quarter), width, y: "10%", height: "80%", rx: 2 }),
      svg("line", { class: "median", x1: share(median), x2: share(median), y1: "0", y2: "100%" }),
    );
    return node;
  }

  const flagsOf = (place) => flagNames.filter((_, bit) => (clusters.flags[place] >> bit) & 1);
  const wordsOf = (place) => (clusters.words ? clusters.words[place] : []);

  function badges(place) {
    const names = flagsOf(place);
    if (!names.length) return null;
    return el("span", { className: "flags" }, ...names.map((name) => el("span", { className: "flag" }, FLAG_TEXT[name])));
  }

  function rowText(example) {
    return examples.text[example] || `row ${whole.format(examples.row[example])}`;
  }

  function picture(example) {
    const source = examples.picture && examples.picture[example];
    return source ? el("img", { src: source, alt: rowText(example), decoding: "async" }) : null;
  }

  function link(id, before = "cluster ") {
    const name = `${before}${id}`;
    if (!placeOf.has(id)) return document.createTextNode(name);
    return el("button", { type: "button", className: "go link", onclick: () => open(id) }, name);
  }

  // ------------------------------------------------------------------- table

  const state = { sort: "size", down: true, query: "", flag: null, limit: 100, found: [] };
  const body = byId("table").tBodies[0];
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  let haystacks = null;

  function haystack(place) {
    haystacks ??= clusters.id.map((id, where) =>
      plain([id, `#${id}`, ...wordsOf(where), ...[...clusters.best[where], ...clusters.worst[where]].map((row) => examples.text[row])].join("\n")),
    );
    return haystacks[place];
  }

  const keys = {
    id: (place) => clusters.id[place],
    size: (place) => clusters.size[place],
    mean: (place) => clusters.mean[place],
    spread: (place) => clusters.spread[place],
    near: (place) => (clusters.cosine[place].length ? clusters.cosine[place][0] : -2),
  };

  function find() {
    const terms = plain(state.query).split(/\s+/).filter(Boolean);
    const bit = flagNames.indexOf(state.flag);
    const key = keys[state.sort];
    const way = state.down ? -1 : 1;
    state.found = [...clusters.id.keys()]
      .filter((place) => bit < 0 || (clusters.flags[place] >> bit) & 1)
      .filter((place) => terms.every((term) => haystack(place).includes(term)))
      .sort((a, b) => way * (key(a) - key(b)) || clusters.id[a] - clusters.id[b]);
  }

  function line(place) {
    const id = clusters.id[place];
    const words = wordsOf(place).slice(0, 6);
    const closest = clusters.best[place].slice(0, 3);
    const thumbs = closest.map(picture).filter(Boolean);
    const what = el("td", { className: "what" });
    if (words.length) what.append(el("div", { className: "said" }, ...words.map((word) => el("bdi", { className: "word" }, word)), badges(place)));
    else if (badges(place)) what.append(badges(place));
    if (thumbs.length) what.append(el("div", { className: "thumbs" }, ...thumbs));
    else if (closest.length) what.append(el("div", { className: "sample", dir: "auto" }, examples.text[closest[0]] || `rows ${closest.map((row) => whole.format(examples.row[row])).join(", ")}`));
    const meter = el("span", { className: "meter" });
    meter.style.width = `${(100 * clusters.size[place]) / largest}%`;
    const near = clusters.near[place][0];
    return el(
      "tr",
      { onclick: (event) => event.target.closest("button") || open(id) },
      el("th", { scope: "row" }, el("button", { type: "button", className: "go", onclick: () => open(id), "aria-label": `Open cluster ${id}` }, mark(place), String(id))),
      what,
      el("td", { className: "num" }, whole.format(clusters.size[place]), meter),
      el("td", { className: "num" }, clusters.size[place] ? clusters.mean[place].toFixed(3) : "–"),
      el("td", { className: "spread", title: `standard deviation ${clusters.spread[place].toFixed(3)}` }, box(place)),
      el("td", { className: "near" }, ...(near === undefined ? ["–"] : [link(near, ""), " ", el("span", { className: "cosine" }, clusters.cosine[place][0].toFixed(3))])),
    );
  }

  const largest = Math.max(1, ...clusters.size);

  function draw() {
    const shown = state.found.slice(0, state.limit);
    body.replaceChildren(...shown.map(line));
    byId("count").toggleAttribute("data-shown", shown.length < state.found.length);
    if (shown.length < state.found.length) byId("count").dataset.shown = whole.format(shown.length);
    if (!shown.length) body.append(el("tr", {}, el("td", { className: "none", colSpan: 6 }, "No cluster fits this search.")));
    byId("count").textContent = state.found.length === K ? `${whole.format(K)} cluster${K === 1 ? "" : "s"}` : `${whole.format(state.found.length)} of ${whole.format(K)} clusters`;
    byId("more").hidden = state.found.length <= state.limit;
    for (const button of document.querySelectorAll("#table thead button")) {
      const column = button.closest("th");
      if (button.dataset.sort === state.sort) column.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else column.removeAttribute("aria-sort");
    }
    for (const chip of byId("chips").children) chip.setAttribute("aria-pressed", String(chip.dataset.flag === state.flag));
  }

  function update() {
    find();
    state.limit = 100;
    draw();
    if (plane) paint();
  }

  function show(flag) {
    state.flag = state.flag === flag ? null : flag;
    update();
  }

  function setUpTable() {
    for (const id of ["table", "table-bar"]) byId(id).hidden = false;
    for (const name of flagNames) {
      const count = clusters.id.reduce((sum, _, place) => sum + flagsOf(place).includes(name), 0);
      if (count) byId("chips").append(el("button", { type: "button", "data-flag": name, onclick: () => show(name) }, `${FLAG_TEXT[name]} ${whole.format(count)}`));
    }
    for (const button of document.querySelectorAll("#table thead button")) {
      button.onclick = () => {
        const column = button.dataset.sort;
        state.down = state.sort === column ? !state.down : column !== "id";
        state.sort = column;
        update();
      };
    }
    byId("search").oninput = (event) => { state.query = event.target.value; update(); };
    for (const button of document.querySelectorAll("#more button")) {
      button.onclick = () => {
        const first = state.limit;
        state.limit += button.dataset.more === "all" ? K : 100;
        draw();
        body.rows[first]?.querySelector("button").focus();
      };
    }
    for (const button of document.querySelectorAll("[data-show]")) {
      button.onclick = () => {
        state.flag = button.dataset.show;
        state.query = byId("search").value = "";
        update();
        byId("clusters").scrollIntoView();
        body.querySelector("button")?.focus({ preventScroll: true });
      };
    }
    body.onkeydown = (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const target = step && body.rows[event.target.closest("tr").sectionRowIndex + step];
      if (!target) return;
      event.preventDefault();
      target.querySelector("button").focus();
    };
  }

  // ------------------------------------------------------------- one cluster

  const dialog = byId("cluster");
  let current = null;
  let cameFrom = null;

  function rowList(rows, withSecond) {
    return el("ol", { className: "rows" }, ...rows.map((example) => rowItem(example, withSecond)));
  }

  function rowItem(example, withSecond, withCluster = false) {
    const notes = [];
    if (examples.text[example]) notes.push(`row ${whole.format(examples.row[example])}`);
    if (withCluster) notes.push(link(examples.cluster[example]));
    if (withSecond && examples.second) notes.push(el("span", {}, "next best ", link(examples.second[example]), ` ${examples.cosine[example].toFixed(3)}`));
    const small = el("small", {}, ...notes.flatMap((note, index) => (index ? [" · ", note] : [note])));
    return el(
      "li",
      {},
      el("span", { className: "cosine" }, examples.similarity[example].toFixed(3)),
      el("div", { className: "text" }, picture(example), el("div", { dir: "auto" }, rowText(example)), small),
    );
  }

  const figure = (value, name) => el("div", {}, el("b", {}, value), el("span", {}, name));

  function wordList(place) {
    const percent = (value) => `${Math.round(100 * value)} %`;
    return el("ul", { className: "words" }, ...wordsOf(place).map((word, rank) => el("li", {}, el("span", { dir: "auto" }, word), el("small", {}, percent(clusters.shares[place][rank])))));
  }

  function neighbours(place) {
    return el("ul", { className: "neighbours" }, ...clusters.near[place].map((id, rank) => {
      const other = placeOf.get(id);
      const words = other === undefined ? "" : wordsOf(other).slice(0, 4).join(" · ") || `${whole.format(clusters.size[other])} rows`;
      const said = el("button", { type: "button", onclick: () => open(id), disabled: other === undefined },
        el("span", { className: "cosine" }, clusters.cosine[place][rank].toFixed(3)),
        el("span", {}, other === undefined ? "" : mark(other), String(id)),
        el("span", { className: "text", dir: "auto" }, words));
      return el("li", {}, said);
    }));
  }

  function page(place) {
    const size = clusters.size[place];
    const parts = [];
    if (badges(place)) parts.push(badges(place));
    parts.push(el("div", { className: "key" },
      figure(whole.format(size), `rows, ${((100 * size) / total).toFixed(size / total < 0.01 ? 2 : 1)} %`),
      figure(size ? clusters.mean[place].toFixed(3) : "–", "mean similarity"),
      figure(size ? clusters.spread[place].toFixed(3) : "–", "spread")));
    if (wordsOf(place).length) parts.push(el("h3", {}, "Distinctive words"), wordList(place));
    if (size) parts.push(el("h3", {}, "Similarity of its rows"), box(place), el("div", { className: "axis" }, el("span", {}, low.toFixed(2)), el("span", {}, high.toFixed(2))));
    if (clusters.best[place].length) parts.push(el("h3", {}, "Closest rows"), rowList(clusters.best[place], false));
    if (clusters.worst[place].length) parts.push(el("h3", {}, "Worst-fitting rows"), rowList(clusters.worst[place], true));
    if (clusters.near[place].length) parts.push(el("h3", {}, "Nearest clusters"), neighbours(place));
    return parts;
  }

  function open(id) {
    const place = placeOf.get(id);
    if (place === undefined) return;
    current = place;
    const rank = state.found.indexOf(place);
    byId("cluster-title").replaceChildren(mark(place), `Cluster ${id}`, el("span", { className: "of" }, rank < 0 ? "" : `${whole.format(rank + 1)} of ${whole.format(state.found.length)}`));
    byId("cluster-body").replaceChildren(...page(place));
    byId("previous").disabled = rank <= 0;
    byId("next").disabled = rank < 0 || rank >= state.found.length - 1;
    if (!dialog.open) {
      cameFrom = document.activeElement;
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    byId("cluster-title").focus({ preventScroll: true });
    history.replaceState(null, "", `#cluster-${id}`);
    if (plane) paint();
  }

  function step(by) {
    const place = state.found[state.found.indexOf(current) + by];
    if (current !== null && place !== undefined) open(clusters.id[place]);
  }

  function setUpDialog() {
    byId("previous").onclick = () => step(-1);
    byId("next").onclick = () => step(1);
    byId("close").onclick = () => dialog.close();
    dialog.onclick = (event) => event.target === dialog && event.offsetX < 0 && dialog.close();
    dialog.onkeydown = (event) => {
      if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "ArrowRight") step(1);
    };
    dialog.onclose = () => {
      current = null;
      history.replaceState(null, "", location.pathname + location.search);
      if (cameFrom?.isConnected) cameFrom.focus();
      if (plane) paint();
    };
    const fromAddress = () => {
      const found = /^#cluster-(\d+)$/.exec(location.hash);
      if (found) open(Number(found[1]));
    };
    addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  // --------------------------------------------------------------------- map

  const canvas = byId("plane");
  const view = { colour: "cluster", at: null, width: 0, height: 0, scale: 1, left: 0, top: 0 };

  function colours() {
    return [...byId("swatches").children].map((swatch) => getComputedStyle(swatch).color);
  }

  // the colour of a similarity, between two of the ramp's five
  function shade(value, ramp) {
    const position = 4 * Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
    const from = Math.min(3, Math.floor(position));
    return `rgb(${ramp[from].map((part, index) => Math.round(part + (position - from) * (ramp[from + 1][index] - part))).join(" ")})`;
  }

  const xOf = (point) => view.left + view.scale * plane.x[point];
  const yOf = (point) => view.height - view.top - view.scale * plane.y[point];

  function fitView() {
    const ratio = window.devicePixelRatio || 1;
    view.width = canvas.clientWidth;
    view.height = canvas.clientHeight;
    canvas.width = Math.round(view.width * ratio);
    canvas.height = Math.round(view.height * ratio);
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    const [right, top] = [Math.max(...plane.x), Math.max(...plane.y)];
    view.scale = Math.min((view.width - 48) / (right || 1), (view.height - 48) / (top || 1));
    view.left = (view.width - view.scale * right) / 2;
    view.top = (view.height - view.scale * top) / 2;
  }

  function dot(context, point, radius, shape) {
    const [x, y] = [xOf(point), yOf(point)];
    context.beginPath();
    if (shape === 1) context.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
    else if (shape === 2) {
      context.moveTo(x, y - 1.25 * radius);
      context.lineTo(x + 1.15 * radius, y + 0.85 * radius);
      context.lineTo(x - 1.15 * radius, y + 0.85 * radius);
      context.closePath();
    } else context.arc(x, y, radius, 0, 7);
    context.fill();
  }

  // the clusters that stand out: the one that is open, pointed at, or what the search left over
  function inLight() {
    if (current !== null) return new Set([clusters.id[current]]);
    if (view.at !== null) return new Set([plane.cluster[view.at]]);
    return state.found.length < K ? new Set(state.found.map((place) => clusters.id[place])) : null;
  }

  function paint() {
    const context = canvas.getContext("2d");
    const paper = colours();
    const [ink, ground, faint] = paper.slice(8, 11);
    const ramp = paper.slice(11).map((colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number));
    const light = inLight();
    const n = plane.x.length;
    const radius = (n > 1500 ? 3 : n > 400 ? 3.4 : 4.5) * Math.min(1, Math.max(0.62, view.width / 900));
    context.clearRect(0, 0, view.width, view.height);
    for (const lit of light ? [false, true] : [true]) {
      context.globalAlpha = lit ? 0.85 : 0.55;
      for (let point = 0; point < n; point += 1) {
        if (light && light.has(plane.cluster[point]) !== lit) continue;
        const style = clusters.style[placeOf.get(plane.cluster[point])];
        context.fillStyle = !lit ? faint : view.colour === "cluster" ? paper[style % 8] : shade(plane.similarity[point], ramp);
        dot(context, point, lit && light ? radius + 1 : radius, style % 3);
      }
    }
    context.globalAlpha = 1;
    names(context, light, ink, ground);
    if (view.at !== null) {
      context.lineWidth = 2;
      context.strokeStyle = ink;
      context.beginPath();
      context.arc(xOf(view.at), yOf(view.at), radius + 4, 0, 7);
      context.stroke();
    }
  }

  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];

  // at the median row of each cluster, largest clusters first
  const anchors = plane && (() => {
    const points = new Map();
    plane.cluster.forEach((id, point) => (points.get(id) ?? points.set(id, []).get(id)).push(point));
    return [...points].filter(([, rows]) => rows.length > 2 || K < 30).sort((a, b) => b[1].length - a[1].length)
      .map(([id, rows]) => ({ id, x: middle(rows.map((row) => plane.x[row])), y: middle(rows.map((row) => plane.y[row])) }));
  })();

  function names(context, light, ink, ground) {
    const taken = [];
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const { id, x, y } of anchors.filter((anchor) => !light || light.has(anchor.id))) {
      if (taken.length >= 14) break;
      const label = wordsOf(placeOf.get(id)).slice(0, 2).join(", ") || String(id);
      const half = context.measureText(label).width / 2 + 4;
      const at = Math.min(view.width - half, Math.max(half, view.left + view.scale * x));
      const line = view.height - view.top - view.scale * y;
      if (taken.some((other) => Math.abs(other.at - at) < other.half + half && Math.abs(other.line - line) < 19)) continue;
      taken.push({ at, half, line });
      context.lineWidth = 4;
      context.strokeStyle = ground;
      context.strokeText(label, at, line);
      context.fillStyle = ink;
      context.fillText(label, at, line);
    }
  }

  function closest(x, y, reach) {
    let best = null;
    let least = reach * reach;
    for (let point = 0; point < plane.x.length; point += 1) {
      const squared = (xOf(point) - x) ** 2 + (yOf(point) - y) ** 2;
      if (squared < least) [best, least] = [point, squared];
    }
    return best;
  }

  function pointAt(point) {
    if (point === view.at) return;
    view.at = point;
    const tip = byId("tip");
    tip.hidden = point === null;
    canvas.style.cursor = point === null ? "" : "pointer";
    if (point !== null) {
      const text = plane.text[point] || `row ${whole.format(plane.row[point])}`;
      const where = `Cluster ${plane.cluster[point]}, similarity ${plane.similarity[point].toFixed(3)}`;
      tip.replaceChildren(el("b", {}, where), el("span", { dir: "auto" }, text));
      byId("map-said").textContent = `${where}: ${text}`;
      const [x, y] = [xOf(point), yOf(point)];
      tip.style.left = `${Math.max(8, Math.min(x + 14, view.width - tip.offsetWidth - 8))}px`;
      tip.style.top = `${y + 18 + tip.offsetHeight > view.height ? Math.max(6, y - tip.offsetHeight - 14) : y + 16}px`;
    }
    paint();
  }

  function walk(dx, dy) {
    if (view.at === null) return pointAt(closest(view.width / 2, view.height / 2, Infinity));
    const [x, y] = [xOf(view.at), yOf(view.at)];
    let best = null;
    let least = Infinity;
    for (let point = 0; point < plane.x.length; point += 1) {
      const [u, v] = [xOf(point) - x, yOf(point) - y];
      const along = u * dx + v * dy;
      // ahead, and within 45 degrees: otherwise arrow keys would walk sideways
      if (point === view.at || along <= 0.01 || Math.abs(u * dy - v * dx) > along) continue;
      if (along < least) [best, least] = [point, along];
    }
    if (best !== null) pointAt(best);
  }

  function setUpMap() {
    byId("map-bar").hidden = false;
    byId("scale-low").textContent = low.toFixed(2);
    byId("scale-high").textContent = high.toFixed(2);
    for (const button of document.querySelectorAll("[data-colour]")) {
      button.onclick = () => {
        view.colour = button.dataset.colour;
        byId("scale").hidden = view.colour !== "similarity";
        for (const other of document.querySelectorAll("[data-colour]")) other.setAttribute("aria-pressed", String(other === button));
        paint();
      };
    }
    const pointer = (event) => closest(event.offsetX, event.offsetY, 14);
    canvas.onpointermove = (event) => pointAt(pointer(event));
    canvas.onpointerleave = () => pointAt(null);
    canvas.onblur = () => pointAt(null);
    canvas.onclick = (event) => {
      const point = pointer(event);
      if (point !== null) open(plane.cluster[point]);
    };
    canvas.onkeydown = (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) walk(...way);
      else if (event.key === "Enter" && view.at !== null) open(plane.cluster[view.at]);
      else if (event.key === "Escape") pointAt(null);
      else return;
      event.preventDefault();
    };
    new ResizeObserver(() => { fitView(); paint(); }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  }

  // -------------------------------------------------------------- whole page

  function setUpTheme() {
    const root = document.documentElement;
    const button = byId("theme");
    const schemes = { auto: "light dark", dark: "dark", light: "light" };
    const names = Object.keys(schemes);
    let at = 0;
    button.hidden = false;
    button.onclick = () => {
      at = (at + 1) % names.length;
      root.style.colorScheme = schemes[names[at]];
      button.textContent = `Theme: ${names[at]}`;
      if (plane) paint();
    };
    // paper is white: the map, which is a picture, must be painted for it
    const wear = (scheme) => { root.style.colorScheme = scheme; if (plane) paint(); };
    addEventListener("beforeprint", () => wear("light"));
    addEventListener("afterprint", () => wear(schemes[names[at]]));
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.ctrlKey || event.metaKey || event.altKey || event.target === byId("search")) return;
    event.preventDefault();
    byId("search").focus();
  });

  find();
  setUpTheme();
  setUpTable();
  draw();
  if (plane) { fitView(); setUpMap(); paint(); }
  byId("odd-rows")?.append(...odd.map((example) => rowItem(example, true, true)));
  setUpDialog();
})();
