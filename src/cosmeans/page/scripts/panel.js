// One cluster: its name, numbers, words, rows and neighbours, in a dialog.
const dialog = byId("cluster");
let current = null;
let cameFrom = null;

function rowItem(example, withSecond, withCluster = false) {
  const notes = [];
  const id = examples.ids?.[example];
  if (examples.text[example] || id) notes.push(rowName(examples.row[example], id, examples.links?.[example]));
  if (withCluster) notes.push(link(examples.cluster[example]));
  if (withSecond && examples.second) notes.push(el("span", {}, "next best ", link(examples.second[example]), ` ${examples.cosine[example].toFixed(3)}`));
  const small = el("small", {}, notes.flatMap((note, index) => (index ? [" · ", note] : [note])));
  return el(
    "li",
    {},
    el("span", { className: "cosine" }, examples.similarity[example].toFixed(3)),
    el("div", { className: "text" }, picture(example), el("div", { dir: "auto" }, rowText(example)), small),
  );
}

const rowList = (rows, withSecond) => el("ol", { className: "rows" }, rows.map((example) => rowItem(example, withSecond)));
const figure = (value, name) => el("div", {}, el("b", {}, value), el("span", {}, name));

function wordList(place) {
  const said = (word, rank) => el("li", {}, el("span", { dir: "auto" }, word), el("small", {}, `${Math.round(100 * clusters.shares[place][rank])} %`));
  return el("ul", { className: "words" }, wordsOf(place).map(said));
}

function neighbours(place) {
  return el("ul", { className: "neighbours" }, clusters.near[place].map((id, rank) => {
    const other = placeOf.get(id);
    const words = other === undefined ? "" : clusters.name[other] ?? (wordsOf(other).slice(0, 4).join(" · ") || plural(clusters.size[other], "row"));
    return el("li", {}, el("button", { type: "button", onclick: () => open(id), disabled: other === undefined },
      el("span", { className: "cosine" }, clusters.cosine[place][rank].toFixed(3)),
      el("span", {}, other === undefined ? "" : mark(clusters.topic[other]), String(id)),
      el("span", { className: "text", dir: "auto" }, words)));
  }));
}

// --------------------------------------------- columns and the other model

function bars(column, counts, place) {
  const all = Array(column.values.length).fill(0);
  for (const pairs of counts) for (const [value, count] of pairs) all[value] += count;
  const own = [...counts[place]].sort((a, b) => b[1] - a[1]).slice(0, 8);
  const size = clusters.size[place];
  const most = Math.max(...own.map(([value, count]) => Math.max(count / size, all[value] / total)));
  return el("ul", { className: "bars" }, own.map(([value, count]) => {
    const bar = el("i", {});
    bar.style.width = `${(100 * count) / size / most}%`;
    const usual = el("u", {});
    usual.style.left = `${(100 * all[value]) / total / most}%`;
    return el("li", {}, el("span", { className: "value", dir: "auto" }, column.values[value]), el("span", { className: "track" }, bar, usual),
      el("span", { className: "cosine" }, `${percent(count / size)}, overall ${percent(all[value] / total)}`));
  }));
}

function before(place) {
  const size = clusters.size[place];
  const old = comparison.continues[place];
  const name = (id) => `${id} ${comparison.names[id]}`;
  const goes = old < 0 ? "No cluster of it matches this one." : `Matches ${name(old)}; cosine of the centroids ${comparison.cosine[place].toFixed(3)}.`;
  const from = comparison.sources[place].map(([id, rows]) => el("li", {}, el("span", { className: "cosine" }, percent(rows / size)), el("span", { className: "text", dir: "auto" }, `${name(id)}, ${plural(rows, "row")}`)));
  return [el("h3", {}, `In ${comparison.title}`), el("p", { className: "note" }, goes), el("ul", { className: "sources" }, from)];
}

// -------------------------------------------------------------------- name

function heading(place) {
  const id = clusters.id[place];
  const rank = state.found.indexOf(place);
  const of = rank < 0 ? "" : `${whole(rank + 1)} of ${whole(state.found.length)}`;
  const rename = el("button", { type: "button", className: "rename", onclick: () => edit(place) }, clusters.name[place] ? "Rename" : "Name it");
  byId("cluster-title").replaceChildren(mark(clusters.topic[place]), `Cluster ${id}`, el("span", { className: "of" }, of));
  byId("cluster-name").replaceChildren(...(clusters.name[place] ? [el("bdi", { className: "name" }, clusters.name[place])] : []), rename);
}

function edit(place) {
  const input = el("input", { type: "text", maxLength: 80, value: clusters.name[place] ?? "", placeholder: wordsOf(place).slice(0, 3).join(", "), "aria-label": "Name of the cluster" });
  const done = (keep) => {
    input.onblur = null;
    if (keep) rename(place, input.value.trim());
    heading(place);
    byId("cluster-name").querySelector("button").focus();
  };
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    done(event.key === "Enter");
  };
  input.onblur = () => done(true);
  byId("cluster-name").replaceChildren(input);
  input.focus();
}

// ------------------------------------------------------------------ dialog

function panel(place) {
  const size = clusters.size[place];
  const parts = [];
  if (badges(place)) parts.push(badges(place));
  parts.push(el("div", { className: "key" },
    figure(whole(size), `row${size === 1 ? "" : "s"}, ${percent(size / total)}`),
    figure(size ? clusters.mean[place].toFixed(3) : "–", "mean similarity"),
    figure(size ? clusters.spread[place].toFixed(3) : "–", "spread")));
  if (wordsOf(place).length) parts.push(el("h3", {}, "Distinctive words"), wordList(place));
  if (size) parts.push(el("h3", {}, "Similarity of its rows"), box(place), el("div", { className: "axis" }, el("span", {}, low.toFixed(2)), el("span", {}, high.toFixed(2))));
  if (clusters.best[place].length) parts.push(el("h3", {}, "Closest rows"), rowList(clusters.best[place], false));
  if (clusters.worst[place].length) parts.push(el("h3", {}, "Worst-fitting rows"), rowList(clusters.worst[place], true));
  if (size) parts.push(el("h3", {}, data.rows.complete ? "All rows" : "More rows"), allRows(place));
  if (clusters.near[place].length) parts.push(el("h3", {}, "Nearest clusters"), neighbours(place));
  if (size && rowsOf) columns.forEach((column, at) => parts.push(el("h3", {}, column.name), bars(column, store.counts[at], place)));
  if (comparison && size) parts.push(...before(place));
  return parts;
}

function open(id) {
  const place = placeOf.get(id);
  if (place === undefined) return;
  current = place;
  const rank = state.found.indexOf(place);
  heading(place);
  byId("cluster-body").replaceChildren(...panel(place));
  byId("previous").disabled = rank <= 0;
  byId("next").disabled = rank < 0 || rank >= state.found.length - 1;
  if (!dialog.open) {
    cameFrom = document.activeElement;
    dialog.showModal();
  }
  dialog.scrollTop = 0;
  byId("cluster-title").focus({ preventScroll: true });
  history.replaceState(null, "", `#cluster-${id}`);
  paint();
}

function step(by) {
  const place = state.found[state.found.indexOf(current) + by];
  if (current !== null && place !== undefined) open(clusters.id[place]);
}

function setUpPanel() {
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
    paint();
  };
  const fromAddress = () => {
    const found = /^#cluster-(\d+)$/.exec(location.hash);
    if (found) open(Number(found[1]));
  };
  addEventListener("hashchange", fromAddress);
  fromAddress();
}
