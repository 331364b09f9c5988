// Sorts and filters the images. Without it the page shows all of them in the order of the data.
"use strict";
const STEP = 60;
const list = document.getElementById("cards");
const cards = [...list.children].map((item, place) => ({
  item,
  place,
  score: Number(item.dataset.score),
  length: Number(item.dataset.length),
  sure: Number(item.dataset.sure),
  flags: item.dataset.flags.split(" "),
  text: item.textContent.toLowerCase(),
}));
const orders = {
  worst: (a, b) => a.score - b.score || a.place - b.place,
  best: (a, b) => b.score - a.score || a.place - b.place,
  doubtful: (a, b) => a.sure - b.sure || a.place - b.place,
  surest: (a, b) => b.sure - a.sure || a.place - b.place,
  longest: (a, b) => b.length - a.length || a.place - b.place,
  data: (a, b) => a.place - b.place,
};
const [order, flag, text, status, more] = ["order", "flag", "text", "status", "more"].map((id) => document.getElementById(id));
const whole = status.textContent;
let shown = STEP;

function wanted(card) {
  const kind = flag.value;
  const flagged = !kind || (kind === "zero" ? card.score < 10 : card.flags.includes(kind));
  return flagged && text.value.toLowerCase().split(/\s+/).every((word) => card.text.includes(word));
}

function draw() {
  const found = cards.filter(wanted).sort(orders[order.value]);
  const visible = new Set(found.slice(0, shown));
  for (const card of cards) card.item.hidden = !visible.has(card);
  list.append(...found.map((card) => card.item));
  more.hidden = found.length <= shown;
  const all = found.length === cards.length ? whole : `${found.length} images`;
  status.textContent = visible.size < found.length ? `${all}; ${visible.size} shown` : all;
}

function restart() {
  shown = STEP;
  draw();
}

for (const control of [order, flag]) control.addEventListener("change", restart);
text.addEventListener("input", restart);
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => {
  const first = cards.filter(wanted).sort(orders[order.value])[shown];
  shown += STEP;
  draw();
  const next = first.item.querySelector("summary") ?? first.item; // the keyboard goes on where the new images begin
  next.tabIndex = next === first.item ? -1 : 0;
  next.focus();
});
draw();
