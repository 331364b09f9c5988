// Starts the page: views, commands, keys, conflicts.
import { $, el, say } from "./elements.js";
import * as store from "./store.js";
import * as grid from "./grid.js";
import * as single from "./single.js";
import * as asking from "./asking.js";
import * as replace from "./replace.js";

const NAMES = { accepted: "Accepted", edited: "Saved", rejected: "Rejected", "": "Unreviewed" };
let keysOn = (() => { try { return localStorage.getItem("keys") !== "off"; } catch { return true; } })();

// Views: the address has the photo, so that "back" of the browser leads to the grid.
function route() {
  const id = location.hash.startsWith("#photo=") ? location.hash.slice(7) : null;
  const one = id !== null && store.photos.has(id);
  const before = single.shown();
  $("single-view").hidden = !one;
  $("grid-view").hidden = one;
  document.body.classList.toggle("single", one);
  if (one) {
    single.show(id);
    if (before === null) scrollTo(0, 0);
    if (before === null || document.activeElement === document.body) $("main").focus({ preventScroll: true });
  } else {
    single.hide();
    grid.measure();
    if (before !== null) grid.focus(Math.max(0, grid.shown().indexOf(before)));
  }
}
const open = (id) => { location.hash = `photo=${id}`; };
const close = () => { location.hash = ""; };

function step(by) {
  const ids = grid.shown(), at = ids.indexOf(single.shown());
  const next = ids[at + by];
  if (next === undefined) { say(by > 0 ? "This is the last photo." : "This is the first photo."); return; }
  location.replace(`#photo=${next}`);
}

function refilter() {
  grid.show(store.chosen($("order").value, $("filter").value, $("search").value), grid.shown()[grid.place()]);
  count();
}

function count() {
  const all = [...store.photos.values()], by = (state) => all.filter((photo) => photo.state === state).length;
  $("counts").textContent = `${grid.shown().length} of ${all.length} photos; ${by("accepted")} accepted, `
    + `${by("edited")} edited, ${by("rejected")} rejected, ${by("")} unreviewed`;
  $("undo").disabled = !store.canUndo();
  $("redo").disabled = !store.canRedo();
}

// Saving.
async function commit(changes) {
  try {
    return await store.save(changes, settle);
  } catch (error) {
    say(`Not saved: ${error.message}`);
    return 0;
  }
}

async function decide(state) {
  const one = single.shown() !== null;
  const id = one ? single.shown() : grid.shown()[grid.place()];
  const photo = store.photos.get(id);
  if (!photo || photo.problem) { say(photo?.problem || "There is no photo."); return; }
  const change = one ? single.decided(state) : { id, captions: photo.captions, state };
  if (state === "accepted" && !change.captions.length) { say("There is no caption to accept; write one."); return; }
  if (!one && state === "accepted" && photo.state === "edited") return;
  const saved = await commit([change]);
  const now = store.photos.get(id);
  if (saved) say(`${NAMES[now.state]}: ${photo.name}.`);
  const was = photo.state === change.state && photo.captions.join("\n") === change.captions.join("\n");
  if (state === "" || !(saved || was)) return;
  if (state === "accepted") store.drafts.delete(id);
  if (!one) grid.move(1);
  else if (single.shown() === id) step(1);
}

async function revert(work, name) {
  try {
    const result = await work(settle);
    if (result === null) { say(`Nothing to ${name}.`); return; }
    const [first] = result.ids;
    const kept = result.kept ? `; ${result.kept} changed since and stay` : "";
    say(`${name === "undo" ? "Undone" : "Redone"}: ${result.ids.length === 1 ? store.photos.get(first).name : `${result.ids.length} captions`}${kept}.`);
    if (result.ids.length === 1 && single.shown() !== null && single.shown() !== first) open(first);
  } catch (error) {
    say(`Not saved: ${error.message}`);
  }
}

// Both captions of photos that somebody else changed; resolves to true to save ours.
function settle(pairs) {
  return new Promise((resolve) => {
    const dialog = $("conflict");
    $("conflict-list").replaceChildren(...pairs.slice(0, 100).map(({ theirs, mine }) => el("dl", {},
      el("dt", {}, `${theirs.name}, theirs (${theirs.state || "unreviewed"})`), el("dd", {}, store.text(theirs) || "no caption"),
      el("dt", {}, `mine (${mine.state || "unreviewed"})`), el("dd", {}, mine.captions.join("\n") || "no caption"))));
    let answer = false;
    const end = (value) => { answer = value; dialog.close(); };
    $("keep-mine").onclick = () => end(true);
    $("keep-theirs").onclick = () => end(false);
    dialog.addEventListener("close", () => resolve(answer), { once: true });
    dialog.showModal();
  });
}

// Keys.
const inGrid = (work) => () => (single.shown() === null ? work() : undefined);
const commands = [
  ["a", "accept, and go to the next photo", () => decide("accepted")],
  ["r", "reject, and go to the next photo", () => decide("rejected")],
  ["c", "make unreviewed again", () => decide("")],
  ["e", "edit the caption", () => { if (single.shown() === null) open(grid.shown()[grid.place()]); setTimeout(() => $("caption").focus()); }],
  ["u", "undo", () => revert(store.undo, "undo")],
  ["y", "redo", () => revert(store.redo, "redo")],
  ["j", "next photo", () => (single.shown() === null ? grid.move(1) : step(1))],
  ["k", "previous photo", () => (single.shown() === null ? grid.move(-1) : step(-1))],
  ["s", "suggestions of the model", () => { if (single.shown() !== null) asking.suggest(); }],
  ["w", "where the model looked for each word", () => { if (single.shown() !== null) asking.look(); }],
  ["f", "find and replace", () => replace.open()],
  ["/", "search", () => { close(); setTimeout(() => $("search").focus()); }],
  ["?", "these keys", () => $("help").showModal()],
];
const always = [
  ["ArrowRight", () => (single.shown() === null ? grid.move(1) : step(1))],
  ["ArrowLeft", () => (single.shown() === null ? grid.move(-1) : step(-1))],
  ["ArrowDown", inGrid(() => grid.move(1, true))],
  ["ArrowUp", inGrid(() => grid.move(-1, true))],
  ["Home", inGrid(() => grid.focus(0))],
  ["End", inGrid(() => grid.focus(grid.shown().length - 1))],
];

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, textarea, select");
  if (event.key === "Escape") {
    if (field) ($("single-view").hidden ? $("main") : $("accept")).focus();
    else if (single.shown() !== null) close();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && field?.id === "caption") {
    event.preventDefault();
    decide("accepted");
    return;
  }
  if (field || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase(), work = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : "";
    if (work) { event.preventDefault(); revert(store[work], work); }
    return;
  }
  const move = always.find(([key]) => key === event.key);
  const command = keysOn && !event.repeat && commands.find(([key]) => key === event.key);
  if (move && (single.shown() !== null || event.target.closest(".tile") || event.target === document.body || event.target === $("main"))) {
    event.preventDefault();
    move[1]();
  } else if (command) {
    event.preventDefault();
    command[2]();
  }
});

$("key-list").replaceChildren(...[
  ...commands.map(([key, what]) => [key, what]),
  ["arrows", "move between photos"], ["Enter", "open the photo"], ["Escape", "leave the field, or the photo"],
  ["Ctrl Enter", "in the caption: accept it"], ["Ctrl Z", "undo; with Shift: redo"],
].map(([key, what]) => el("tr", {}, el("td", { class: "l" }, el("kbd", {}, key)), el("td", { class: "l" }, what))));
$("keys").checked = keysOn;
$("keys").addEventListener("change", () => {
  keysOn = $("keys").checked;
  try { localStorage.setItem("keys", keysOn ? "on" : "off"); } catch { /* private window */ }
});

const clicks = {
  back: close, previous: () => step(-1), next: () => step(1), accept: () => decide("accepted"), reject: () => decide("rejected"),
  clear: () => decide(""), undo: () => revert(store.undo, "undo"), redo: () => revert(store.redo, "redo"),
  "replace-open": replace.open, "help-open": () => $("help").showModal(),
};
for (const [name, work] of Object.entries(clicks)) $(name).addEventListener("click", () => work());
for (const name of ["order", "filter"]) $(name).addEventListener("change", () => { close(); refilter(); });
$("search").addEventListener("input", () => { close(); refilter(); });
$("controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", route);
addEventListener("beforeunload", (event) => { if (store.drafts.size) event.preventDefault(); });

store.onChange((ids) => { grid.refresh(ids); if (ids.includes(single.shown())) single.fill(); count(); });
grid.onOpen(open);
replace.onCommit(commit);
try {
  await store.load();
  Object.assign($("folder"), { textContent: store.facts.folder.split(/[\\/]/).pop(), title: store.facts.folder });
  $("notices").replaceChildren(...store.facts.notices.map((notice) => el("li", {}, notice)));
  $("model").hidden = !store.facts.model;
  refilter();
  route();
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  say(error.message);
}
