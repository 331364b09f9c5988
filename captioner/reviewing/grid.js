// All photos as a grid. Only the rows near the window are elements, so thousands of photos stay smooth.
import { $, el, percent } from "./elements.js";
import { photos, text } from "./store.js";

const WIDTH = 190, MARGIN = 3; // narrowest tile in pixels; rows above and below the window
const grid = $("grid");
const tiles = new Map(); // list items by place
let ids = [], columns = 1, height = 1, current = 0, open = () => {};

export const onOpen = (listener) => { open = listener; };
export const shown = () => ids;
export const place = () => current;

export function show(list, keep) {
  ids = list;
  current = Math.max(0, ids.indexOf(keep));
  for (const item of tiles.values()) item.remove();
  tiles.clear();
  measure();
}

export function refresh(changed) {
  for (const [n, item] of tiles) if (changed.includes(ids[n])) fill(item, n);
}

export function measure() {
  const width = grid.clientWidth;
  if (!width) return;
  columns = Math.max(1, Math.floor(width / WIDTH)) || 1;
  if (width < 2 * WIDTH) columns = Math.min(2, Math.max(1, Math.floor(width / 150)));
  height = Math.round(width / columns * 0.75) + 80;
  grid.style.height = `${Math.ceil(ids.length / columns) * height}px`;
  for (const [n, item] of tiles) lay(item, n);
  draw();
}

export function draw() {
  if (!grid.clientWidth) return;
  const top = grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / height) - MARGIN) * columns;
  const last = Math.min(ids.length, (Math.ceil((innerHeight - top) / height) + MARGIN) * columns);
  for (const [n, item] of tiles) {
    if ((n < first || n >= last) && !item.contains(document.activeElement)) { item.remove(); tiles.delete(n); }
  }
  for (let n = first; n < last; n++) if (!tiles.has(n)) add(n);
}

export function move(step, vertical) {
  focus(Math.min(ids.length - 1, Math.max(0, current + step * (vertical ? columns : 1))));
}

export function focus(n) {
  if (!ids.length) return;
  select(n);
  const top = grid.getBoundingClientRect().top + Math.floor(n / columns) * height;
  if (top < 0 || top + height > innerHeight) scrollBy({ top: top - innerHeight / 2 + height / 2, behavior: "instant" });
  draw();
  if (!tiles.has(n)) add(n);
  tiles.get(n).firstChild.focus({ preventScroll: true });
}

function select(n) {
  if (tiles.has(current)) tiles.get(current).firstChild.tabIndex = -1;
  current = n;
  if (tiles.has(n)) tiles.get(n).firstChild.tabIndex = 0;
}

function add(n) {
  const item = el("li", { "aria-setsize": ids.length, "aria-posinset": n + 1 });
  fill(item, n);
  lay(item, n);
  // In the order of the photos, for readers that go by the order of elements.
  const after = [...tiles.keys()].filter((other) => other > n);
  grid.insertBefore(item, after.length ? tiles.get(Math.min(...after)) : null);
  tiles.set(n, item);
}

function lay(item, n) {
  Object.assign(item.style, {
    width: `${100 / columns}%`, height: `${height}px`,
    transform: `translate(${100 * (n % columns)}%, ${Math.floor(n / columns) * height}px)`,
  });
}

function fill(item, n) {
  const photo = photos.get(ids[n]), had = item.contains(document.activeElement);
  const share = photo.confidence === null ? "" : `, ${percent(photo.confidence)}`;
  const facts = (photo.state || "unreviewed") + share;
  const picture = el("img", { src: `thumb/${photo.id}`, alt: "", loading: "lazy", decoding: "async" });
  const button = el("button", {
    type: "button", class: `tile ${photo.state}`, tabindex: n === current ? 0 : -1, "data-place": n,
    onclick: () => { select(n); open(ids[n]); }, onfocus: () => select(n),
  }, picture, el("span", {}, el("b", {}, facts), text(photo) || "no caption", el("span", { class: "quiet" }, `, ${photo.name}`)));
  item.replaceChildren(button);
  if (had) button.focus({ preventScroll: true });
}

addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", measure);
