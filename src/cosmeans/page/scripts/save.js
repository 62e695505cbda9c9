// What a reader takes along: the table as it is shown, the rows of a cluster, the names.
let unsaved = 0;

// a cell that a spreadsheet would take for a formula begins with an apostrophe
const cell = (value) => {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (lines) => lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");

function save(name, text, kind) {
  const address = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function saveTable() {
  const head = ["cluster", "name", "topic", "rows", "similarity", "spread", "nearest", "nearest_cosine", "words", "closest_row", "closest_text"];
  const lines = state.found.map((place) => {
    const first = clusters.best[place][0];
    return [clusters.id[place], nameOf(place), topics.name[clusters.topic[place]], sizeNow(place), clusters.mean[place], clusters.spread[place],
      clusters.near[place][0], clusters.cosine[place][0], wordsOf(place).join(" "), examples.row[first], examples.text[first]];
  });
  save("clusters.csv", csv([head, ...lines]), "text/csv");
}

function saveRows(place, rows) {
  const own = ["ids", "links", "texts"].filter((name) => store[name]);
  const names = { ids: "id", links: "link", texts: "text" };
  const head = ["row", "cluster", "name", "similarity", ...own.map((name) => names[name]), ...columns.map((column) => column.name)];
  const lines = rows.map((at) => [store.row[at], clusters.id[place], nameOf(place), store.similarity[at], ...own.map((name) => store[name][at]),
    ...columns.map((column, index) => column.values[store.columns[index][at]])]);
  save(`cluster-${clusters.id[place]}.csv`, csv([head, ...lines]), "text/csv");
}

function rename(place, name) {
  if ((clusters.name[place] ?? "") === name) return;
  clusters.name[place] = name || null;
  visible = null;
  unsaved += 1;
  tellNames();
  draw();
  paint();
}

function tellNames() {
  byId("save-names").hidden = !unsaved && !clusters.name.some(Boolean);
  byId("save-names").textContent = unsaved ? "Save names.json •" : "Save names.json";
}

function saveNames() {
  const named = clusters.id.flatMap((id, place) => (clusters.name[place] ? [[id, clusters.name[place]]] : []));
  const lines = named.sort((a, b) => a[0] - b[0]).map(([id, name]) => ` ${JSON.stringify(String(id))}: ${JSON.stringify(name)}`);
  save("names.json", `{\n${lines.join(",\n")}\n}\n`, "application/json");
  unsaved = 0;
  tellNames();
}

function setUpSave() {
  byId("save-table").onclick = saveTable;
  byId("save-names").onclick = saveNames;
  tellNames();
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
}
