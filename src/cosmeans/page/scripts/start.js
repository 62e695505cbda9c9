// The whole page: theme, keys, and everything set up in order.
function setUpTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const schemes = { auto: "light dark", dark: "dark", light: "light" };
  const names = Object.keys(schemes);
  let at = 0;
  // paper is white: the map, which is a picture, must be painted for it, and at once
  const wear = (scheme) => { root.style.colorScheme = scheme; if (data.map) paintNow(); };
  button.hidden = false;
  button.onclick = () => {
    at = (at + 1) % names.length;
    wear(schemes[names[at]]);
    button.textContent = `Theme: ${names[at]}`;
  };
  addEventListener("beforeprint", () => wear("light"));
  addEventListener("afterprint", () => wear(schemes[names[at]]));
}

function setUpComparison() {
  const list = byId("ended-rows");
  if (!list) return;
  const name = (id) => nameOf(placeOf.get(id) ?? -1);
  list.append(...comparison.ended.map(([id, rows, goes]) => {
    const to = goes.filter(([cluster]) => placeOf.has(cluster)).slice(0, 3)
      .flatMap(([cluster, moved], index) => [index ? ", " : " ", link(cluster, ""), ` ${name(cluster)} (${whole(moved)})`]);
    return el("li", {}, el("span", { className: "cosine" }, whole(rows)), el("div", { className: "text" }, `${id} ${comparison.names[id]} → `, to));
  }));
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || dialog.open || event.ctrlKey || event.metaKey || event.altKey || event.target === byId("search")) return;
  event.preventDefault();
  byId("search").focus();
});

find();
setUpTheme();
setUpTable();
setUpSave();
draw();
byId("odd-rows")?.append(...data.odd.map((example) => rowItem(example, true, true)));
setUpComparison();
unpack().then(() => {
  if (data.map) setUpMap();
  if (current !== null) byId("cluster-body").replaceChildren(...panel(current)); // opened before its rows were there
  document.documentElement.dataset.ready = "yes";
});
setUpPanel();
