// The table of clusters: in chapters, or all in one list; filtered, sorted, searched.
const state = { sort: "size", down: true, query: "", terms: [], prefix: false, flag: null, filter: null, chapters: topics.chapters, folded: new Set(), limit: 100, found: [] };
const CHAPTERS_OPEN_UP_TO = 150; // with more clusters, chapters are closed at first
const body = byId("table").tBodies[0];
const sizeNow = (place) => (state.filter ? state.filter.counts[place] : clusters.size[place]);

const keys = {
  id: (place) => clusters.id[place],
  size: sizeNow,
  mean: (place) => clusters.mean[place],
  spread: (place) => clusters.spread[place],
  near: (place) => (clusters.cosine[place].length ? clusters.cosine[place][0] : -2),
};

function find() {
  const bit = flagNames.indexOf(state.flag);
  const key = keys[state.sort];
  const way = state.down ? -1 : 1;
  const chosen = [...clusters.id.keys()].filter((place) => bit < 0 || (clusters.flags[place] >> bit) & 1).filter((place) => !state.filter || sizeNow(place));
  state.found = searched(chosen).sort((a, b) => way * (key(a) - key(b)) || clusters.id[a] - clusters.id[b]);
  if (!state.chapters) return;
  const rows = Array(T).fill(0);
  for (const place of state.found) rows[clusters.topic[place]] += sizeNow(place);
  const rank = [...rows.keys()].sort((a, b) => rows[b] - rows[a] || a - b).reduce((ranks, topic, at) => ((ranks[topic] = at), ranks), []);
  state.found.sort((a, b) => rank[clusters.topic[a]] - rank[clusters.topic[b]]); // stable: sorted within
}

const narrowed = () => state.found.length < K;
const isOpen = (topic) => narrowed() || !state.folded.has(topic);

function whatCell(place) {
  const words = shownWords(place).map((word) => el("bdi", { className: "word" }, marked(word)));
  const name = clusters.name[place];
  const what = el("td", { className: "what" });
  if (name) what.append(el("div", { className: "said" }, el("bdi", {}, marked(name)), badges(place)));
  if (words.length) what.append(el("div", { className: name ? "sample" : "said" }, words, name ? null : badges(place)));
  else if (!name && badges(place)) what.append(badges(place));
  const closest = clusters.best[place].slice(0, 3);
  const thumbs = closest.map(picture).filter(Boolean);
  if (thumbs.length) what.append(el("div", { className: "thumbs" }, thumbs));
  const named = closest.map((example) => examples.ids?.[example] || whole(examples.row[example]));
  if (closest.length && !examples.text[closest[0]] && !thumbs.length) what.append(el("div", { className: "sample" }, `row${named.length === 1 ? "" : "s"} ${named.join(", ")}`));
  if (closest.length && examples.text[closest[0]]) what.append(el("div", { className: "sample", dir: "auto" }, marked(examples.text[closest[0]])));
  return what;
}

function nearCell(place) {
  const near = clusters.near[place][0];
  if (near === undefined) return el("td", { className: "near" }, "–");
  const other = placeOf.get(near);
  const to = link(near, "");
  if (to.tabIndex !== undefined) to.tabIndex = -1; // one stop per row; the panel has it, too
  const name = other !== undefined && (clusters.name[other] || wordsOf(other).length) ? ` ${shortName(other)}` : "";
  return el("td", { className: "near" }, el("div", { className: "to" }, to, name), el("div", { className: "cosine" }, `cosine ${clusters.cosine[place][0].toFixed(3)}`));
}

function line(place, largest) {
  const id = clusters.id[place];
  const size = sizeNow(place);
  const meter = el("span", { className: "meter" });
  meter.style.width = `${(100 * size) / largest}%`;
  const of = state.filter ? el("span", { className: "cosine" }, ` of ${whole(clusters.size[place])}`) : null;
  return el(
    "tr",
    { onclick: (event) => event.target.closest("button, a") || open(id) },
    el("th", { scope: "row" }, el("button", { type: "button", className: "go", onclick: () => open(id), "aria-label": `Open cluster ${id}` }, mark(clusters.topic[place]), String(id))),
    whatCell(place),
    el("td", { className: "num" }, whole(size), of, meter),
    el("td", { className: "num" }, clusters.size[place] ? clusters.mean[place].toFixed(3) : "–"),
    el("td", { className: "spread", title: `standard deviation ${clusters.spread[place].toFixed(3)}` }, box(place)),
    nearCell(place),
  );
}

function chapter(topic) {
  const members = state.found.filter((place) => clusters.topic[place] === topic);
  const rows = members.reduce((sum, place) => sum + sizeNow(place), 0);
  const fold = el(
    "button",
    { type: "button", className: "fold", "aria-expanded": String(isOpen(topic)), disabled: narrowed(), onclick: () => toggle(topic) },
    mark(topic),
    el("bdi", { className: "said" }, topics.name[topic]),
    el("span", { className: "cosine" }, `${plural(members.length, "cluster")}, ${plural(rows, "row")}`),
  );
  return el("tr", { className: "chapter" }, el("th", { colSpan: 4, scope: "rowgroup" }, fold), el("td", { className: "spread" }), el("td", { className: "near" }));
}

function toggle(topic) {
  if (!state.folded.delete(topic)) state.folded.add(topic);
  draw();
  [...body.querySelectorAll(".fold")].find((fold) => fold.dataset.topic === String(topic))?.focus();
}

function draw() {
  const shown = [];
  const rows = [];
  const largest = Math.max(1, ...state.found.map(sizeNow));
  let topic = null;
  let left = 0;
  for (const place of state.found) {
    if (state.chapters && clusters.topic[place] !== topic) {
      topic = clusters.topic[place];
      rows.push(chapter(topic));
      rows.at(-1).querySelector("button").dataset.topic = topic;
    }
    if (state.chapters && !isOpen(topic)) continue;
    if (shown.length < state.limit) { shown.push(place); rows.push(line(place, largest)); }
    else left += 1;
  }
  if (!rows.length) rows.push(el("tr", {}, el("td", { className: "none", colSpan: 4 }, "No cluster fits this search."), el("td", { className: "spread" }), el("td", { className: "near" })));
  body.replaceChildren(...rows);
  const count = byId("count");
  count.toggleAttribute("data-shown", shown.length < state.found.length);
  if (shown.length < state.found.length) count.dataset.shown = whole(shown.length);
  count.textContent = narrowed() ? `${whole(state.found.length)} of ${plural(K, "cluster")}` : plural(K, "cluster");
  byId("more").hidden = left === 0;
  for (const button of document.querySelectorAll("#table thead button")) {
    const column = button.closest("th");
    if (button.dataset.sort === state.sort) column.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else column.removeAttribute("aria-sort");
  }
  for (const chip of byId("chips").children) chip.setAttribute("aria-pressed", String(chip.dataset.flag === state.flag));
  for (const button of document.querySelectorAll("[data-chapters]")) button.setAttribute("aria-pressed", String((button.dataset.chapters === "yes") === state.chapters));
}

function update() {
  find();
  state.limit = 100;
  draw();
  paint();
}

// ------------------------------------------------------------------ set up

function setUpFilter() {
  if (!columns.length) return;
  const select = byId("filter");
  select.closest("label").hidden = false;
  columns.forEach((column, at) => {
    const values = column.values.map((value, code) => el("option", { value: `${at}:${code}` }, value));
    select.append(el("optgroup", { label: column.name }, values));
  });
  select.onchange = () => {
    const [column, code] = select.value.split(":").map(Number);
    state.filter = select.value === "" ? null : {
      column,
      code,
      counts: store.counts[column].map((pairs) => pairs.find(([value]) => value === code)?.[1] ?? 0),
    };
    update();
  };
}

function setUpHeads() {
  for (const button of document.querySelectorAll("#table thead button")) {
    button.onclick = () => {
      const column = button.dataset.sort;
      state.down = state.sort === column ? !state.down : column !== "id";
      state.sort = column;
      state.chapters = false; // what is sorted is the whole list
      update();
    };
  }
  byId("axis-low").textContent = low.toFixed(2);
  byId("axis-high").textContent = high.toFixed(2);
  byId("chapters").hidden = !topics.chapters;
  for (const button of document.querySelectorAll("[data-chapters]")) {
    button.onclick = () => {
      state.chapters = button.dataset.chapters === "yes";
      if (state.chapters) [state.sort, state.down] = ["size", true];
      update();
    };
  }
}

function setUpKeys() {
  body.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.closest("tr")) return;
    event.preventDefault();
    const target = body.rows[event.target.closest("tr").sectionRowIndex + step];
    (target ?? (step < 0 ? byId("table-bar") : null))?.querySelector("button, input")?.focus();
  };
  byId("search").onkeydown = (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    body.querySelector("button")?.focus();
  };
}

function setUpTable() {
  for (const id of ["table", "table-bar", "save"]) byId(id).hidden = false;
  if (K > CHAPTERS_OPEN_UP_TO) topics.name.forEach((_, topic) => state.folded.add(topic));
  for (const name of flagNames) {
    const count = clusters.id.reduce((sum, _, place) => sum + flagsOf(place).includes(name), 0);
    const show = () => { state.flag = state.flag === name ? null : name; update(); };
    if (count) byId("chips").append(el("button", { type: "button", "data-flag": name, onclick: show }, `${FLAG_TEXT[name]} ${whole(count)}`));
  }
  setUpHeads();
  setUpFilter();
  setUpKeys();
  byId("search").oninput = (event) => { state.query = event.target.value; update(); };
  for (const button of document.querySelectorAll("#more button")) {
    button.onclick = () => {
      const first = body.rows.length;
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
}
