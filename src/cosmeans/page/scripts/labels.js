// Names on the map: topics at first, clusters as one comes closer. None covers a point of its own, or another name.
const CELL = 7; // pixels: the grid in which room is looked for
const MOST_LABELS = 40;
const CLUSTERS_NAMED_UP_TO = 80; // with more, topics are named first
const TOPICS_UP_TO = 2.2; // of zoom
const AREA = 9000; // square pixels of the map for each name
const FAR = [0, 14, 24, 36, 50, 68, 90]; // pixels from the middle, nearest first
const AROUND = [0, 0.5, 1, 1.5, 0.25, 0.75, 1.25, 1.75].map((turn) => [Math.cos(turn * Math.PI), Math.sin(turn * Math.PI)]);

const middle = (values) => { const sorted = values.sort((a, b) => a - b); return sorted[sorted.length >> 1]; };

// the point that is closest to the middle of them all
function anchor(points) {
  const [x, y] = [middle(points.map(xOf)), middle(points.map(yOf))];
  const off = (point) => (xOf(point) - x) ** 2 + (yOf(point) - y) ** 2;
  const found = points.reduce((best, point) => (off(point) < off(best) ? point : best));
  return [xOf(found), yOf(found)];
}

// whose names are shown: of topics or of clusters; the points of each, most first
function labelled(light) {
  const byTopic = K > CLUSTERS_NAMED_UP_TO && view.zoom < TOPICS_UP_TO && !light;
  const groups = new Map();
  for (const point of visiblePoints) {
    const place = mapPlace[point];
    if (light && !light.has(place)) continue;
    const key = byTopic ? clusters.topic[place] : place;
    (groups.get(key) ?? groups.set(key, []).get(key)).push(point);
  }
  const name = byTopic ? (topic) => topics.name[topic].split(", ").slice(0, 2).join(", ") : shortName;
  return [...groups].filter(([, points]) => points.length > 2 || K < 30 || light).sort((a, b) => b[1].length - a[1].length)
    .slice(0, 4 * MOST_LABELS).map(([key, points]) => ({ text: clipped(name(key)), points, bold: byTopic }));
}

const clipped = (text) => (text.length > 34 ? `${text.slice(0, 33)}…` : text);

function occupied(points) {
  const wide = Math.ceil(view.width / CELL) + 2;
  const counts = new Uint16Array(wide * (Math.ceil(view.height / CELL) + 2));
  for (const point of points) counts[Math.floor(yOf(point) / CELL) * wide + Math.floor(xOf(point) / CELL)] += 1;
  return { wide, counts };
}

const eachCell = (grid, area, visit) => {
  for (let row = Math.floor(area.top / CELL); row <= Math.floor(area.bottom / CELL); row += 1)
    for (let column = Math.floor(area.left / CELL); column <= Math.floor(area.right / CELL); column += 1)
      visit(row * grid.wide + column);
};

// the spot near (x, y) that hides the fewest points of others, and none of its own; null if there is none
function spot(x, y, half, tall, grid, own, taken) {
  let best = null;
  for (const far of FAR) {
    if (best && best.cost < far) break;
    for (const [dx, dy] of far ? AROUND : [[0, 0]]) {
      const [at, line] = [x + dx * (far + half * Math.abs(dx)), y + dy * far];
      const area = { left: at - half, right: at + half, top: line - tall, bottom: line + tall };
      if (area.left < 2 || area.right > view.width - 2 || area.top < 2 || area.bottom > view.height - 2) continue;
      if (taken.some((other) => area.left < other.right && area.right > other.left && area.top < other.bottom && area.bottom > other.top)) continue;
      let cost = far;
      eachCell(grid, area, (cell) => { cost += own.has(cell) ? Infinity : 2 * grid.counts[cell]; });
      if (cost < Infinity && (!best || cost < best.cost)) best = { at, line, area, cost };
    }
  }
  return best;
}

function drawLabels(context, light, ink, ground) {
  const groups = labelled(light);
  const most = Math.min(MOST_LABELS, (view.width * view.height) / AREA);
  const grid = occupied(visiblePoints);
  const taken = [{ left: view.width - 50, right: view.width, top: 0, bottom: 116 }]; // the buttons
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { text, points, bold } of groups) {
    if (taken.length > most) break;
    context.font = `${bold ? 650 : 600} ${bold ? 13 : 12}px system-ui, sans-serif`;
    const [x, y] = anchor(points);
    const own = new Set(points.map((point) => Math.floor(yOf(point) / CELL) * grid.wide + Math.floor(xOf(point) / CELL)));
    const found = spot(x, y, context.measureText(text).width / 2 + 4, 9, grid, own, taken);
    if (!found) continue;
    taken.push(found.area);
    writeLabel(context, text, found, x, y, ink, ground);
  }
  view.labels = taken;
}

function writeLabel(context, text, { at, line, area }, x, y, ink, ground) {
  // to the middle of what it names, from the nearest edge of the words
  const [fromX, fromY] = [Math.min(area.right, Math.max(area.left, x)), Math.min(area.bottom, Math.max(area.top, y))];
  if (Math.hypot(fromX - x, fromY - y) > 6) {
    context.lineWidth = 1;
    context.strokeStyle = ink;
    context.globalAlpha = 0.55;
    context.beginPath();
    context.moveTo(fromX, fromY);
    context.lineTo(x, y);
    context.stroke();
    context.globalAlpha = 1;
  }
  context.lineWidth = 4;
  context.strokeStyle = ground;
  context.strokeText(text, at, line);
  context.fillStyle = ink;
  context.fillText(text, at, line);
}
