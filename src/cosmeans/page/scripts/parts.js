// What all others use: the data of the page, and how nodes, colours and names are made.
// Texts of rows reach the page through textContent only: nothing in them is ever read as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const { clusters, examples, topics, columns, flagNames, comparison } = data;
const K = clusters.id.length;
const placeOf = new Map(clusters.id.map((id, place) => [id, place]));
const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const whole = (value) => number.format(value);
const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const percent = (share) => `${(100 * share).toFixed(share < 0.01 ? 2 : share < 0.1 ? 1 : 0)} %`;
const total = clusters.size.reduce((sum, size) => sum + size, 0);
const FLAG_TEXT = { empty: "empty", tiny: "tiny", giant: "giant", twin: "near twin", loose: "loose" };

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---------------------------------------------------------------- colours

const PALETTE = 8; // colours that all eyes tell apart; more topics have hues in the order of their tree
const T = topics.name.length;

function inColour(node, topic) {
  if (T <= PALETTE) node.classList.add(`c${topic}`);
  else {
    node.classList.add("hue");
    node.style.setProperty("--h", ((360 * topic) / T + 20).toFixed(1));
    node.style.setProperty("--lift", ["0", "0.09", "-0.09"][topic % 3]);
  }
  return node;
}

function mark(topic) {
  return inColour(svg("svg", { class: "mark", viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("circle", { cx: 6, cy: 6, r: 5, fill: "currentColor" })), topic);
}

// ------------------------------------------------------- words and names

const flagsOf = (place) => flagNames.filter((_, bit) => (clusters.flags[place] >> bit) & 1);
const wordsOf = (place) => (clusters.words ? clusters.words[place] : []);
const nameOf = (place) => clusters.name[place] ?? (wordsOf(place).slice(0, 3).join(", ") || `Cluster ${clusters.id[place]}`);
const shortName = (place) => clusters.name[place] ?? (wordsOf(place).slice(0, 2).join(", ") || String(clusters.id[place]));

function badges(place) {
  const names = flagsOf(place);
  return names.length ? el("span", { className: "flags" }, names.map((name) => el("span", { className: "flag" }, FLAG_TEXT[name]))) : null;
}

function link(id, before = "cluster ") {
  const name = `${before}${id}`;
  if (!placeOf.has(id)) return document.createTextNode(name);
  return el("button", { type: "button", className: "go link", onclick: () => open(id) }, name);
}

// ------------------------------------------------------------------- rows

const rowText = (example) => examples.text[example] || `row ${whole(examples.row[example])}`;

function picture(example) {
  const source = examples.picture && examples.picture[example];
  return source ? el("img", { src: source, alt: rowText(example), decoding: "async" }) : null;
}

// an address leads out of the page only if it is one of the web
function rowName(row, id, address) {
  const name = id || `row ${whole(row)}`;
  if (!address || !/^https?:\/\//i.test(address)) return document.createTextNode(name);
  return el("a", { className: "link", href: address, target: "_blank", rel: "noopener noreferrer" }, name);
}

// --------------------------------------------------------- a box of spread

const [low, high] = data.range;
const share = (value) => `${Math.min(100, Math.max(0, (100 * (value - low)) / (high - low || 1))).toFixed(2)}%`;

function box(place) {
  const [least, quarter, median, three, most] = clusters.quantiles[place];
  const said = `5 % below ${least.toFixed(3)}, median ${median.toFixed(3)}, 5 % above ${most.toFixed(3)}`;
  const node = svg("svg", { class: "box", role: "img", "aria-label": said }, svg("line", { class: "track", x1: 0, x2: "100%", y1: "100%", y2: "100%" }));
  if (!clusters.size[place]) return node;
  const width = `${Math.max(0.5, parseFloat(share(three)) - parseFloat(share(quarter)))}%`;
  node.append(
    svg("line", { class: "whisker", x1: share(least), x2: share(most), y1: "50%", y2: "50%" }),
    svg("rect", { class: "middle", x: share(quarter), width, y: "10%", height: "80%", rx: 2 }),
    svg("line", { class: "median", x1: share(median), x2: share(median), y1: "0", y2: "100%" }),
  );
  return node;
}
