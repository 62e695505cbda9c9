// Zoom and pan of the map, by wheel, drag, pinch, buttons and keys.
const MOST = 60; // times larger
const view = { colour: "topic", at: null, width: 0, height: 0, across: 1, up: 1, zoom: 1, x: 0, y: 0 };

const xOf = (point) => view.x + view.zoom * (view.left + view.across * mapX[point]);
const yOf = (point) => view.y + view.zoom * (view.height - view.top - view.up * mapY[point]);

// what is seen stays within what is drawn
function keepInside() {
  view.zoom = Math.min(MOST, Math.max(1, view.zoom));
  view.x = Math.min(0, Math.max(view.width * (1 - view.zoom), view.x));
  view.y = Math.min(0, Math.max(view.height * (1 - view.zoom), view.y));
  canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  byId("zoom-out").disabled = byId("zoom-all").disabled = view.zoom === 1;
  byId("zoom-in").disabled = view.zoom === MOST;
  paintSoon();
}

function zoomBy(factor, x = view.width / 2, y = view.height / 2) {
  const before = view.zoom;
  view.zoom = Math.min(MOST, Math.max(1, before * factor));
  view.x = x - ((x - view.x) * view.zoom) / before;
  view.y = y - ((y - view.y) * view.zoom) / before;
  keepInside();
}

function panBy(dx, dy) {
  view.x += dx;
  view.y += dy;
  keepInside();
}

function setUpZoom(tapped) {
  const down = new Map(); // pointers that are down, where they are
  let moved = 0;
  const apart = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);
  canvas.addEventListener("wheel", (event) => {
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022));
    if (factor < 1 && view.zoom === 1) return; // the page scrolls on
    event.preventDefault();
    zoomBy(factor, event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.onpointerdown = (event) => {
    if (!down.size) moved = 0;
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.addEventListener("pointermove", (event) => {
    const from = down.get(event.pointerId);
    if (!from) return;
    const to = { x: event.offsetX, y: event.offsetY };
    moved += Math.hypot(to.x - from.x, to.y - from.y);
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    if (down.size === 1) { if (moved > 4) panBy(dx, dy); } // less is a tap
    else {
      const before = apart([...down.values()]);
      down.set(event.pointerId, to);
      const [a, b] = [...down.values()];
      zoomBy(apart([a, b]) / (before || 1), (a.x + b.x) / 2, (a.y + b.y) / 2);
      panBy(dx / 2, dy / 2);
    }
    down.set(event.pointerId, to);
  });
  const up = (event) => {
    if (down.delete(event.pointerId) && event.type === "pointerup" && !down.size && moved <= 4) tapped(event);
  };
  canvas.onpointerup = up;
  canvas.onpointercancel = up;
  canvas.ondblclick = (event) => zoomBy(2, event.offsetX, event.offsetY);
  byId("zoom-in").onclick = () => zoomBy(1.6);
  byId("zoom-out").onclick = () => zoomBy(1 / 1.6);
  byId("zoom-all").onclick = () => zoomBy(0);
  return { dragging: () => down.size > 0 && moved > 4 };
}

// returns whether the key was one of the map's own
function zoomKey(event) {
  if (event.key === "+" || event.key === "=") zoomBy(1.6);
  else if (event.key === "-") zoomBy(1 / 1.6);
  else if (event.key === "0") zoomBy(0);
  else return false;
  return true;
}
