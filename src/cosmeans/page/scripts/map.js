// The map: a sample of the rows on a plane. Points are stamped on a canvas, so that fifty thousand of them move.
const canvas = byId("plane");
let mapX = [];
let mapY = [];
let mapAt = []; // the row of each point, a place in `store`
let mapPlace = []; // its cluster, a place in `clusters`
let visiblePoints = [];
let [dim, bright] = [0, 1]; // the similarities with the first and the last colour: all but a tenth of the rows are between
let due = false;
const SQUARE_BELOW = 1.6; // pixels of the screen: nobody sees a circle of less, and a square takes a third of the time

const swatch = (name) => getComputedStyle(document.querySelector(`#swatches .${name}`)).color;

// the colour of a similarity, between two of the ramp's five
function shade(value, ramp) {
  const position = 4 * Math.min(1, Math.max(0, (value - dim) / (bright - dim || 1)));
  const from = Math.min(3, Math.floor(position));
  return `rgb(${ramp[from].map((part, index) => Math.round(part + (position - from) * (ramp[from + 1][index] - part))).join(" ")})`;
}

function fitView() {
  const ratio = window.devicePixelRatio || 1;
  view.width = canvas.clientWidth;
  view.height = canvas.clientHeight;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(view.height * ratio);
  canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  let [right, top] = [1, 1];
  for (let point = 0; point < mapX.length; point += 1) [right, top] = [Math.max(right, mapX[point]), Math.max(top, mapY[point])];
  const margin = Math.min(36, view.width / 14);
  [view.across, view.up] = [(view.width - 2 * margin) / right, (view.height - 2 * margin) / top];
  if (data.map.proportional) view.across = view.up = Math.min(view.across, view.up);
  else { // distances mean little, so that the frame may be filled, but no circle becomes a line
    view.across = Math.min(view.across, 1.6 * view.up);
    view.up = Math.min(view.up, 1.6 * view.across);
  }
  view.left = (view.width - view.across * right) / 2;
  view.top = (view.height - view.up * top) / 2;
  keepInside();
}

const radiusNow = () => {
  const n = mapX.length;
  const base = n > 20000 ? 1.3 : n > 5000 ? 1.7 : n > 1500 ? 2.4 : n > 400 ? 3.2 : 4.4;
  return base * Math.min(1, Math.max(0.7, view.width / 900)) * Math.min(3, view.zoom ** 0.45);
};

// one small picture for each colour: to stamp it is faster than to draw a circle
function stamps() {
  const made = new Map();
  const ratio = window.devicePixelRatio || 1;
  return (colour, radius) => {
    const key = `${colour} ${radius}`;
    if (!made.has(key)) {
      const side = Math.ceil(2 * radius * ratio) + 2;
      const stamp = new OffscreenCanvas(side, side);
      const context = stamp.getContext("2d");
      context.fillStyle = colour;
      context.arc(side / 2, side / 2, radius * ratio, 0, 7);
      context.fill();
      made.set(key, stamp);
    }
    return made.get(key);
  };
}

// the clusters that stand out: the one that is open, pointed at, or what the search left over
function inLight() {
  if (current !== null) return new Set([current]);
  if (view.at !== null) return new Set([mapPlace[view.at]]);
  return state.found.length < K ? new Set(state.found) : null;
}

function seen() {
  const found = [];
  for (let point = 0; point < mapX.length; point += 1) {
    const [x, y] = [xOf(point), yOf(point)];
    if (x >= 0 && x < view.width && y >= 0 && y < view.height && passes(mapAt[point])) found.push(point);
  }
  return found;
}

function paintPoints(context, light) {
  const colour = [...byId("topic-swatches").children].map((node) => getComputedStyle(node).color);
  const faint = swatch("faint");
  const ramp = [0, 1, 2, 3, 4].map((step) => swatch(`r${step}`).match(/[\d.]+/g).slice(0, 3).map(Number));
  const radius = radiusNow();
  const stamp = stamps();
  const ratio = window.devicePixelRatio || 1;
  const toned = (point) => (view.colour === "topic" ? colour[clusters.topic[mapPlace[point]]] : shade(Math.round(200 * store.similarity[mapAt[point]]) / 200, ramp));
  for (const lit of light ? [false, true] : [true]) {
    context.globalAlpha = lit ? 0.8 : 0.45;
    for (const point of visiblePoints) {
      if (light && light.has(mapPlace[point]) !== lit) continue;
      const own = lit && light ? radius + 0.8 : radius;
      if (own * ratio < SQUARE_BELOW) {
        context.fillStyle = lit ? toned(point) : faint;
        context.fillRect(xOf(point) - own, yOf(point) - own, 2 * own, 2 * own);
        continue;
      }
      const picture = stamp(lit ? toned(point) : faint, own);
      const half = picture.width / ratio / 2;
      context.drawImage(picture, xOf(point) - half, yOf(point) - half, 2 * half, 2 * half);
    }
  }
  context.globalAlpha = 1;
  return radius;
}

function paintNow() {
  due = false;
  if (!mapX.length || !view.width) return;
  const context = canvas.getContext("2d");
  const [ink, ground] = [swatch("ink"), swatch("paper")];
  const light = inLight();
  context.clearRect(0, 0, view.width, view.height);
  visiblePoints = seen();
  const radius = paintPoints(context, light);
  drawLabels(context, light, ink, ground);
  if (view.at !== null) {
    context.lineWidth = 2;
    context.strokeStyle = ink;
    context.beginPath();
    context.arc(xOf(view.at), yOf(view.at), radius + 4, 0, 7);
    context.stroke();
  }
}

function paintSoon() {
  if (due || !mapX.length) return;
  due = true;
  requestAnimationFrame(paintNow);
}

const paint = () => data.map && paintSoon();

// -------------------------------------------------------- pointing at rows

function closest(x, y, reach) {
  let best = null;
  let least = reach * reach;
  for (const point of visiblePoints) {
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
    const [place, at] = [mapPlace[point], mapAt[point]];
    const where = `${clusters.id[place]} ${nameOf(place)}`;
    const text = store.texts?.[at] || store.ids?.[at] || `row ${whole(store.row[at])}`;
    tip.replaceChildren(el("b", { dir: "auto" }, where), el("span", { dir: "auto" }, text), el("small", {}, `similarity ${store.similarity[at].toFixed(3)}`));
    byId("map-said").textContent = `Cluster ${where}: ${text}`;
    const [x, y] = [xOf(point), yOf(point)];
    tip.style.left = `${Math.max(8, Math.min(x + 16, view.width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 22 + tip.offsetHeight > view.height ? Math.max(6, y - tip.offsetHeight - 18) : y + 20}px`;
  }
  paint();
}

function walk(dx, dy) {
  if (view.at === null) return pointAt(closest(view.width / 2, view.height / 2, Infinity));
  const [x, y] = [xOf(view.at), yOf(view.at)];
  let best = null;
  let least = Infinity;
  for (const point of visiblePoints) {
    const [u, v] = [xOf(point) - x, yOf(point) - y];
    const along = u * dx + v * dy;
    // ahead, and within 45 degrees: otherwise arrow keys would walk sideways
    if (point === view.at || along <= 0.01 || Math.abs(u * dy - v * dx) > along) continue;
    if (along < least) [best, least] = [point, along];
  }
  if (best !== null) pointAt(best);
}

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function mapKey(event) {
  const way = WAYS[event.key];
  if (way && event.shiftKey) panBy(-90 * way[0], -90 * way[1]);
  else if (way) walk(...way);
  else if (event.key === "Enter" && view.at !== null) open(clusters.id[mapPlace[view.at]]);
  else if (event.key === "Escape") pointAt(null);
  else if (!zoomKey(event)) return;
  event.preventDefault();
}

function setUpMap() {
  ({ at: mapAt, x: mapX, y: mapY } = store.map);
  mapPlace = mapAt.map((at) => placeOf.get(store.cluster[at]));
  byId("map-bar").hidden = false;
  const similarities = mapAt.map((at) => store.similarity[at]).sort((a, b) => a - b);
  [dim, bright] = [0.05, 0.95].map((part) => similarities[Math.floor(part * (similarities.length - 1))]);
  byId("scale-low").textContent = dim.toFixed(2);
  byId("scale-high").textContent = bright.toFixed(2);
  byId("topic-swatches").replaceChildren(...topics.name.map((_, topic) => inColour(el("i"), topic)));
  for (const button of document.querySelectorAll("[data-colour]")) {
    button.onclick = () => {
      view.colour = button.dataset.colour;
      byId("scale").hidden = view.colour !== "similarity";
      for (const other of document.querySelectorAll("[data-colour]")) other.setAttribute("aria-pressed", String(other === button));
      paint();
    };
  }
  const zoom = setUpZoom((event) => {
    const point = closest(event.offsetX, event.offsetY, event.pointerType === "touch" ? 22 : 14);
    if (point !== null) open(clusters.id[mapPlace[point]]);
  });
  canvas.addEventListener("pointermove", (event) => pointAt(zoom.dragging() ? null : closest(event.offsetX, event.offsetY, 14)));
  canvas.onpointerleave = () => pointAt(null);
  canvas.onblur = () => pointAt(null);
  canvas.onkeydown = mapKey;
  new ResizeObserver(fitView).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  fitView();
  paintNow();
}
