// The rows of the page, which are packed: of a cluster all, or those that the map shows, some at a time.
const PER_PAGE = 50;
const store = { row: [], cluster: [], similarity: [], columns: [] };
let rowsOf = null; // of each cluster, closest first; null until the rows are unpacked

const summed = (steps) => { let sum = 0; return steps.map((by) => (sum += by)); };

async function unpack() {
  const bytes = Uint8Array.from(atob(byId("packed").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = JSON.parse(await new Response(stream).text());
  found.row = summed(found.row);
  found.similarity = found.similarity.map((value) => value / 1e4);
  if (found.map) found.map.at = summed(found.map.at);
  Object.assign(store, found);
  rowsOf = new Map();
  store.cluster.forEach((id, at) => (rowsOf.get(id) ?? rowsOf.set(id, []).get(id)).push(at));
  for (const rows of rowsOf.values()) rows.sort((a, b) => store.similarity[b] - store.similarity[a] || a - b);
}

const passes = (at) => !state.filter || store.columns[state.filter.column][at] === state.filter.code;
const chosenRows = (id) => (rowsOf?.get(id) ?? []).filter(passes);

function storedRow(at) {
  const text = store.texts?.[at];
  const name = rowName(store.row[at], store.ids?.[at], store.links?.[at]);
  const said = text ? [el("div", { dir: "auto" }, text), el("small", {}, name)] : [name];
  return el("li", {}, el("span", { className: "cosine" }, store.similarity[at].toFixed(3)), el("div", { className: "text" }, said));
}

function allRows(place) {
  const id = clusters.id[place];
  const rows = chosenRows(id);
  const list = el("ol", { className: "rows" });
  const where = el("span", { className: "cosine" });
  const turn = (by) => () => { at += by; show(); };
  const back = el("button", { type: "button", onclick: turn(-PER_PAGE) }, "← closer");
  const forth = el("button", { type: "button", onclick: turn(PER_PAGE) }, "farther →");
  let at = 0;
  const show = () => {
    list.replaceChildren(...rows.slice(at, at + PER_PAGE).map(storedRow));
    where.textContent = `${whole(at + 1)} to ${whole(Math.min(at + PER_PAGE, rows.length))} of ${whole(rows.length)}`;
    [back.disabled, forth.disabled] = [at === 0, at + PER_PAGE >= rows.length];
  };
  const pager = el("div", { className: "pager", hidden: true }, back, where, forth);
  const some = data.rows.complete || rows.length === sizeNow(place) ? `all ${whole(rows.length)}` : `${whole(rows.length)} of ${whole(sizeNow(place))}`;
  const begin = el("button", { type: "button", onclick: () => { begin.hidden = true; pager.hidden = false; show(); } }, `Show ${some}`);
  const csv = el("button", { type: "button", onclick: () => saveRows(place, rows) }, "Save as CSV");
  const how = data.rows.complete ? null : el("p", { className: "note" }, "This page has room for the rows of its map only. For all rows of all clusters: ", el("code", {}, "cosmeans export MODEL ROWS --parquet rows.parquet"));
  return el("div", {}, how, rows.length ? el("div", { className: "bar" }, begin, csv) : null, list, pager);
}
